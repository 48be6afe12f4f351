package httpapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/orrery-io/orrery/job"
	"github.com/orrery-io/orrery/scheduler"
)

// Schedule is a schedule: its definition, where it stands, and what that means.
type Schedule struct {
	job.Schedule
	// State is a word of scheduleStates.
	State string `json:"state" doc:"active; paused; or ended, when no tick is left." enum:"active,paused,ended"`
	// NextAt takes the place of the row's, which doesn't know of pauses.
	NextAt job.Time `json:"next_at,omitempty,omitzero" doc:"The planned time of the next tick; absent when there is none, and while it is paused without an end."`
	// Summary is empty when this version cannot read the expressions.
	Summary  string   `json:"summary" doc:"When it fires, in plain words."`
	Warnings []string `json:"warnings,omitempty" doc:"What you should know before you rely on it. Lists leave it out."`
}

func (a *API) scheduleRoutes() []route {
	return slices.Concat(a.scheduleReadRoutes(), a.scheduleWriteRoutes(), a.scheduleActionRoutes())
}

// matchParam is the header by which only a certain revision is changed.
func matchParam() param {
	return param{name: "If-Match", in: "header", kind: "string", doc: "Only when the schedule has this revision, as in the ETag of an answer; * means any.", example: `"1234"`}
}

// requestParam is the header that makes a repeated request happen once.
func requestParam() param {
	return param{name: "Orrery-Request-Id", in: "header", kind: "string", doc: "A request that is repeated with the same id gets the first one's answer instead of happening twice. Up to 100 characters."}
}

func oneSchedule(doc string) []answer {
	return []answer{{status: http.StatusOK, doc: doc, body: typeOf[Schedule]()}}
}

func (a *API) scheduleWriteRoutes() []route {
	put := []answer{
		{status: http.StatusOK, doc: "It was there and is now as the body says. ETag has its revision.", body: typeOf[Schedule]()},
		{status: http.StatusCreated, doc: "It was made.", body: typeOf[Schedule]()},
	}
	refusals := []int{http.StatusBadRequest, http.StatusPreconditionFailed, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType}
	return []route{
		{
			method: http.MethodPut, path: "/v1/schedules/{name}", id: "putSchedule", tag: "schedules",
			summary: "Create or replace a schedule",
			doc:     "What the body leaves out gets its default. A pause and the history stay. When the times change, it starts counting from now on; a body that is what is there already changes nothing.",
			params: []param{
				matchParam(),
				{name: "If-None-Match", in: "header", kind: "string", doc: "* creates only: a schedule that is there already is left as it is.", values: []string{"*"}},
				requestParam(),
			},
			body: typeOf[ScheduleBody](), answers: put, refusals: refusals,
			curl:   `-X PUT $ORRERY/v1/schedules/nightly --json '{"expressions":"0 3 * * *","timezone":"Europe/Berlin","template":{"type":"report"}}'`,
			handle: a.putSchedule,
		},
		{
			method: http.MethodPatch, path: "/v1/schedules/{name}", id: "patchSchedule", tag: "schedules",
			summary: "Change some fields of a schedule",
			doc:     "A JSON merge patch (RFC 7396) on the body of PUT: what is named changes, null takes it away.",
			params:  []param{matchParam(), requestParam()},
			body:    typeOf[schedulePatch](), bodyTypes: []string{typeMergePatch, typeJSON},
			answers: oneSchedule("The schedule as it is now."), refusals: append([]int{http.StatusNotFound}, refusals...),
			curl:   `-X PATCH $ORRERY/v1/schedules/nightly --json '{"overlap":"skip"}'`,
			handle: a.patchSchedule,
		},
		{
			method: http.MethodDelete, path: "/v1/schedules/{name}", id: "deleteSchedule", tag: "schedules",
			summary: "Delete a schedule with its history",
			doc:     "Jobs that it made stay and go on.",
			params:  []param{matchParam(), requestParam()},
			answers: []answer{{status: http.StatusNoContent, doc: "It is gone."}}, refusals: []int{http.StatusNotFound, http.StatusPreconditionFailed},
			curl:   `-X DELETE $ORRERY/v1/schedules/nightly`,
			handle: a.deleteSchedule,
		},
	}
}

// scheduleStates are the words for where a schedule stands.
func scheduleStates() []string { return []string{"active", "paused", "ended"} }

func scheduleState(row *job.Schedule) string {
	switch {
	case row.Paused:
		return "paused"
	case row.Next == 0 && row.Queued == 0:
		return "ended"
	}
	return "active"
}

