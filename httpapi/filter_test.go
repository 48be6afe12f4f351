package httpapi

import (
	"fmt"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"testing"

	"github.com/orrery-io/orrery/fsm"
	"github.com/orrery-io/orrery/job"
)

func TestParseFilter(t *testing.T) {
	now := job.Time(1_800_000_000_000)
	at := func(s string) job.Time {
		var v job.Time
		if err := v.UnmarshalText([]byte(s)); err != nil {
			t.Fatal(err)
		}
		return v
	}
	tests := []struct {
		text string
		want fsm.JobFilter
	}{
		{"", fsm.JobFilter{}},
		{"state=failed,timed_out&queue=x", fsm.JobFilter{States: []job.State{job.Failed, job.TimedOut}, Queues: []string{"x"}}},
		{"state=failed&state=pending", fsm.JobFilter{States: []job.State{job.Failed, job.Pending}}},
		{"type=a,b&agent=c", fsm.JobFilter{Types: []string{"a", "b"}, Agents: []string{"c"}}},
		{"tag=a,b&error_kind=exit", fsm.JobFilter{Tags: []string{"a", "b"}, ErrorKinds: []string{"exit"}}},
		{"meta.env=prod&meta.a.b=", fsm.JobFilter{Metadata: job.Labels{{Key: "a.b"}, {Key: "env", Value: "prod"}}}},
		{"correlation_id=c&text=hello+world", fsm.JobFilter{CorrelationID: "c", Text: "hello world"}},
		{"created_after=2027-01-31T08:00:00Z", fsm.JobFilter{CreatedAfter: at("2027-01-31T08:00:00Z")}},
		{"created_before=2027-01-31T08:00:00+02:00", fsm.JobFilter{CreatedBefore: at("2027-01-31T06:00:00Z")}},
		{"finished_after=24h&finished_before=1d", fsm.JobFilter{FinishedAfter: now - job.Time(job.Day), FinishedBefore: now - job.Time(job.Day)}},
	}
	for _, tt := range tests {
		got, err := parseFilter(tt.text, now)
		if err != nil || !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%q: %+v, %v", tt.text, got, err)
		}
	}
	bad := []struct{ text, pointer string }{
		{"stat=x", "?stat"},
		{"state=", "?state"},
		{"state=failed,,pending", "?state"},
		{"state=Failed", "?state"},
		{"queue=a b", "?queue"},
		{"meta.=x", "?meta."},
		{"meta.a=1&meta.a=2", "?meta.a"},
		{"created_after=yesterday", "?created_after"},
		{"created_after=", "?created_after"},
		{"created_after=1999999-01-01T00:00:00Z", "?created_after"},
		{"text=", "?text"},
		{"text=" + strings.Repeat("x", 201), "?text"},
		{"type=" + strings.Repeat("x,", 200) + "x", "?type"},
		{"limit=3", "?limit"},
	}
	for _, tt := range bad {
		_, err := parseFilter(tt.text, now)
		p, ok := problemOf(err)
		if err == nil || !ok || p.Status != http.StatusBadRequest || len(p.Errors) == 0 || p.Errors[0].Pointer != tt.pointer {
			t.Errorf("%q: %+v", tt.text, p)
		}
	}
}

func FuzzParseFilter(f *testing.F) {
	for _, s := range []string{"state=failed,timed_out&queue=x", "meta.env=prod&tag=a", "created_after=24h&text=%41", "a=b&;&%zz", "meta.%00=x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		filter, err := parseFilter(text, 1_800_000_000_000)
		if err != nil {
			if p, ok := problemOf(err); !ok || p.Status != http.StatusBadRequest {
				t.Fatalf("%q: %v", text, err)
			}
			return
		}
		for _, s := range filter.States {
			if s < job.Scheduled || s > job.Expired {
				t.Fatalf("%q: state %d", text, s)
			}
		}
		for _, names := range [][]string{filter.Queues, filter.Types, filter.Agents} {
			for _, n := range names {
				if job.CheckName(n) != "" {
					t.Fatalf("%q: name %q", text, n)
				}
			}
		}
	})
}

