package httpapi

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/orrery-io/orrery/command"
	"github.com/orrery-io/orrery/fsm"
	"github.com/orrery-io/orrery/internal/spelling"
	"github.com/orrery-io/orrery/job"
)

// DeadLetters is a page of dead letters, with all of them in groups.
type DeadLetters struct {
	Total      int64       `json:"total" doc:"How many dead letters the filter selects."`
	Groups     []DeadGroup `json:"groups" doc:"All of them by type and kind of error, the largest group first."`
	Jobs       []*job.Job  `json:"jobs" doc:"One page of them, newest first."`
	NextCursor string      `json:"next_cursor,omitempty" doc:"Where the next page begins; absent on the last one."`
}

// DeadGroup is the dead letters of one type with one kind of error.
type DeadGroup struct {
	Type      string   `json:"type"`
	ErrorKind string   `json:"error_kind"`
	Message   string   `json:"message,omitempty" doc:"The error of one of them."`
	Count     int64    `json:"count"`
	Oldest    job.Time `json:"oldest" doc:"When the first of them ended."`
	Newest    job.Time `json:"newest" doc:"When the last of them ended."`
}

// Purge selects dead letters to remove. Ids and filter exclude each other.
type Purge struct {
	IDs    []job.ID   `json:"ids,omitempty" doc:"Which ones; those that are no dead letters are passed over." maxItems:"10000"`
	Filter filterBody `json:"filter,omitzero"`
	DryRun bool       `json:"dry_run,omitempty" doc:"Only count."`
}

// Redrive selects dead letters to run again. Ids and filter exclude each other.
type Redrive struct {
	IDs     []job.ID   `json:"ids,omitempty" doc:"Which ones; those that are no dead letters are passed over." maxItems:"10000"`
	Filter  filterBody `json:"filter,omitzero"`
	Payload anyJSON    `json:"payload,omitzero" doc:"Replaces the payload of all of them."`
	Queue   string     `json:"queue,omitempty" doc:"Replaces the queue of all of them." maxLength:"200"`
	DryRun  bool       `json:"dry_run,omitempty" doc:"Only count."`
}

// DeadAnswer says what became of the dead letters that were selected.
type DeadAnswer struct {
	DryRun  bool     `json:"dry_run"`
	Matched int64    `json:"matched" doc:"How many dead letters were selected."`
	Changed int64    `json:"changed" doc:"How many of them were redriven or purged: 0 in a dry run."`
	IDs     []job.ID `json:"ids" doc:"The first 100 that were selected."`
}

func (a *API) deadLetterRoutes() []route {
	dry := []param{{name: "dry_run", kind: "boolean", def: false, doc: "Only count what would happen."}}
	answers := []answer{{status: http.StatusOK, doc: "How many were selected and changed.", body: typeOf[DeadAnswer]()}}
	return []route{
		{
			method: http.MethodGet, path: "/v1/dead-letters", id: "listDeadLetters", tag: "dead-letters",
			summary: "List dead letters, grouped and one by one",
			doc:     "Dead letters are jobs that failed or timed out with no attempts left.",
			params:  slices.Concat(filterParams(), pageParams(), readParams()),
			answers: []answer{{status: http.StatusOK, doc: "The groups, and one page of jobs.", body: typeOf[DeadLetters]()}},
			curl:    `"$ORRERY/v1/dead-letters?queue=default"`,
			handle:  a.listDeadLetters,
		},
		{
			method: http.MethodPost, path: "/v1/dead-letters/redrive", id: "redriveDeadLetters", tag: "dead-letters",
			summary: "Run dead letters again",
			doc:     "They become pending with a full set of attempts; payload and queue can be replaced on the way.",
			params:  dry, body: typeOf[Redrive](), answers: answers,
			curl:   `"$ORRERY/v1/dead-letters/redrive?dry_run=true" --json '{"filter":{"type":"email.send"}}'`,
			handle: a.redrive,
		},
		{
			method: http.MethodPost, path: "/v1/dead-letters/purge", id: "purgeDeadLetters", tag: "dead-letters",
			summary: "Remove dead letters for good",
			params:  dry, body: typeOf[Purge](), answers: answers,
			curl:   `$ORRERY/v1/dead-letters/purge --json '{"ids":[42]}'`,
			handle: a.purge,
		},
	}
}

// onlyDead narrows a filter to dead letters; the second result is false when it
// asks for other states.
func onlyDead(f *fsm.JobFilter) bool {
	if len(f.States) == 0 {
		f.States = []job.State{job.Failed, job.TimedOut}
	}
	for _, s := range f.States {
		if !s.DeadLetter() {
			return false
		}
	}
	return true
}

