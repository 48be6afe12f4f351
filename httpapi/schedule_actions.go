package httpapi

import (
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/orrery-io/orrery/command"
	"github.com/orrery-io/orrery/cron"
	"github.com/orrery-io/orrery/job"
)

// Pause is the body of POST …/pause.
type Pause struct {
	Reason string       `json:"reason,omitempty" doc:"Why, in a sentence." maxLength:"500"`
	Until  momentText   `json:"until,omitzero" doc:"When it goes on by itself; without it, and without for, never."`
	For    durationText `json:"for,omitzero" doc:"For how long from now, instead of until."`
}

// Backfill is the body of POST …/backfill.
type Backfill struct {
	From   momentText `json:"from" doc:"The first planned time that counts."`
	To     momentText `json:"to,omitzero" doc:"Up to here, itself not included; now by default, and not later."`
	Reason string     `json:"reason,omitempty" doc:"Why, in a sentence." maxLength:"500"`
	DryRun bool       `json:"dry_run,omitempty" doc:"Only count."`
}

// BackfillAnswer says what a backfill did.
type BackfillAnswer struct {
	Count  int      `json:"count" doc:"How many planned times there are in the range."`
	First  job.Time `json:"first,omitempty,omitzero" doc:"The first of them."`
	Last   job.Time `json:"last,omitempty,omitzero" doc:"The last of them."`
	Jobs   []job.ID `json:"jobs" doc:"The jobs that were made, in the order of the planned times."`
	DryRun bool     `json:"dry_run,omitempty" doc:"Nothing was made."`
}

// Preview is the body of POST /v1/schedules/preview.
type Preview struct {
	ScheduleBody
	Name string     `json:"name,omitempty" doc:"What it will be called: hashed expressions and jitter depend on it." maxLength:"200"`
	N    int        `json:"n,omitempty" doc:"How many planned times at most." minimum:"1" maximum:"1000" default:"10"`
	From momentText `json:"from,omitzero" doc:"Begin at this time instead of now."`
}

// PreviewAnswer says what a schedule would do.
type PreviewAnswer struct {
	Summary  string        `json:"summary" doc:"When it would fire, in plain words."`
	Plain    []string      `json:"plain" doc:"The expressions with numbers for names, and in place of H what it stands for."`
	Warnings []string      `json:"warnings" doc:"What you should know before you rely on it."`
	Next     []PlannedTime `json:"next" doc:"In order. Fewer than were asked for means that there are no more."`
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
	name, _, err := a.change(w, r, func(name string, rev uint64) command.Command {
		c.Name, c.Rev = name, rev
		return c
	})
	if err != nil {
		return err
	}
	return a.replySchedule(w, http.StatusOK, name)
}

// previewFields are those of a preview that a schedule has not.
func previewFields() []string { return []string{"name", "n", "from"} }

func (a *API) previewSchedule(w *response, r *http.Request, _ *query) error {
	if _, err := contentType(r, typeJSON); err != nil {
		return err
	}
	b, err := a.read(w, r, maxSubmission)
	if err != nil {
		return err
	}
	defer a.buffers.put(b)
	if f := checkJSON("the body", b.Bytes()); f != nil {
		return f
	}
	p, err := decodePreview(b.Bytes())
	if err != nil {
		return err
	}
	now := job.At(time.Now())
	anchor := now - now%job.Time(job.Second)
	if row, err := a.machine.Schedule(p.name); err == nil {
		anchor = row.Anchor // what PUT would keep
	}
	rule, err := ruleOf(&job.Schedule{Name: p.name, Anchor: anchor, ScheduleSpec: *p.spec})
	if err != nil {
		return err
	}
	after := now
	if p.from != 0 {
		after = p.from - 1 // a tick at this very time counts
	}
	ans := PreviewAnswer{Summary: rule.Describe(), Plain: rule.Expressions(), Warnings: a.warnings(rule, p.spec, now)}
	if ans.Warnings == nil {
		ans.Warnings = []string{}
	}
	ans.Next = planned(rule, p.name, p.spec, after.Time(), p.n)
	return a.reply(w, http.StatusOK, &ans)
}

// preview is a decoded body.
type preview struct {
	spec *job.ScheduleSpec
	name string
	n    int
	from job.Time
}

