package httpapi

import (
	"context"
	"errors"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/orrery-io/orrery/internal/spelling"
	"github.com/orrery-io/orrery/job"
)

// EventList is a page of the feed.
type EventList struct {
	Events []job.Event `json:"events"`
	Next   string      `json:"next" doc:"Where the next page begins: give it as after." example:"1234.0"`
}

func (a *API) eventRoutes() []route {
	return []route{{
		method: http.MethodGet, path: "/v1/events", id: "listEvents", tag: "events",
		summary: "Read or follow the feed of everything that happens",
		doc:     "The order and the ids are the same on every node, so a listener resumes on any of them. With Accept: text/event-stream or application/x-ndjson it is a stream. Without after, a stream that is followed begins with what happens next, and a page with the oldest event that is kept.",
		params: slices.Concat([]param{
			{name: "after", kind: "string", doc: "Begin after this event; oldest or latest.", example: "1234.0"},
			{name: "types", kind: "list", doc: "Only these types; job.* stands for all that begin so.", example: "job.completed,job.failed"},
			{name: "queue", kind: "list", doc: "Only events of jobs of these queues, and of the queues themselves."},
			{name: "job", kind: "list", doc: "Only events of these jobs."},
			{name: "job_type", kind: "list", doc: "Only events of jobs of these types."},
			{name: "schedule", kind: "list", doc: "Only events of these schedules: what their ticks did, and who changed them."},
			{name: "limit", kind: "integer", doc: "How many events a page has at most, 1 to 5000; 100 by default as JSON, all that there are as a stream."},
			{name: "follow", kind: "boolean", doc: "Go on with what happens. By default only as text/event-stream."},
			{name: "Last-Event-ID", in: "header", kind: "string", doc: "The same as after, as an EventSource sends it."},
		}, readParams()),
		answers: []answer{{
			status: http.StatusOK, doc: "The events.", body: typeOf[EventList](),
			media: map[string]string{typeSSE: "One server-sent event each: id, event = its type, data = the event.", typeNDJSON: "One event on each line; empty lines keep the connection alive."},
		}},
		refusals: []int{http.StatusNotFound},
		curl:     `-N -H 'Accept: text/event-stream' "$ORRERY/v1/events?types=job.*"`,
		handle:   a.listEvents,
	}}
}

// eventFilter selects events. The zero eventFilter selects all.
type eventFilter struct {
	types  []bool // by job.EventType; nil is all
	queues []string
	kinds  []string // types of jobs
	plans  []string // schedules
	jobs   []job.ID
}

func (f *eventFilter) keeps(e *job.Event) bool {
	if f.types != nil && (int(e.Type) >= len(f.types) || !f.types[e.Type]) {
		return false
	}
	return (len(f.jobs) == 0 || slices.Contains(f.jobs, e.Job)) &&
		(len(f.queues) == 0 || slices.Contains(f.queues, e.Queue)) &&
		(len(f.kinds) == 0 || slices.Contains(f.kinds, e.JobType)) &&
		(len(f.plans) == 0 || slices.Contains(f.plans, e.Schedule))
}

func (q *query) eventFilter() eventFilter {
	f := eventFilter{queues: q.names("queue"), kinds: q.names("job_type"), plans: q.names("schedule")}
	for _, text := range q.list("job") {
		id, err := strconv.ParseInt(text, 10, 64)
		if err != nil || id <= 0 {
			q.fail("invalid_value", "job", "%q is not a job's id", clip(text))
		}
		f.jobs = append(f.jobs, job.ID(id))
	}
	names := job.EventTypes()
	for _, text := range q.list("types") {
		if f.types == nil {
			f.types = make([]bool, len(names)+1)
		}
		prefix, isPrefix := strings.CutSuffix(text, "*")
		found := false
		for i, n := range names {
			if n == text || isPrefix && strings.HasPrefix(n, prefix) {
				f.types[i+1], found = true, true
			}
		}
		if !found {
			q.fail("invalid_value", "types", "%q is not an event type%s", clip(text), spelling.DidYouMean(text, names))
		}
	}
	return f
}

// eventsAfter reads where to begin.
func (a *API) eventsAfter(r *http.Request, q *query, follow bool) (job.EventID, error) {
	if text := r.Header.Get("Last-Event-ID"); text != "" {
		id, err := job.ParseEventID(text)
		if err != nil {
			return id, headerInvalid("Last-Event-ID", err.Error())
		}
		return id, nil
	}
	text, _ := q.text("after")
	switch text {
	case "latest":
		return a.machine.LastEvent(), nil
	case "oldest":
		return a.machine.FirstEvent(), nil
	case "":
		if follow {
			return a.machine.LastEvent(), nil
		}
		return a.machine.FirstEvent(), nil
	}
	id, err := job.ParseEventID(text)
	if err != nil {
		q.fail("invalid_value", "after", "%v", err)
	}
	return id, nil
}

