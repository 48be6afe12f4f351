package httpapi

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/orrery-io/orrery/fsm"
	"github.com/orrery-io/orrery/job"
)

// LogLine is one line of a job's log.
type LogLine struct {
	Attempt int       `json:"attempt" doc:"Which attempt logged it."`
	Fence   job.Fence `json:"fence"`
	job.LogLine
}

// String is the line in plain text.
func (l LogLine) String() string {
	return fmt.Sprintf("%s %-6s %s", l.Time, l.Level, oneLine(l.Text))
}

// LogCut says what of an attempt's log is not kept, because it was longer than what
// is kept of one: beginning and end are.
type LogCut struct {
	Attempt int   `json:"attempt"`
	Lines   int64 `json:"lines" doc:"How many lines are missing."`
	Bytes   int64 `json:"bytes" doc:"How long they were."`
	After   int64 `json:"after" doc:"The number of the last line before the gap."`
}

// JobLog is a part of a job's log.
type JobLog struct {
	Job       job.ID    `json:"job"`
	Attempt   int       `json:"attempt" doc:"Which attempt the lines are of; 0 when there was none yet."`
	State     job.State `json:"state" doc:"Where the job stands."`
	Lines     []LogLine `json:"lines" doc:"In order."`
	Cut       *LogCut   `json:"cut,omitempty" doc:"What is not kept."`
	NextAfter int64     `json:"next_after,omitempty" doc:"There is more: give it as after, together with attempt."`
}

// JobEvents is what happened to a job.
type JobEvents struct {
	Events []job.Event `json:"events" doc:"Oldest first. Those that the feed no longer keeps are missing."`
}

func (a *API) historyRoutes() []route {
	follow := param{name: "follow", kind: "boolean", doc: "Go on until the job ends. By default only as text/event-stream."}
	resume := param{name: "Last-Event-ID", in: "header", kind: "string", doc: "Where a stream of server-sent events goes on."}
	return []route{
		{
			method: http.MethodGet, path: "/v1/jobs/{id}/logs", id: "getJobLogs", tag: "jobs",
			summary: "Read or follow what a job logs",
			doc:     "Lines are shown live and kept, up to a bound for each attempt. Followed, the stream goes on through all attempts to come until the job ends.",
			params: slices.Concat([]param{
				{name: "attempt", kind: "integer", doc: "Which attempt; the newest by default."},
				{name: "tail", kind: "integer", doc: "Begin so many lines before the end."},
				{name: "after", kind: "integer", doc: "Begin after the line with this number."},
				{name: "limit", kind: "integer", def: 1000, doc: "How many lines at most, 1 to 10000."},
				follow, resume,
			}, readParams()),
			answers: []answer{{
				status: http.StatusOK, doc: "The lines.", body: typeOf[JobLog](),
				media: map[string]string{
					typeSSE:    "Events: log (data = a line), progress, cut, and last end (data = job and state).",
					typeNDJSON: "One line of the log on each line.",
					typeText:   "Time, level and text on each line.",
				},
			}},
			refusals: []int{http.StatusNotFound},
			curl:     `-N -H 'Accept: text/plain' "$ORRERY/v1/jobs/42/logs?follow=true"`,
			handle:   a.getLogs,
		},
		{
			method: http.MethodGet, path: "/v1/jobs/{id}/events", id: "getJobEvents", tag: "jobs",
			summary: "Read or follow what happens to a job",
			params:  slices.Concat([]param{follow, resume}, readParams()),
			answers: []answer{{
				status: http.StatusOK, doc: "The events.", body: typeOf[JobEvents](),
				media: map[string]string{
					typeSSE:    "One server-sent event each, and last end (data = job and state).",
					typeNDJSON: "One event on each line.",
				},
			}},
			refusals: []int{http.StatusNotFound},
			curl:     `$ORRERY/v1/jobs/42/events`,
			handle:   a.getJobEvents,
		},
	}
}

// ended is the last event of a stream that follows a job.
type ended struct {
	Job   job.ID    `json:"job"`
	State job.State `json:"state"`
}

// maxLines bounds the lines of one answer.
const maxLines = 10_000

// logRequest is which lines are asked for.
type logRequest struct {
	id      job.ID
	attempt int
	after   int64
	tail    int
	limit   int
	// only means that the attempts after it are not followed.
	only bool
}

func (a *API) getLogs(w *response, r *http.Request, q *query) error {
	id, err := pathID(r)
	if err != nil {
		return err
	}
	format, err := accept(r, typeJSON, typeSSE, typeNDJSON, typeText)
	if err != nil {
		return err
	}
	req := logRequest{
		id:      id,
		attempt: int(q.number("attempt", 0, 1, math.MaxInt32)),
		after:   q.number("after", 0, 0, math.MaxInt64),
		tail:    int(q.number("tail", 0, 1, maxLines)),
		limit:   int(q.number("limit", 1000, 1, maxLines)),
	}
	req.only = req.attempt != 0
	follow := q.boolean("follow", format == typeSSE)
	if follow && format == typeJSON {
		q.fail("invalid_value", "follow", "needs Accept: %s, %s or %s", typeSSE, typeNDJSON, typeText)
	}
	if _, ok := q.values["limit"]; ok && follow {
		q.fail("invalid_value", "limit", "is for pages; a stream that is followed has none")
	}
	if text := r.Header.Get("Last-Event-ID"); text != "" {
		attempt, after, err := parseLineID(text)
		if err != nil {
			return err
		}
		if req.only && attempt != req.attempt {
			return headerInvalid("Last-Event-ID", "is of another attempt than the one asked for")
		}
		req.attempt, req.after, req.tail = attempt, after, 0
	}
	if err := q.err(); err != nil {
		return err
	}
	if err := a.fresh(r.Context(), w, q, false); err != nil {
		return err
	}
	j, err := a.jobNow(r.Context(), id)
	if err != nil {
		return unknownJob(id, err)
	}
	if req.attempt > j.Attempt() {
		return job.Errorf(job.NotFound, "attempt_not_found", "job %d has no attempt %d; it had %d", id, req.attempt, j.Attempt())
	}
	if follow {
		return a.followLog(w, r, format, req)
	}
	page, err := a.logPage(r.Context(), j, req)
	if err != nil {
		return err
	}
	if format == typeJSON {
		return a.reply(w, http.StatusOK, page)
	}
	s := newStream(w, r, format)
	if s == nil {
		return nil
	}
	for _, l := range page.Lines {
		if err := s.event(lineID(l), "log", l); err != nil {
			return err
		}
	}
	if format == typeSSE {
		if err := s.event("", "end", ended{id, j.State}); err != nil {
			return err
		}
	}
	return s.flush()
}

