package httpapi

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/orrery-io/orrery/command"
	"github.com/orrery-io/orrery/job"
	"github.com/orrery-io/orrery/scheduler"
)

func schedulePath(name string) string { return "/v1/schedules/" + url.PathEscape(name) }

// again is the request id of a further try: the state machine remembers the refusal
// of the one before under its own.
func again(request string, try int) string {
	if request == "" || try == 0 {
		return request
	}
	return request + "/" + strconv.Itoa(try)
}

// setCommand makes the command that gives a schedule a definition, with now as the
// moment from which a new one, or one with other times, counts.
func setCommand(name string, old *job.Schedule, spec *job.ScheduleSpec, now job.Time) (*command.SetSchedule, error) {
	c := &command.SetSchedule{Name: name, Spec: *spec, Anchor: now - now%job.Time(job.Second)}
	if old != nil {
		c.Rev, c.Anchor = old.Rev, old.Anchor
	}
	rule, err := ruleOf(&job.Schedule{Name: name, Anchor: c.Anchor, ScheduleSpec: *spec})
	if err != nil {
		return nil, err
	}
	if old == nil || !old.SameTimes(spec) {
		c.Cursor = now
		if old != nil {
			c.Cursor = max(now, old.Cursor)
		}
		c.Next = scheduler.NextTick(rule, c.Cursor)
	}
	return c, nil
}

// sameSpec reports whether two definitions are the same.
func sameSpec(a, b *job.ScheduleSpec) bool {
	x, err1 := a.MarshalMsg(nil)
	y, err2 := b.MarshalMsg(nil)
	// Definitions are encoded without maps, so equal ones have equal encodings.
	return err1 == nil && err2 == nil && bytes.Equal(x, y)
}

// proposeSchedule records a command about a schedule. On a refusal the result still
// tells at which index.
func (a *API) proposeSchedule(ctx context.Context, w *response, request string, c command.Command) (command.Result, error) {
	return a.proposeOne(ctx, w, command.Item{RequestID: request, Command: c})
}

func isConflict(err error) bool {
	return errors.Is(err, &job.Error{Kind: job.Conflict, Code: "revision_conflict"})
}

// condition is what must be true of a schedule for a request to change it: the headers
// If-Match and If-None-Match (RFC 9110, 13.1). The zero condition always is.
type condition struct {
	// rev is the revision it must have; zero means any.
	rev uint64
	// exists and absent are from a *.
	exists, absent bool
}

func readCondition(r *http.Request) (condition, error) {
	var c condition
	match, none := r.Header.Values("If-Match"), r.Header.Values("If-None-Match")
	switch {
	case len(match) > 0 && len(none) > 0:
		return c, headerInvalid("If-None-Match", "cannot go with If-Match")
	case len(none) > 0:
		if c.absent = len(none) == 1 && strings.TrimSpace(none[0]) == "*"; !c.absent {
			return c, headerInvalid("If-None-Match", "must be *, which means: only when there is none yet")
		}
	case len(match) > 0:
		text := strings.TrimSpace(match[0])
		if c.exists = len(match) == 1 && text == "*"; c.exists {
			return c, nil
		}
		rev, err := strconv.ParseUint(strings.Trim(text, `"`), 10, 64)
		if err != nil || rev == 0 || len(match) > 1 || text != etag(rev) {
			return c, headerInvalid("If-Match", `must be * or one revision as in an ETag, such as "1234" with its quotes`)
		}
		c.rev, c.exists = rev, true
	}
	return c, nil
}

// etag is the entity tag of a revision.
func etag(rev uint64) string { return `"` + strconv.FormatUint(rev, 10) + `"` }

func (c condition) holds(row *job.Schedule) bool {
	switch {
	case row == nil:
		return !c.exists
	case c.rev != 0 && c.rev != row.Rev:
		return false
	}
	return !c.absent
}

func (c condition) broken(name string, row *job.Schedule) error {
	var e *job.Error
	switch {
	case row == nil:
		e = job.Errorf(job.Conflict, "precondition_failed", "there is no schedule %q", name).WithHint("leave If-Match out to create it")
	case c.absent:
		e = job.Errorf(job.Conflict, "precondition_failed", "schedule %s is there already", name).WithHint("leave If-None-Match out to replace it")
	default:
		e = job.Errorf(job.Conflict, "precondition_failed", "schedule %s was changed meanwhile: its revision is %d, not %d", name, row.Rev, c.rev).
			WithHint("read it again, and repeat your change on what it is now")
	}
	return &fault{public: e, status: http.StatusPreconditionFailed}
}

// meant returns the schedule that a condition is about, nil when there is none and
// there need not be. A broken condition is said only after the leader was asked.
func (a *API) meant(ctx context.Context, name string, when condition) (*job.Schedule, error) {
	for asked := false; ; asked = true {
		row, err := a.machine.Schedule(name)
		if err != nil && !errors.Is(err, job.ErrScheduleNotFound) {
			return nil, err
		}
		if when.holds(row) {
			return row, nil
		}
		if asked {
			return nil, when.broken(name, row)
		}
		if err := a.caughtUp(ctx); err != nil {
			return nil, err
		}
	}
}

// change proposes a command about a schedule that is there, for the revision that the
// request names, and returns the schedule's name.
func (a *API) change(w *response, r *http.Request, make func(name string, rev uint64) command.Command) (string, error) {
	name, err := pathName(r, "name", "a schedule")
	if err != nil {
		return "", err
	}
	request, err := requestID(r)
	if err != nil {
		return "", err
	}
	when, err := readCondition(r)
	if err != nil {
		return "", err
	}
	if when.absent {
		return "", headerInvalid("If-None-Match", "makes no sense here")
	}
	res, err := a.proposeSchedule(r.Context(), w, request, make(name, when.rev))
	if !isConflict(err) {
		return name, unknownSchedule(name, err)
	}
	if err := a.machine.WaitApplied(r.Context(), res.Index); err != nil {
		return "", err
	}
	row, err := a.machine.Schedule(name)
	if err != nil {
		return "", unknownSchedule(name, err)
	}
	return "", when.broken(name, row)
}

func (a *API) deleteSchedule(w *response, r *http.Request, _ *query) error {
	err := a.object(w, r, maxSmall, true, nil, func(*decoder, path, string, []byte) {})
	if err != nil {
		return err
	}
	_, err = a.change(w, r, func(name string, rev uint64) command.Command {
		return &command.DeleteSchedule{Name: name, Rev: rev}
	})
	if err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}
