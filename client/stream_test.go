package client_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"testing"

	"github.com/orrery-io/orrery/client"
	"github.com/orrery-io/orrery/job"
)

// stream answers with server-sent events, and then drops the connection.
func stream(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = io.WriteString(w, text)
		_ = http.NewResponseController(w).Flush()
	}
}

func event(index int, kind string) string {
	return fmt.Sprintf("id: %d.0\nevent: %s\ndata: {\"id\":\"%d.0\",\"type\":%q,\"job\":%d}\n\n", index, kind, index, kind, index)
}

func TestEvents(t *testing.T) {
	b := setup(t,
		stream(": hello\n\n"+event(4, "job.submitted")+event(5, "job.dispatched")+"id: 6.0\ndata: {\"id\":\"6"),
		answer(503, `{"code":"no_leader"}`),
		drop,
		stream(event(5, "job.dispatched")+event(6, "job.completed")),
		answer(410, `{"code":"events_trimmed"}`),
	)
	var got []uint64
	var last error
	opts := client.EventOptions{After: &job.EventID{Index: 3}, Types: []job.EventType{job.JobSubmitted, job.JobCompleted}, Jobs: []job.ID{4, 5}, JobTypes: []string{"echo"}}
	for e, err := range b.client.Events(t.Context(), opts) {
		if err != nil {
			last = err
			continue
		}
		got = append(got, e.ID.Index)
	}
	if !slices.Equal(got, []uint64{4, 5, 6}) {
		t.Errorf("events %v, want each once", got)
	}
	if e, ok := errors.AsType[*client.Error](last); !ok || e.Code != "events_trimmed" {
		t.Errorf("ended with %v", last)
	}
	calls := b.seen()
	if q := calls[0].query; q["after"][0] != "3.0" || q["types"][0] != "job.submitted,job.completed" || q["job"][0] != "4,5" || q["job_type"][0] != "echo" {
		t.Errorf("query %v", q)
	}
	if h := calls[0].header; h.Get("Last-Event-Id") != "" || h.Get("Accept") != "text/event-stream" {
		t.Errorf("header %v", h)
	}
	if id := calls[1].header.Get("Last-Event-Id"); id != "5.0" {
		t.Errorf("resumed after %q", id)
	}
	if id := calls[len(calls)-1].header.Get("Last-Event-Id"); id != "6.0" {
		t.Errorf("resumed after %q at last", id)
	}
}

func TestEvents_endsWhenToldTo(t *testing.T) {
	b := setup(t, stream(event(4, "job.submitted")+event(5, "job.dispatched")))
	n := 0
	for range b.client.Events(t.Context(), client.EventOptions{After: &job.EventID{}}) {
		n++
		break
	}
	if n != 1 || len(b.seen()) != 1 || b.seen()[0].query["after"][0] != "oldest" {
		t.Errorf("%d events in %d requests", n, len(b.seen()))
	}
}

// Without After the place is fetched first, so that nothing is missed when the
// stream breaks off before its first event.
func TestEvents_fromNowOn(t *testing.T) {
	b := setup(t,
		answer(200, `{"events":[{"id":"8.0","type":"job.submitted"}],"next":"8.0"}`),
		drop,
		stream(event(9, "job.completed")),
		answer(410, `{"code":"events_trimmed"}`),
	)
	var got []uint64
	for e, err := range b.client.Events(t.Context(), client.EventOptions{}) {
		if err == nil {
			got = append(got, e.ID.Index)
		}
	}
	calls := b.seen()
	if q := calls[0].query; q["after"][0] != "latest" || calls[0].header.Get("Accept") != "application/json" {
		t.Errorf("the place was asked for with %v", q)
	}
	if !slices.Equal(got, []uint64{8, 9}) {
		t.Errorf("events %v", got)
	}
	for _, c := range calls[1:] {
		if c.query["after"][0] != "8.0" {
			t.Errorf("the stream was asked for with %v", c.query)
		}
	}
}

func TestEvents_stored(t *testing.T) {
	b := setup(t, stream(event(4, "job.submitted")), stream(event(9, "job.completed")+"event: end\ndata: {\"next\":\"9.0\"}\n\n"))
	var got []uint64
	for e, err := range b.client.Events(t.Context(), client.EventOptions{After: &job.EventID{Index: 3}, Stored: true}) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, e.ID.Index)
	}
	calls := b.seen()
	if !slices.Equal(got, []uint64{4, 9}) || len(calls) != 2 || calls[0].query["follow"][0] != "false" || calls[1].header.Get("Last-Event-Id") != "4.0" {
		t.Errorf("events %v in %d requests", got, len(calls))
	}
	for range b.client.Events(t.Context(), client.EventOptions{Stored: true}) {
		t.Error("something has happened after now")
	}
}