func (a *API) listEvents(w *response, r *http.Request, q *query) error {
	format, err := accept(r, typeJSON, typeSSE, typeNDJSON)
	if err != nil {
		return err
	}
	follow := q.boolean("follow", format == typeSSE)
	if follow && format == typeJSON {
		q.fail("invalid_value", "follow", "needs Accept: %s or %s", typeSSE, typeNDJSON)
	}
	filter := q.eventFilter()
	limit := int(q.number("limit", 100, 1, 5000))
	_, limited := q.values["limit"]
	if follow && limited {
		q.fail("invalid_value", "limit", "is for pages; a stream that is followed has none")
	}
	if err := a.fresh(r.Context(), w, q, false); err != nil {
		return err
	}
	after, err := a.eventsAfter(r, q, follow)
	if err != nil {
		return err
	}
	if err := q.err(); err != nil {
		return err
	}
	if follow {
		return a.followEvents(w, r, format, after, filter)
	}
	if format == typeJSON {
		list := EventList{Events: []job.Event{}}
		list.Next, err = a.eachEvent(r.Context(), after, filter, limit, func(e *job.Event) error {
			list.Events = append(list.Events, *e)
			return nil
		})
		if err != nil {
			return err
		}
		return a.reply(w, http.StatusOK, &list)
	}
	if !limited {
		limit = math.MaxInt
	}
	return a.storedEvents(w, r, format, after, filter, limit)
}

// storedEvents streams what there is now.
func (a *API) storedEvents(w *response, r *http.Request, format string, after job.EventID, filter eventFilter, limit int) error {
	ctx, stop := a.open(r.Context())
	defer stop()
	// Until the first event, an error can still be a problem.
	var s *stream
	next, err := a.eachEvent(ctx, after, filter, limit, func(e *job.Event) error {
		if s == nil {
			if s = newStream(w, r, format); s == nil {
				return errHeadersOnly
			}
		}
		return s.event(e.ID.String(), e.Type.String(), e)
	})
	switch {
	case errors.Is(err, errHeadersOnly):
		return nil
	case err != nil && s == nil:
		return err
	case err != nil:
		a.fail(ctx, s, err)
		return nil
	case s == nil:
		if s = newStream(w, r, format); s == nil {
			return nil
		}
	}
	if format == typeSSE {
		if err := s.event("", "end", struct {
			Next string `json:"next"`
		}{next}); err != nil {
			return err
		}
	}
	return s.flush()
}

var errHeadersOnly = errors.New("only headers were asked for")

// followEvents streams until the client leaves or the API closes.
func (a *API) followEvents(w *response, r *http.Request, format string, after job.EventID, filter eventFilter) error {
	ctx, stop := a.open(r.Context())
	defer stop()
	sub := a.machine.Subscribe(after)
	s := newStream(w, r, format)
	if s == nil {
		return nil
	}
	s.retry()
	err := a.subscribed(ctx, s, sub, func(e *job.Event) (bool, error) {
		if !filter.keeps(e) {
			return true, nil
		}
		return true, s.event(e.ID.String(), e.Type.String(), e)
	})
	if err != nil {
		a.fail(ctx, s, err)
	}
	return nil
}

// pagePause bounds how long a page waits for an event that its end promises:
// between two ids there may be none.
const pagePause = 250 * time.Millisecond

// eachEvent calls each for up to limit events that there are now, and returns where
// to go on.
func (a *API) eachEvent(ctx context.Context, after job.EventID, filter eventFilter, limit int, each func(*job.Event) error) (place string, err error) {
	end := a.machine.LastEvent()
	sub := a.machine.Subscribe(after)
	for n := 0; after.Less(end); {
		next, cancel := context.WithTimeout(ctx, pagePause)
		events, err := sub.Next(next)
		cancel()
		if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
			break
		}
		if err != nil {
			return "", err
		}
		for i := range events {
			after = events[i].ID
			if !filter.keeps(&events[i]) {
				continue
			}
			if err := each(&events[i]); err != nil {
				return "", err
			}
			if n++; n == limit {
				return eventPlace(after), nil
			}
		}
	}
	return eventPlace(after), nil
}

// eventPlace writes an id; one that is behind all events of its entry as the
// entry's index alone, which ParseEventID takes for just that.
func eventPlace(id job.EventID) string {
	if id.N == math.MaxUint32 {
		return strconv.FormatUint(id.Index, 10)
	}
	return id.String()
}