// lineID is the id of a line in a stream: "attempt.seq".
func lineID(l LogLine) string {
	return strconv.Itoa(l.Attempt) + "." + strconv.FormatInt(l.Seq, 10)
}

func parseLineID(text string) (attempt int, seq int64, err error) {
	before, after, _ := strings.Cut(text, ".")
	attempt, err1 := strconv.Atoi(before)
	seq, err2 := strconv.ParseInt(after, 10, 64)
	if err1 != nil || err2 != nil || attempt < 0 || seq < 0 {
		return 0, 0, headerInvalid("Last-Event-ID", "is not an id of this stream, such as 1.42")
	}
	return attempt, seq, nil
}

// getJobEvents answers with what happened to a job, and goes on until it ends when
// asked to.
func (a *API) getJobEvents(w *response, r *http.Request, q *query) error {
	id, err := pathID(r)
	if err != nil {
		return err
	}
	format, err := accept(r, typeJSON, typeSSE, typeNDJSON)
	if err != nil {
		return err
	}
	follow := q.boolean("follow", format == typeSSE)
	if follow && format == typeJSON {
		q.fail("invalid_value", "follow", "needs Accept: %s or %s", typeSSE, typeNDJSON)
	}
	if err := q.err(); err != nil {
		return err
	}
	var last job.EventID
	if text := r.Header.Get("Last-Event-ID"); text != "" {
		if last, err = job.ParseEventID(text); err != nil {
			return headerInvalid("Last-Event-ID", err.Error())
		}
	}
	if err := a.fresh(r.Context(), w, q, false); err != nil {
		return err
	}
	if _, err := a.jobNow(r.Context(), id); err != nil {
		return unknownJob(id, err)
	}
	events, err := a.machine.JobEvents(r.Context(), id)
	if err != nil {
		return unknownJob(id, err)
	}
	if format == typeJSON {
		return a.reply(w, http.StatusOK, &JobEvents{Events: slices.Concat([]job.Event{}, events)})
	}
	ctx, stop := a.open(r.Context())
	defer stop()
	s := newStream(w, r, format)
	if s == nil {
		return nil
	}
	s.retry()
	if err := a.streamJobEvents(ctx, s, id, last, follow); err != nil {
		a.fail(ctx, s, err)
	}
	return nil
}

func (a *API) streamJobEvents(ctx context.Context, s *stream, id job.ID, last job.EventID, follow bool) error {
	watch := a.watchers.watch(id, false)
	defer watch.close()
	alive := newTicker()
	defer alive.Stop()
	for {
		// The state is looked at first: events of what comes after it are at worst
		// sent before it is shown.
		j, err := a.machine.Job(ctx, id)
		if errors.Is(err, job.ErrJobNotFound) {
			return s.flush() // deleted meanwhile
		}
		if err != nil {
			return err
		}
		events, err := a.machine.JobEvents(ctx, id)
		if err != nil && !errors.Is(err, job.ErrJobNotFound) {
			return err
		}
		for i := range events {
			e := &events[i]
			if !last.Less(e.ID) {
				continue
			}
			last = e.ID
			if err := s.event(e.ID.String(), e.Type.String(), e); err != nil {
				return err
			}
		}
		if j.State.Terminal() || !follow {
			if s.format == typeSSE {
				if err := s.event("", "end", ended{id, j.State}); err != nil {
					return err
				}
			}
			return s.flush()
		}
		if err := s.flush(); err != nil {
			return err
		}
		if more, err := pauseStream(ctx, s, watch.wake, alive.C, last.String()); !more || err != nil {
			return err
		}
	}
}

// logPage reads kept lines of one attempt of a job.
func (a *API) logPage(ctx context.Context, j *job.Job, req logRequest) (*JobLog, error) {
	page := &JobLog{Job: j.ID, Attempt: req.attempt, State: j.State, Lines: []LogLine{}}
	if page.Attempt == 0 {
		page.Attempt = j.Attempt()
	}
	if page.Attempt == 0 {
		return page, nil
	}
	rows, err := a.machine.JobLog(ctx, j.ID, fsm.LogQuery{
		Attempt: page.Attempt, After: req.after, Tail: req.tail, Limit: req.limit + 1,
	})
	if err != nil {
		return nil, err
	}
	if len(rows) > req.limit {
		rows = rows[:req.limit]
		page.NextAfter = rows[req.limit-1].Seq
	}
	for i := range rows {
		row := &rows[i]
		if row.CutLines > 0 {
			page.Cut = &LogCut{Attempt: row.Attempt, Lines: row.CutLines, Bytes: row.CutBytes, After: row.Seq - row.CutLines - 1}
		}
		page.Lines = append(page.Lines, LogLine{Attempt: row.Attempt, Fence: row.Fence, LogLine: row.LogLine})
	}
	return page, nil
}