func TestEvents_problemInTheStream(t *testing.T) {
	b := setup(t, stream(event(4, "job.submitted")+"event: error\ndata: {\"status\":404,\"code\":\"events_trimmed\",\"detail\":\"gone\"}\n\n"))
	n, last := 0, error(nil)
	for _, err := range b.client.Events(t.Context(), client.EventOptions{After: &job.EventID{}}) {
		n, last = n+1, err
	}
	if e, ok := errors.AsType[*client.Error](last); !ok || e.Code != "events_trimmed" || n != 2 {
		t.Errorf("%d items, then %v", n, last)
	}
}

func TestEvents_cannotBegin(t *testing.T) {
	c, err := client.New(client.Config{Addr: closedAddr(t)})
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, err := range c.Events(t.Context(), client.EventOptions{After: &job.EventID{}}) {
		n++
		if e, ok := errors.AsType[*client.Error](err); !ok || e.Code != client.CodeUnreachable {
			t.Errorf("error %v", err)
		}
	}
	if n != 1 {
		t.Errorf("%d items, want the error", n)
	}
}

func line(attempt, fence, seq int) string {
	return fmt.Sprintf(`{"attempt":%d,"fence":%d,"seq":%d,"time":"2027-01-31T08:00:00.000Z","level":"info","text":"l%d"}`, attempt, fence, seq, seq)
}

func TestLogs_follow(t *testing.T) {
	b := setup(t,
		stream("event: cut\ndata: {\"lines\":3}\n\nevent: log\ndata: "+line(1, 10, 1)+"\n\nevent: progress\ndata: {\"percent\":50}\n\n"),
		stream("event: log\ndata: "+line(1, 10, 1)+"\n\nevent: log\ndata: "+line(2, 20, 1)+"\n\nevent: end\ndata: {}\n\n"),
	)
	var got []string
	var percent float64
	var cut int64
	opts := client.LogOptions{
		Follow: true, Tail: 5,
		OnProgress: func(p job.Progress) { percent = p.Percent },
		OnCut:      func(c client.LogCut) { cut = c.Lines },
	}
	for l, err := range b.client.Logs(t.Context(), 7, opts) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, fmt.Sprintf("%d/%d %s", l.Attempt, l.Seq, l.Text))
	}
	if want := []string{"1/1 l1", "2/1 l1"}; !slices.Equal(got, want) || percent != 50 || cut != 3 {
		t.Errorf("lines %q, progress %v, cut %d", got, percent, cut)
	}
	if q := b.seen()[0].query; q["follow"][0] != "true" || q["tail"][0] != "5" {
		t.Errorf("query %v", q)
	}
}

func TestLogs_read(t *testing.T) {
	b := setup(t, answer(200, `{"lines":[`+line(2, 20, 1)+`,`+line(2, 20, 2)+`],"cut":{"lines":9},"attempt":2}`))
	n, cut := 0, int64(0)
	for l, err := range b.client.Logs(t.Context(), 7, client.LogOptions{Attempt: 2, OnCut: func(c client.LogCut) { cut = c.Lines }}) {
		if err != nil || l.Attempt != 2 || l.Level != "info" {
			t.Fatalf("line %+v, %v", l, err)
		}
		n++
	}
	if n != 2 || cut != 9 || len(b.seen()) != 1 {
		t.Errorf("%d lines, cut %d, %d requests", n, cut, len(b.seen()))
	}
}

func TestLogs_pages(t *testing.T) {
	b := setup(t,
		answer(200, `{"attempt":2,"lines":[`+line(2, 20, 5)+`],"next_after":5}`),
		answer(200, `{"attempt":2,"lines":[`+line(2, 20, 6)+`]}`),
	)
	n := 0
	for _, err := range b.client.Logs(t.Context(), 7, client.LogOptions{Tail: 2}) {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	first, second := b.seen()[0].query, b.seen()[1].query
	if n != 2 || first.Get("tail") != "2" || second.Get("after") != "5" || second.Get("attempt") != "2" || second.Has("tail") {
		t.Errorf("%d lines, asked with %v, then %v", n, first, second)
	}
}

func TestLogs_streamThatCannotBeRead(t *testing.T) {
	b := setup(t, stream("event: log\ndata: {nonsense\n\n"))
	for _, err := range b.client.Logs(t.Context(), 7, client.LogOptions{Follow: true}) {
		if e, ok := errors.AsType[*client.Error](err); !ok || e.Code != client.CodeBadAnswer {
			t.Errorf("error %v", err)
		}
	}
}
