package client

import (
	"fmt"
	"net/url"
	"strings"

	"github.com/orrery-io/orrery/job"
)

// Filter selects jobs. Values of one field are alternatives; fields add up. The
// zero Filter selects every job.
type Filter struct {
	States []job.State
	Queues []string
	Types  []string
	Tags   []string
	Agents []string
	// Schedules are the names of those that made the jobs.
	Schedules []string
	// Metadata must all be equal.
	Metadata      map[string]string
	CorrelationID string
	ErrorKinds    []string
	// Text is looked for in what the job says of itself.
	Text           string
	CreatedAfter   job.Time
	CreatedBefore  job.Time
	FinishedAfter  job.Time
	FinishedBefore job.Time
}

// values writes the filter in the grammar that the API has everywhere.
func (f Filter) values() url.Values {
	q := url.Values{}
	set := func(key, value string) {
		if value != "" {
			q.Set(key, value)
		}
	}
	set("state", strings.Join(texts(f.States), ","))
	set("queue", strings.Join(f.Queues, ","))
	set("type", strings.Join(f.Types, ","))
	set("tag", strings.Join(f.Tags, ","))
	set("agent", strings.Join(f.Agents, ","))
	set("schedule", strings.Join(f.Schedules, ","))
	set("error_kind", strings.Join(f.ErrorKinds, ","))
	for k, v := range f.Metadata {
		q.Set("meta."+k, v)
	}
	set("correlation_id", f.CorrelationID)
	set("text", f.Text)
	set("created_after", f.CreatedAfter.String())
	set("created_before", f.CreatedBefore.String())
	set("finished_after", f.FinishedAfter.String())
	set("finished_before", f.FinishedBefore.String())
	return q
}

// body is the filter as the object in a request's body.
func (f Filter) body() map[string]string {
	q := f.values()
	m := make(map[string]string, len(q))
	for k := range q {
		m[k] = q.Get(k)
	}
	return m
}

// texts returns what each of items is called.
func texts[T fmt.Stringer](items []T) []string {
	out := make([]string, len(items))
	for i, x := range items {
		out[i] = x.String()
	}
	return out
}