func decodePreview(raw []byte) (*preview, error) {
	p := &preview{n: 10}
	var err error
	p.spec, err = decodeScheduleWith(raw, previewFields(), func(d *decoder, at path, value []byte) {
		switch at.name {
		case "name":
			p.name = d.text(at, value)
			if detail := job.CheckName(p.name); detail != "" && value[0] == '"' {
				d.fail("invalid_value", at, "%s", detail)
			}
		case "n":
			p.n = int(d.number(at, value, 1, maxNext))
		case "from":
			p.from = d.moment(at, value)
		}
	})
	return p, err
}

const (
	// maxBackfillBytes bounds the payloads that one backfill copies.
	maxBackfillBytes = 64 << 20
	// maxTicksCounted is how far the ticks of a range that is too long are counted.
	maxTicksCounted = 1_000_000
)

func (a *API) backfill(w *response, r *http.Request, _ *query) error {
	name, err := pathName(r, "name", "a schedule")
	if err != nil {
		return err
	}
	request, err := requestID(r)
	if err != nil {
		return err
	}
	b, err := a.readBackfill(w, r)
	if err != nil {
		return err
	}
	// The times are those of the definition that everybody knows of.
	if err := a.caughtUp(r.Context()); err != nil {
		return err
	}
	row, err := a.machine.Schedule(name)
	if err != nil {
		return unknownSchedule(name, err)
	}
	rule, err := ruleOf(row)
	if err != nil {
		return err
	}
	most := job.MaxBackfill
	if size := len(row.Template.Payload) + len(row.Template.PayloadBytes); size > 0 {
		most = min(most, max(1, maxBackfillBytes/size))
	}
	times, err := plannedBetween(rule, b.from, b.to, most)
	if err != nil {
		return err
	}
	ans := BackfillAnswer{Count: len(times), Jobs: []job.ID{}, DryRun: b.dryRun}
	if len(times) > 0 {
		ans.First, ans.Last = times[0], times[len(times)-1]
	}
	if !b.dryRun && len(times) > 0 {
		res, err := a.proposeSchedule(r.Context(), w, request, &command.RunSchedule{Schedule: name, Times: times, Reason: b.reason})
		if err != nil {
			return unknownSchedule(name, err)
		}
		ans.Jobs = res.Jobs
	}
	return a.reply(w, http.StatusOK, &ans)
}

// backfillRange is a decoded body.
type backfillRange struct {
	from, to job.Time
	reason   string
	dryRun   bool
}

func (a *API) readBackfill(w *response, r *http.Request) (*backfillRange, error) {
	now := job.At(time.Now())
	b := &backfillRange{to: now}
	names := []string{"from", "to", "reason", "dry_run"}
	err := a.object(w, r, maxSmall, false, names, func(d *decoder, p path, name string, value []byte) {
		switch name {
		case "from":
			b.from = d.moment(p, value)
		case "to":
			if b.to = d.moment(p, value); b.to > now {
				d.fail("invalid_value", p, "is in the future; what is planned then fires by itself")
			}
		case "reason":
			b.reason = d.reason(p, value)
		case "dry_run":
			b.dryRun = d.boolean(p, value)
		}
	})
	switch {
	case err != nil:
		return nil, err
	case b.from == 0:
		return nil, invalidFields("missing_field", []job.FieldError{{Pointer: "/from", Detail: "is required: the first planned time that counts"}})
	case b.from >= b.to:
		return nil, invalidFields("invalid_value", []job.FieldError{{Pointer: "/from", Detail: "must be before to, which is " + b.to.String()}})
	}
	return b, nil
}

// plannedBetween returns the planned times from one moment up to another, itself not
// included. More than most of them are refused.
func plannedBetween(rule *cron.Rule, from, to job.Time, most int) ([]job.Time, error) {
	var times []job.Time
	n := 0
	var over job.Time // the first one too many
	for t := next(rule, from-1); t != 0 && t < to && n <= maxTicksCounted; t = next(rule, t) {
		switch {
		case n < most:
			times = append(times, t)
		case n == most:
			over = t
		}
		n++
	}
	if over == 0 {
		return times, nil
	}
	count := strconv.Itoa(n)
	if n > maxTicksCounted {
		count = "more than " + strconv.Itoa(maxTicksCounted)
	}
	return nil, &fault{
		public: job.Errorf(job.Invalid, "too_many_ticks", "there are %s planned times in this range; one backfill makes at most %d jobs of this schedule", count, most).
			WithHint("divide the range: with \"to\": %q it has %d, and the next one begins there", over, most),
		status: http.StatusUnprocessableEntity,
	}
}