func TestCursor(t *testing.T) {
	for _, id := range []job.ID{1, 42, 1<<63 - 1} {
		text := encodeCursor(id, "jobs?state=failed")
		if got, ok := decodeCursor(text, "jobs?state=failed"); !ok || got != id {
			t.Errorf("%d: %d, %v", id, got, ok)
		}
		if strings.ContainsAny(text, "+/=&?") {
			t.Errorf("%q must be escaped in a URL", text)
		}
		for _, scope := range []string{"jobs", "jobs?state=failed&queue=x", "dead-letters?state=failed"} {
			if _, ok := decodeCursor(text, scope); ok {
				t.Errorf("a cursor of another list is taken for %q", scope)
			}
		}
		for i := range text {
			changed := []byte(text)
			changed[i] ^= 1
			if _, ok := decodeCursor(string(changed), "jobs?state=failed"); ok {
				t.Errorf("%q is taken", changed)
			}
		}
	}
	for _, text := range []string{"", "x", "AAAAAAAAAAAAAAAAAA", strings.Repeat("A", 1000), "AQ==", encodeCursor(0, ""), encodeCursor(-1, "")} {
		if _, ok := decodeCursor(text, ""); ok {
			t.Errorf("%q is taken", text)
		}
	}
}

func FuzzDecodeCursor(f *testing.F) {
	f.Add("", "jobs")
	f.Add(encodeCursor(42, "jobs"), "jobs")
	f.Fuzz(func(t *testing.T, text, scope string) {
		id, ok := decodeCursor(text, scope)
		if ok && (id <= 0 || encodeCursor(id, scope) != text) {
			t.Fatalf("%q: %d, written as %q", text, id, encodeCursor(id, scope))
		}
	})
}

func TestListJobs(t *testing.T) {
	b := setup(t)
	var list JobList
	b.get("/v1/jobs").want(200).into(&list)
	if list.Jobs == nil || len(list.Jobs) != 0 || list.NextCursor != "" {
		t.Errorf("an empty list is %+v", list)
	}
	for i := range 25 {
		b.submit(func(s *job.Spec) {
			s.Queue = fmt.Sprintf("q%d", i%2)
			s.Metadata = job.Labels{{Key: "n", Value: fmt.Sprint(i)}}
		})
	}
	var seen []job.ID
	target := "/v1/jobs?queue=q1&limit=5&consistency=linearizable"
	for pages := 0; ; pages++ {
		r := b.get(target).want(200)
		var page JobList
		r.into(&page)
		for _, j := range page.Jobs {
			if j.Queue != "q1" {
				t.Errorf("job %d is in %s", j.ID, j.Queue)
			}
			if n := len(seen); n > 0 && seen[n-1] <= j.ID {
				t.Errorf("job %d after %d", j.ID, seen[n-1])
			}
			seen = append(seen, j.ID)
		}
		link := r.header.Get("Link")
		if page.NextCursor == "" {
			if link != "" {
				t.Errorf("Link %q on the last page", link)
			}
			if pages != 2 {
				t.Errorf("%d pages", pages+1)
			}
			break
		}
		target = strings.TrimSuffix(strings.TrimPrefix(link, "<"), `>; rel="next"`)
		if u, err := url.Parse(target); err != nil || u.Query().Get("cursor") != page.NextCursor || u.Query().Get("queue") != "q1" {
			t.Fatalf("Link %q", link)
		}
	}
	if len(seen) != 12 {
		t.Errorf("%d jobs", len(seen))
	}
	if b.node.reads == 0 {
		t.Error("a linearizable list did not ask for the index")
	}
	// A cursor goes with its parameters.
	b.get("/v1/jobs?queue=q0&limit=5&consistency=linearizable").want(200).into(&list)
	b.get("/v1/jobs?queue=q1&cursor="+list.NextCursor).problem(400, "invalid_cursor")
	b.get("/v1/dead-letters?queue=q0&cursor="+list.NextCursor).problem(400, "invalid_cursor")
	b.get("/v1/jobs?meta.n=7&consistency=linearizable").want(200).into(&list)
	if len(list.Jobs) != 1 {
		t.Errorf("%d jobs have the metadata", len(list.Jobs))
	}
}

func TestListJobs_large_payloads(t *testing.T) {
	b := setup(t)
	large := job.JSON(`"` + strings.Repeat("x", 1_000_000) + `"`)
	for range 8 {
		b.submit(func(s *job.Spec) { s.Payload = large })
	}
	seen, cursor := 0, ""
	for {
		r := b.get("/v1/jobs?consistency=linearizable" + cursor).want(200)
		if len(r.body) > 6<<20 {
			t.Errorf("a page has %d bytes", len(r.body))
		}
		var page JobList
		r.into(&page)
		seen += len(page.Jobs)
		if page.NextCursor == "" {
			break
		}
		cursor = "&cursor=" + page.NextCursor
	}
	if seen != 8 {
		t.Errorf("%d jobs", seen)
	}
}

// parseFilter reads a filter that is a text of its own.
func parseFilter(text string, now job.Time) (fsm.JobFilter, error) {
	q, err := parseQuery(text, filterNames())
	if err != nil {
		return fsm.JobFilter{}, err
	}
	f := q.filter(now)
	return f, q.err()
}
