package httpapi

import (
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/orrery-io/orrery/command"
	"github.com/orrery-io/orrery/job"
)

// Pause is the body of POST …/pause.
type Pause struct {
	Reason string       `json:"reason,omitempty" doc:"Why, in a sentence." maxLength:"500"`
	Until  momentText   `json:"until,omitzero" doc:"When it goes on by itself; without it, and without for, never."`
	For    durationText `json:"for,omitzero" doc:"For how long from now, instead of until."`
}

func (a *API) scheduleActionRoutes() []route {
	refusals := []int{http.StatusNotFound, http.StatusPreconditionFailed}
	return []route{
		{
			method: http.MethodPost, path: "/v1/schedules/preview", id: "previewSchedule", tag: "schedules",
			summary:  "See what a schedule would do, without saving it",
			doc:      "Refuses what PUT refuses.",
			body:     typeOf[Preview](),
			answers:  []answer{{status: http.StatusOK, doc: "In words, with warnings, and the next planned times.", body: typeOf[PreviewAnswer]()}},
			refusals: []int{http.StatusBadRequest},
			curl:     `$ORRERY/v1/schedules/preview --json '{"expressions":"0 0 31 * *","n":3,"template":{"type":"report"}}'`,
			handle:   a.previewSchedule,
		},
		{
			method: http.MethodPost, path: "/v1/schedules/{name}/run", id: "runSchedule", tag: "schedules",
			summary: "Make a job of a schedule now",
			doc:     "Beside the planned ones, whatever the times and the overlap policy are, and also while it is paused. With Prefer: wait=30, or wait=30s, the answer comes when the job has ended.",
			params: []param{
				{name: "wait", kind: "duration", doc: "Wait for the end of the job for up to this long, at most 10m.", example: "30s"},
				{name: "Prefer", in: "header", kind: "string", doc: "wait=30 waits for the end of the job for up to 30 seconds.", example: "wait=30"},
				requestParam(),
			},
			body: typeOf[Reason](), optional: true,
			answers:  []answer{{status: http.StatusCreated, doc: "The job. Location says where it is.", body: typeOf[job.Job]()}},
			refusals: []int{http.StatusNotFound},
			curl:     `-X POST $ORRERY/v1/schedules/nightly/run`,
			handle:   a.runSchedule,
		},
		{
			method: http.MethodPost, path: "/v1/schedules/{name}/pause", id: "pauseSchedule", tag: "schedules",
			summary: "Pause a schedule",
			doc:     "Nothing fires until it is resumed, or until the time that is given. What was planned meanwhile does not fire afterwards; the history says how much that was. Of one that is paused already, reason and end are changed.",
			params:  []param{matchParam(), requestParam()},
			body:    typeOf[Pause](), optional: true,
			answers: oneSchedule("The schedule as it is now."), refusals: refusals,
			curl:   `$ORRERY/v1/schedules/nightly/pause --json '{"reason":"migration","for":"2h"}'`,
			handle: a.pauseSchedule,
		},
		{
			method: http.MethodPost, path: "/v1/schedules/{name}/resume", id: "resumeSchedule", tag: "schedules",
			summary: "Resume a schedule",
			params:  []param{matchParam(), requestParam()},
			answers: oneSchedule("The schedule as it is now."), refusals: refusals,
			curl:   `-X POST $ORRERY/v1/schedules/nightly/resume`,
			handle: a.resumeSchedule,
		},
		{
			method: http.MethodPost, path: "/v1/schedules/{name}/backfill", id: "backfillSchedule", tag: "schedules",
			summary:  "Make the jobs of a range of the past",
			doc:      fmt.Sprintf("One job for each planned time from from up to to, whether it has fired or not, all of them or none; at most %d. The overlap policy does not count.", job.MaxBackfill),
			params:   []param{requestParam()},
			body:     typeOf[Backfill](),
			answers:  []answer{{status: http.StatusOK, doc: "How many, and which jobs.", body: typeOf[BackfillAnswer]()}},
			refusals: []int{http.StatusNotFound, http.StatusUnprocessableEntity},
			curl:     `$ORRERY/v1/schedules/nightly/backfill --json '{"from":"2027-01-01T00:00:00Z","to":"2027-01-08T00:00:00Z","dry_run":true}'`,
			handle:   a.backfill,
		},
	}
}

func (a *API) runSchedule(w *response, r *http.Request, q *query) error {
	name, err := pathName(r, "name", "a schedule")
	if err != nil {
		return err
	}
	wait, prefer := prefersWait(r)
	if d := q.wait("wait"); d > 0 {
		wait, prefer = d, false
	}
	if err := q.err(); err != nil {
		return err
	}
	request, err := requestID(r)
	if err != nil {
		return err
	}
	reason, err := a.readReason(w, r)
	if err != nil {
		return err
	}
	res, err := a.proposeSchedule(r.Context(), w, request, &command.RunSchedule{Schedule: name, Reason: reason})
	if err != nil {
		return unknownSchedule(name, err)
	}
	j, err := a.machine.Job(r.Context(), res.Job)
	if err == nil && wait > 0 {
		j, err = a.awaitEnd(r.Context(), res.Job, wait)
	}
	if err != nil {
		return err
	}
	h := w.Header()
	if prefer {
		h.Set("Preference-Applied", "wait="+strconv.Itoa(int(wait/time.Second)))
	}
	h.Set("Location", "/v1/jobs/"+res.Job.String())
	return a.replyJob(w, http.StatusCreated, j)
}

func (a *API) pauseSchedule(w *response, r *http.Request, _ *query) error {
	c := &command.PauseSchedule{Paused: true}
	now := job.At(time.Now())
	err := a.object(w, r, maxSmall, true, []string{"reason", "until", "for"}, func(d *decoder, p path, name string, value []byte) {
		until := c.Until
		switch name {
		case "reason":
			c.Reason = d.reason(p, value)
			return
		case "until":
			if c.Until = d.moment(p, value); c.Until != 0 && c.Until <= now {
				d.fail("invalid_value", p, "is in the past")
			}
		case "for":
			c.Until = now.Add(d.duration(p, value, false))
		}
		if until != 0 {
			d.fail("invalid_value", p, "give until or for, not both")
		}
	})
	if err != nil {
		return err
	}
	return a.setPaused(w, r, c)
}

// reason reads why somebody does something.
func (d *decoder) reason(p path, value []byte) string {
	text := d.text(p, value)
	if len(text) > maxReason {
		d.fail("out_of_range", p, "is %d bytes long; the limit is %d", len(text), maxReason)
	}
	return text
}

func (a *API) resumeSchedule(w *response, r *http.Request, _ *query) error {
	err := a.object(w, r, maxSmall, true, nil, func(*decoder, path, string, []byte) {})
	if err != nil {
		return err
	}
	return a.setPaused(w, r, &command.PauseSchedule{})
}

func (a *API) setPaused(w *response, r *http.Request, c *command.PauseSchedule) error {
	name, err := a.change(w, r, func(name string, rev uint64) command.Command {
		c.Name, c.Rev = name, rev
		return c
	})
	if err != nil {
		return err
	}
	return a.replySchedule(w, http.StatusOK, name)
}
