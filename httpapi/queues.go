package httpapi

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/orrery-io/orrery/command"
	"github.com/orrery-io/orrery/fsm"
	"github.com/orrery-io/orrery/job"
)

// Queue is a queue with how many jobs it has in each state.
type Queue struct {
	job.Queue
	Counts map[string]int64 `json:"counts" doc:"How many jobs there are in each state; states without any are left out."`
}

// QueueList is all queues, by name.
type QueueList struct {
	Queues []Queue `json:"queues"`
}

func (a *API) queueRoutes() []route {
	one := []answer{{status: http.StatusOK, doc: "The queue as it is now.", body: typeOf[Queue]()}}
	return []route{
		{
			method: http.MethodGet, path: "/v1/queues", id: "listQueues", tag: "queues",
			summary: "List queues with their counts",
			params:  readParams(),
			answers: []answer{{status: http.StatusOK, doc: "All queues, by name.", body: typeOf[QueueList]()}},
			curl:    `$ORRERY/v1/queues`,
			handle:  a.listQueues,
		},
		{
			method: http.MethodGet, path: "/v1/queues/{name}", id: "getQueue", tag: "queues",
			summary: "Get a queue with its counts",
			params:  readParams(),
			answers: one, refusals: []int{http.StatusNotFound},
			curl:   `$ORRERY/v1/queues/default`,
			handle: a.getQueue,
		},
		{
			method: http.MethodPost, path: "/v1/queues/{name}/pause", id: "pauseQueue", tag: "queues",
			summary: "Pause a queue",
			doc:     "Nothing of the queue is given to agents until it is resumed; what runs goes on. The queue need not exist yet.",
			body:    typeOf[Reason](), optional: true,
			answers: one,
			curl:    `$ORRERY/v1/queues/default/pause --json '{"reason":"maintenance"}'`,
			handle:  a.setQueue(true),
		},
		{
			method: http.MethodPost, path: "/v1/queues/{name}/resume", id: "resumeQueue", tag: "queues",
			summary: "Resume a queue",
			answers: one,
			curl:    `-X POST $ORRERY/v1/queues/default/resume`,
			handle:  a.setQueue(false),
		},
	}
}

func showQueue(info *fsm.QueueInfo) Queue {
	q := Queue{Queue: info.Queue, Counts: map[string]int64{}}
	for _, s := range job.States {
		if n := info.Counts[s]; n != 0 {
			q.Counts[s.String()] = n
		}
	}
	return q
}

func (a *API) listQueues(w *response, r *http.Request, q *query) error {
	if _, err := accept(r, typeJSON); err != nil {
		return err
	}
	if err := a.fresh(r.Context(), w, q, false); err != nil {
		return err
	}
	list := QueueList{Queues: []Queue{}}
	for _, info := range a.machine.Queues() {
		list.Queues = append(list.Queues, showQueue(&info))
	}
	return a.reply(w, http.StatusOK, &list)
}

func (a *API) getQueue(w *response, r *http.Request, q *query) error {
	name, err := pathName(r, "name", "a queue")
	if err != nil {
		return err
	}
	if err := a.fresh(r.Context(), w, q, false); err != nil {
		return err
	}
	return a.replyQueue(w, name)
}

func (a *API) replyQueue(w *response, name string) error {
	info, err := a.machine.Queue(name)
	if err != nil {
		if errors.Is(err, job.ErrQueueNotFound) {
			e := *job.ErrQueueNotFound
			e.Message = fmt.Sprintf("there is no queue %q", name)
			return &e
		}
		return err
	}
	return a.reply(w, http.StatusOK, showQueue(&info))
}

func (a *API) setQueue(paused bool) handler {
	return func(w *response, r *http.Request, _ *query) error {
		name, err := pathName(r, "name", "a queue")
		if err != nil {
			return err
		}
		request, err := requestID(r)
		if err != nil {
			return err
		}
		reason := ""
		if paused {
			reason, err = a.readReason(w, r)
		} else {
			err = a.object(w, r, maxSmall, true, nil, func(*decoder, path, string, []byte) {})
		}
		if err != nil {
			return err
		}
		set := &command.SetQueue{Queue: name, Paused: paused, Reason: reason}
		if _, err := a.proposeOne(r.Context(), w, command.Item{RequestID: request, Command: set}); err != nil {
			return err
		}
		return a.replyQueue(w, name)
	}
}