// show makes the public form of a row. With warn it says what to look out for.
func (a *API) show(row *job.Schedule, now job.Time, warn bool) *Schedule {
	s := &Schedule{Schedule: *row, State: scheduleState(row), NextAt: row.Next}
	rule, err := ruleOf(row)
	if err != nil {
		// It was recorded by a version that could read it.
		s.Warnings = []string{"this version of Orrery cannot read when it fires: " + err.Error()}
		return s
	}
	s.Summary = rule.Describe()
	switch {
	case !row.Paused:
	case row.PausedUntil == 0:
		s.NextAt = 0
	default:
		s.NextAt = scheduler.NextTick(rule, max(row.PausedUntil, row.Cursor))
	}
	if warn {
		s.Warnings = a.warnings(rule, &row.ScheduleSpec, now)
	}
	return s
}

// replySchedule answers with a schedule as it is now.
func (a *API) replySchedule(w *response, status int, name string) error {
	row, err := a.machine.Schedule(name)
	if err != nil {
		return unknownSchedule(name, err)
	}
	// The row is not newer than what is applied now.
	applied, _ := a.machine.Applied()
	w.coversAtLeast(applied)
	w.Header().Set("ETag", etag(row.Rev))
	return a.reply(w, status, a.show(row, job.At(time.Now()), true))
}

// scheduleNow returns a schedule as this node knows it. That there is none is said
// only after the leader was asked how far the log has come.
func (a *API) scheduleNow(ctx context.Context, name string) (*job.Schedule, error) {
	row, err := a.machine.Schedule(name)
	if !errors.Is(err, job.ErrScheduleNotFound) {
		return row, err
	}
	if err := a.caughtUp(ctx); err != nil {
		return nil, err
	}
	row, err = a.machine.Schedule(name)
	return row, unknownSchedule(name, err)
}

// caughtUp makes sure that this node knows everything that was acknowledged anywhere.
func (a *API) caughtUp(ctx context.Context) error {
	limit, cancel := context.WithTimeout(ctx, catchUpTime)
	defer cancel()
	_, err := a.node.ReadIndex(limit)
	return err
}

// unknownSchedule says which schedule it is that does not exist.
func unknownSchedule(name string, err error) error {
	if errors.Is(err, job.ErrScheduleNotFound) {
		e := *job.ErrScheduleNotFound
		e.Message = fmt.Sprintf("there is no schedule %q", name)
		return &e
	}
	return err
}

// definition makes the definition of a schedule from what it is, nil when there is
// none.
type definition func(old *job.Schedule) (*job.ScheduleSpec, error)

func (a *API) putSchedule(w *response, r *http.Request, _ *query) error {
	spec, err := a.readSchedule(w, r)
	if err != nil {
		return err
	}
	return a.setSchedule(w, r, func(*job.Schedule) (*job.ScheduleSpec, error) { return spec, nil })
}

// maxTries is how often a change is made anew because somebody else was faster.
const maxTries = 10

// setSchedule records a definition and answers with it.
func (a *API) setSchedule(w *response, r *http.Request, make definition) error {
	name, err := pathName(r, "name", "a schedule")
	if err != nil {
		return err
	}
	request, err := requestID(r)
	if err != nil {
		return err
	}
	when, err := readCondition(r)
	if err != nil {
		return err
	}
	for try := range maxTries {
		old, err := a.meant(r.Context(), name, when)
		if err != nil {
			return err
		}
		spec, err := make(old)
		if err != nil {
			return err
		}
		if old != nil && sameSpec(&old.ScheduleSpec, spec) {
			// What is there is asked of the leader: this node may be behind.
			if err := a.caughtUp(r.Context()); err != nil {
				return err
			}
			if row, err := a.machine.Schedule(name); err == nil && row.Rev == old.Rev {
				return a.replySchedule(w, http.StatusOK, name)
			}
			continue
		}
		done, err := a.tryToSet(w, r, name, old, spec, again(request, try))
		if done || err != nil {
			return err
		}
	}
	return job.Errorf(job.Conflict, "revision_conflict", "schedule %s is being changed by others all the time", name).WithHint("try again")
}

// tryToSet proposes a definition made from old, and answers. It returns false when
// the schedule was changed meanwhile.
func (a *API) tryToSet(w *response, r *http.Request, name string, old *job.Schedule, spec *job.ScheduleSpec, request string) (bool, error) {
	c, err := setCommand(name, old, spec, job.At(time.Now()))
	if err != nil {
		return true, err
	}
	res, err := a.proposeSchedule(r.Context(), w, request, c)
	switch {
	case isConflict(err), old != nil && errors.Is(err, job.ErrScheduleNotFound):
		return false, a.machine.WaitApplied(r.Context(), res.Index)
	case err != nil:
		return true, err
	}
	status := http.StatusOK
	if !res.Existing {
		status = http.StatusCreated
		w.Header().Set("Location", schedulePath(name))
	}
	return true, a.replySchedule(w, status, name)
}
