package httpapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"strconv"
	"time"

	"github.com/orrery-io/orrery/job"
)

// readParams are what reads have in common.
func readParams() []param {
	return []param{
		{name: "consistency", kind: "string", values: []string{"stale", "linearizable"}, def: "stale", doc: "linearizable: the answer includes everything that was acknowledged anywhere before the request. stale: it is at most as old as Orrery-Index says."},
		{name: "min_index", kind: "integer", doc: "Answer only when this node has applied this log index, as from an Orrery-Index header."},
	}
}

func pageParams() []param {
	return []param{
		{name: "limit", kind: "integer", def: 50, doc: "How many at most, 1 to 500. A page may be shorter although there is more."},
		{name: "cursor", kind: "string", doc: "Where to go on: next_cursor of the page before, with the same parameters."},
	}
}

// catchUpTime bounds how long a read waits for min_index.
const catchUpTime = 5 * time.Second

// fresh makes sure that this node knows what the read must include, and tells the
// answer's header what it does. With exact, lists are made as fresh as rows.
func (a *API) fresh(ctx context.Context, w *response, q *query, list bool) error {
	consistency, _ := q.text("consistency")
	least := uint64(q.number("min_index", 0, 0, 1<<62)) //nolint:gosec // not negative
	switch consistency {
	case "", "stale", "linearizable":
	default:
		q.fail("invalid_value", "consistency", "is %q; it must be stale or linearizable", clip(consistency))
	}
	if err := q.err(); err != nil {
		return err
	}
	exact := false
	if consistency == "linearizable" {
		limit, cancel := context.WithTimeout(ctx, proposeTime)
		defer cancel()
		if _, err := a.node.ReadIndex(limit); err != nil {
			return err
		}
		exact = true
	}
	if least > 0 {
		limit, cancel := context.WithTimeout(ctx, catchUpTime)
		defer cancel()
		if err := a.machine.WaitApplied(limit, least); err != nil {
			if errors.Is(err, context.DeadlineExceeded) {
				applied, _ := a.machine.Applied()
				return job.Errorf(job.Unavailable, "behind", "this node has applied %d, not yet %d", applied, least).
					WithHint("try again, or ask another node")
			}
			return err
		}
		exact = true
	}
	applied, _ := a.machine.Applied()
	w.index(applied)
	if list && exact {
		return a.machine.Flush(ctx)
	}
	return nil
}

// jobNow returns a job as this node knows it. That there is none is said only after
// the leader was asked how far the log has come: a job that was just submitted at
// another node is found here too.
func (a *API) jobNow(ctx context.Context, id job.ID) (*job.Job, error) {
	j, err := a.machine.Job(ctx, id)
	if !errors.Is(err, job.ErrJobNotFound) {
		return j, err
	}
	limit, cancel := context.WithTimeout(ctx, catchUpTime)
	defer cancel()
	if _, err := a.node.ReadIndex(limit); err != nil {
		return nil, err
	}
	return a.machine.Job(ctx, id)
}

// page is which part of a list is asked for.
type page struct {
	limit int
	after job.ID
	scope string
}

const maxPage = 500

func (q *query) page(list string) page {
	p := page{limit: int(q.number("limit", 50, 1, maxPage)), scope: q.scope(list)}
	if text, ok := q.text("cursor"); ok {
		id, good := decodeCursor(text, p.scope)
		if !good {
			q.badCursor()
		}
		p.after = id
	}
	return p
}

// link tells where the next page is.
func link(w *response, r *http.Request, cursor string) {
	v := r.URL.Query()
	v.Set("cursor", cursor)
	w.Header().Set("Link", "<"+r.URL.EscapedPath()+"?"+v.Encode()+`>; rel="next"`)
}

// pathID reads a job's id from the path.
func pathID(r *http.Request) (job.ID, error) {
	text := r.PathValue("id")
	id, err := strconv.ParseInt(text, 10, 64)
	if err != nil || id <= 0 || text[0] == '+' {
		return 0, invalid("invalid_id", "%q is not a job's id; ids are whole numbers such as 42", clip(text))
	}
	return job.ID(id), nil
}

// pathName reads a name from the path.
func pathName(r *http.Request, param, what string) (string, error) {
	name := r.PathValue(param)
	if detail := job.CheckName(name); detail != "" {
		return "", invalid("invalid_name", "%q is not the name of %s: it %s", clip(name), what, detail)
	}
	return name, nil
}

// unknownJob says which job it is that does not exist.
func unknownJob(id job.ID, err error) error {
	if errors.Is(err, job.ErrJobNotFound) {
		e := *job.ErrJobNotFound
		e.Message = fmt.Sprintf("there is no job %d", id)
		return &e
	}
	return err
}

func typeOf[T any]() reflect.Type { return reflect.TypeFor[T]() }