func (a *API) listDeadLetters(w *response, r *http.Request, q *query) error {
	if _, err := accept(r, typeJSON); err != nil {
		return err
	}
	f := q.filter(job.At(time.Now()))
	p := q.page("dead-letters")
	if !onlyDead(&f) {
		q.fail("invalid_value", "state", "must be failed or timed_out: others are no dead letters")
	}
	if err := a.fresh(r.Context(), w, q, true); err != nil {
		return err
	}
	list := DeadLetters{Groups: []DeadGroup{}}
	groups, err := a.machine.DeadLetterGroups(r.Context(), f)
	if err != nil {
		return err
	}
	for _, g := range groups {
		list.Groups = append(list.Groups, DeadGroup{
			Type: g.Type, ErrorKind: g.ErrorKind, Message: g.Message, Count: g.Count, Oldest: g.Oldest, Newest: g.Newest,
		})
		list.Total += g.Count
	}
	var next job.ID
	if list.Jobs, next, err = a.jobsPage(r.Context(), f, p.after, p.limit); err != nil {
		return err
	}
	if next != 0 {
		list.NextCursor = encodeCursor(next, p.scope)
		link(w, r, list.NextCursor)
	}
	return a.reply(w, http.StatusOK, &list)
}

// selection is which dead letters a request is about, and what to do to them.
type selection struct {
	ids       []job.ID
	filter    fsm.JobFilter
	hasIDs    bool
	hasFilter bool
	dryRun    bool
	payload   job.JSON
	queue     string
}

// maxSelected bounds ids in one request.
const maxSelected = 10_000

// readSelection reads the body of redrive and purge.
func (a *API) readSelection(w *response, r *http.Request, q *query, names ...string) (*selection, error) {
	s := &selection{dryRun: q.boolean("dry_run", false)}
	if err := q.err(); err != nil {
		return nil, err
	}
	now := job.At(time.Now())
	large := 0
	err := a.object(w, r, maxSubmission, false, names, func(d *decoder, p path, name string, value []byte) {
		switch name {
		case "ids":
			s.hasIDs = true
			d.list(p, value, "ids", maxSelected, func(p path, raw []byte) {
				s.ids = append(s.ids, job.ID(d.number(p, raw, 1, math.MaxInt64)))
			})
		case "filter":
			s.hasFilter = true
			s.filter = d.filter(p, value, now)
		case "payload":
			if large = len(value); large <= job.MaxPayload {
				s.payload = append(job.JSON(nil), value...)
			}
			check := job.Spec{Type: "x", Queue: "x", MaxAttempts: 1, Payload: s.payload}
			for _, e := range check.Check() {
				d.fail("invalid_value", path{e.Pointer, ""}, "%s", e.Detail)
			}
		case "queue":
			if s.queue = d.text(p, value); s.queue != "" || value[0] == '"' {
				if detail := job.CheckName(s.queue); detail != "" {
					d.fail("invalid_value", p, "%s", detail)
				}
			}
		case "dry_run":
			s.dryRun = d.boolean(p, value) || s.dryRun
		}
	})
	switch {
	case err != nil:
		return nil, err
	case large > job.MaxPayload:
		return nil, errTooLarge("/payload", fmt.Sprintf("is %d bytes; the limit is %d", large, job.MaxPayload))
	case s.hasIDs == s.hasFilter:
		return nil, invalidFields("invalid_value", []job.FieldError{{Pointer: "", Detail: `give ids or filter, one of them; {"filter":{}} selects all dead letters`}})
	case s.hasFilter && !onlyDead(&s.filter):
		return nil, invalidFields("invalid_value", []job.FieldError{{Pointer: "/filter/state", Detail: "must be failed or timed_out: others are no dead letters"}})
	}
	return s, nil
}

// filter reads a filter in a body: text of the grammar, or an object with the same
// names, whose values are texts or lists of texts.
func (d *decoder) filter(p path, raw []byte, now job.Time) fsm.JobFilter {
	var q *query
	var err error
	before := len(d.fields)
	switch raw[0] {
	case '"':
		q, err = parseQuery(d.text(p, raw), filterNames())
	case '{':
		q = d.filterObject(p, raw)
	default:
		d.wrong(p, "an object or text such as \"type=a&queue=b\"", raw)
		return fsm.JobFilter{}
	}
	var f fsm.JobFilter
	if len(d.fields) > before {
		return f
	}
	if err == nil {
		f = q.filter(now)
		err = q.err()
	}
	if wrong, ok := errors.AsType[*fault](err); ok {
		if len(wrong.fields) == 0 {
			d.fail(wrong.public.Code, p, "%s", wrong.public.Message)
		}
		for _, e := range wrong.fields {
			d.fail(wrong.public.Code, path{p.String(), e.Pointer[1:]}, "%s", e.Detail)
		}
	}
	return f
}

