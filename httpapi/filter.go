package httpapi

import (
	"net/url"
	"strings"

	"github.com/orrery-io/orrery/fsm"
	"github.com/orrery-io/orrery/internal/spelling"
	"github.com/orrery-io/orrery/job"
)

// The filter grammar, the same in every place where jobs are selected. A filter is
// a list of name=value in the form of a URL's query:
//
//	state=failed,timed_out&queue=mail&meta.env=prod&created_after=24h
//
// Values of one name are alternatives, divided by commas or given by repeating the
// name; only tags must all be there. Different names must all fit, and so must
// different keys of meta. Times are RFC 3339, or a duration that is counted back
// from now.

// metaPrefix leads the names that select by metadata.
const metaPrefix = "meta."

// filterNames are the names of the grammar; one that ends in * stands for all that
// begin so.
func filterNames() []string {
	names := make([]string, 0, len(filterParams()))
	for _, p := range filterParams() {
		names = append(names, p.name)
	}
	return names
}

func filterParams() []param {
	return []param{
		{name: "state", kind: "list", doc: "Only jobs in one of these states.", values: stateNames(), example: "failed,timed_out"},
		{name: "queue", kind: "list", doc: "Only jobs of one of these queues."},
		{name: "type", kind: "list", doc: "Only jobs of one of these types."},
		{name: "tag", kind: "list", doc: "Only jobs with all of these tags."},
		{name: "agent", kind: "list", doc: "Only jobs that one of these agents has, or had last."},
		{name: "schedule", kind: "list", doc: "Only jobs that one of these schedules made."},
		{name: "error_kind", kind: "list", doc: "Only jobs whose last error is of one of these kinds."},
		{name: metaPrefix + "*", kind: "string", doc: "Only jobs whose metadata has this value under the key that follows the dot, as in meta.env=prod."},
		{name: "correlation_id", kind: "string", doc: "Only jobs with this correlation id."},
		{name: "text", kind: "string", doc: "Only jobs in which this text occurs."},
		{name: "created_after", kind: "moment", doc: "Only jobs submitted after this time; a duration such as 24h counts back from now."},
		{name: "created_before", kind: "moment", doc: "Only jobs submitted before this time."},
		{name: "finished_after", kind: "moment", doc: "Only jobs that ended after this time."},
		{name: "finished_before", kind: "moment", doc: "Only jobs that ended before this time."},
	}
}

func stateNames() []string {
	names := make([]string, len(job.States))
	for i, s := range job.States {
		names[i] = s.String()
	}
	return names
}

// maxText bounds the text that is searched for, in bytes.
const maxText = 200

// filter reads the filter among a request's parameters.
func (q *query) filter(now job.Time) (f fsm.JobFilter) {
	for _, s := range q.list("state") {
		v, err := job.ParseState(s)
		if err != nil {
			q.fail("invalid_value", "state", "%v%s", err, spelling.DidYouMean(s, stateNames()))
			continue
		}
		f.States = append(f.States, v)
	}
	f.Queues = q.names("queue")
	f.Types = q.names("type")
	f.Agents = q.names("agent")
	f.Schedules = q.names("schedule")
	f.Tags = q.list("tag")
	f.ErrorKinds = q.list("error_kind")
	f.Metadata = q.meta()
	f.CorrelationID = q.value("correlation_id", job.MaxKey)
	f.Text = q.value("text", maxText)
	f.CreatedAfter = q.moment("created_after", now)
	f.CreatedBefore = q.moment("created_before", now)
	f.FinishedAfter = q.moment("finished_after", now)
	f.FinishedBefore = q.moment("finished_before", now)
	return f
}

// names returns a list of names of queues, types or agents.
func (q *query) names(name string) []string {
	all := q.list(name)
	for _, v := range all {
		if detail := job.CheckName(v); detail != "" {
			q.fail("invalid_value", name, "%q %s", clip(v), detail)
			return nil
		}
	}
	return all
}

// value returns a text that is not empty when it is given.
func (q *query) value(name string, most int) string {
	v, ok := q.text(name)
	switch {
	case ok && v == "":
		q.fail("invalid_value", name, "is empty")
	case len(v) > most:
		q.fail("out_of_range", name, "is %d bytes long; the limit is %d", len(v), most)
		return ""
	}
	return v
}

// moment returns a time: RFC 3339, or how long before now.
func (q *query) moment(name string, now job.Time) job.Time {
	v, ok := q.text(name)
	if !ok {
		return 0
	}
	if d, err := job.ParseDuration(v); err == nil {
		return max(1, now-job.Time(d))
	}
	var t job.Time
	// A + in a query is a blank to the parser, and part of a time zone to people.
	if err := t.UnmarshalText([]byte(strings.Replace(v, " ", "+", 1))); err != nil || t == 0 {
		q.fail("invalid_value", name, "%q is neither a time such as 2027-01-31T08:00:00Z nor a duration such as 24h", clip(v))
		return 0
	}
	return t
}

func (q *query) meta() job.Labels {
	m := map[string]string{}
	for name := range q.values {
		key, ok := strings.CutPrefix(name, metaPrefix)
		if !ok || key == "" {
			continue
		}
		if v, ok := q.text(name); ok {
			m[key] = v
		}
	}
	labels := job.LabelsOf(m)
	for _, e := range job.CheckLabels("", labels) {
		q.fail("invalid_value", metaPrefix+"*", "%s", strings.TrimPrefix(e.Error(), ": "))
	}
	return labels
}

// scope names what a cursor belongs to: the parameters that make the list what it
// is, without where in it the reader stands.
func (q *query) scope(list string) string {
	v := url.Values{}
	for name, values := range q.values {
		switch name {
		case "cursor", "limit", "consistency":
		default:
			v[name] = values
		}
	}
	return list + "?" + v.Encode()
}