// filterObject turns a filter that is an object into parameters.
func (d *decoder) filterObject(p path, raw []byte) *query {
	values := url.Values{}
	known := append(filterNames(), "metadata")
	parent := p.String()
	for key, value := range members(raw) {
		name, _ := unquote(key)
		at := path{parent, name}
		switch {
		case !knows(known, name):
			d.fail("unknown_field", at, "is not a field here%s", spelling.DidYouMean(name, known))
		case values[name] != nil:
			d.fail("duplicate_field", at, "is there twice")
		case isNull(value):
		case name == "metadata":
			for _, l := range d.labels(at, value) {
				values[metaPrefix+l.Key] = []string{l.Value}
			}
		case value[0] == '[':
			d.list(at, value, "texts", maxListed, func(p path, raw []byte) {
				values[name] = append(values[name], d.text(p, raw))
			})
		default:
			values[name] = []string{d.text(at, value)}
		}
	}
	return &query{values: values}
}

func (a *API) redrive(w *response, r *http.Request, q *query) error {
	s, err := a.readSelection(w, r, q, "ids", "filter", "payload", "queue", "dry_run")
	if err != nil {
		return err
	}
	return a.changeDead(w, r, s, func(ids []job.ID) command.Command {
		return &command.Redrive{Jobs: ids, Payload: s.payload, Queue: s.queue}
	})
}

func (a *API) purge(w *response, r *http.Request, q *query) error {
	s, err := a.readSelection(w, r, q, "ids", "filter", "dry_run")
	if err != nil {
		return err
	}
	return a.changeDead(w, r, s, func(ids []job.ID) command.Command {
		return &command.Delete{Jobs: ids, OnlyDead: true}
	})
}

const (
	// deadChunk is how many jobs one command changes.
	deadChunk = 500
	// shownIDs is how many ids an answer lists.
	shownIDs = 100
)

// changeDead does to all that are selected what make says, chunk by chunk.
func (a *API) changeDead(w *response, r *http.Request, s *selection, make func([]job.ID) command.Command) error {
	ctx := r.Context()
	request, err := requestID(r)
	if err != nil {
		return err
	}
	res := DeadAnswer{DryRun: s.dryRun, IDs: []job.ID{}}
	chunk := 0
	change := func(ids []job.ID) error {
		res.Matched += int64(len(ids))
		res.IDs = append(res.IDs, ids[:min(len(ids), shownIDs-len(res.IDs))]...)
		if s.dryRun || len(ids) == 0 {
			return nil
		}
		item := command.Item{Command: make(ids)}
		if request != "" {
			item.RequestID = request + "/" + strconv.Itoa(chunk)
		}
		chunk++
		result, err := a.proposeOne(ctx, w, item)
		res.Changed += int64(result.Count)
		return err
	}
	// What is selected is what is dead in the cluster, not what this node has heard of.
	limit, cancel := context.WithTimeout(ctx, proposeTime)
	defer cancel()
	if _, err := a.node.ReadIndex(limit); err != nil {
		return err
	}
	if s.hasIDs {
		err = a.eachDeadID(ctx, s.ids, change)
	} else {
		err = a.eachDead(ctx, s, change)
	}
	if err != nil {
		return err
	}
	return a.reply(w, http.StatusOK, &res)
}

// eachDeadID hands those of ids that are dead letters to change, once each.
func (a *API) eachDeadID(ctx context.Context, ids []job.ID, change func([]job.ID) error) error {
	slices.Sort(ids)
	for part := range slices.Chunk(slices.Compact(ids), deadChunk) {
		var dead []job.ID
		for _, id := range part {
			j, err := a.machine.Job(ctx, id)
			if errors.Is(err, job.ErrJobNotFound) {
				continue
			}
			if err != nil {
				return err
			}
			if j.State.DeadLetter() {
				dead = append(dead, id)
			}
		}
		if err := change(dead); err != nil {
			return err
		}
	}
	return nil
}

// eachDead hands everything that the filter selects to change. Jobs that die in
// the meantime are not in it.
func (a *API) eachDead(ctx context.Context, s *selection, change func([]job.ID) error) error {
	if err := a.machine.Flush(ctx); err != nil {
		return err
	}
	var after job.ID
	for {
		jobs, next, err := a.machine.Jobs(ctx, s.filter, after, deadChunk)
		if err != nil {
			return err
		}
		ids := make([]job.ID, len(jobs))
		for i, j := range jobs {
			ids[i] = j.ID
		}
		if err := change(ids); err != nil {
			return err
		}
		if next == 0 {
			return nil
		}
		after = next
	}
}
