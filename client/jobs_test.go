package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/orrery-io/orrery/client"
	"github.com/orrery-io/orrery/job"
)

func TestSubmit(t *testing.T) {
	b := setup(t, answer(201, `{"id":7,"type":"echo","queue":"default","state":"pending"}`))
	j, err := b.client.Submit(t.Context(), client.Submission{
		Type: "echo", Payload: json.RawMessage(`{"a":"<&>"}`), Priority: new(0), Delay: 90 * job.Second,
		RunAt: job.At(time.Unix(0, 0).Add(time.Second)), Tags: []string{"x"},
		Retry: job.Retry{Backoff: job.Fixed, Initial: job.Second},
	})
	if err != nil {
		t.Fatal(err)
	}
	if j.ID != 7 || j.State != job.Pending {
		t.Errorf("got job %d %s", j.ID, j.State)
	}
	c := b.seen()[0]
	want := `{"type":"echo","payload":{"a":"<&>"},"priority":0,"run_at":"1970-01-01T00:00:01.000Z","delay":"1m30s",` +
		`"retry":{"backoff":"fixed","initial":"1s"},"tags":["x"]}`
	if c.body != want {
		t.Errorf("body\n%s, want\n%s", c.body, want)
	}
	if c.method != "POST" || c.path != "/v1/jobs" || c.header.Get("Authorization") != "Bearer secret" ||
		c.header.Get("Orrery-Request-Id") == "" || c.header.Get("Prefer") != "" {
		t.Errorf("got %s %s with %v", c.method, c.path, c.header)
	}
}

func TestSubmit_bareTypeSendsNothingElse(t *testing.T) {
	b := setup(t, answer(201, `{"id":1}`))
	if _, err := b.client.Submit(t.Context(), client.Submission{Type: "echo"}); err != nil {
		t.Fatal(err)
	}
	if got := b.seen()[0].body; got != `{"type":"echo"}` {
		t.Errorf("body %s", got)
	}
}

func TestSubmit_unencodablePayload(t *testing.T) {
	b := setup(t, answer(201, `{}`))
	_, err := b.client.Submit(t.Context(), client.Submission{Type: "echo", Payload: func() {}})
	if err == nil || !strings.Contains(err.Error(), "encode") || len(b.seen()) != 0 {
		t.Errorf("error %v after %d requests", err, len(b.seen()))
	}
}

func TestSubmitAndWait(t *testing.T) {
	b := setup(t,
		answer(201, `{"id":7,"state":"running"}`),
		answer(200, `{"id":7,"state":"running"}`),
		drop, drop, // one try and its repetition
		answer(200, `{"id":7,"state":"completed","result":{"n":1}}`),
	)
	j, err := b.client.SubmitAndWait(t.Context(), client.Submission{Type: "echo"})
	if err != nil {
		t.Fatal(err)
	}
	if j.State != job.Completed || string(j.Result) != `{"n":1}` {
		t.Errorf("got %s %s", j.State, j.Result)
	}
	calls := b.seen()
	if got := calls[0].header.Get("Prefer"); got != "wait=30" {
		t.Errorf("Prefer %q", got)
	}
	if got := calls[1].query["wait"]; len(got) != 1 || got[0] != "30s" {
		t.Errorf("wait %q", got)
	}
}

func TestSubmitAndWait_endsWithContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	b := setup(t, answer(201, `{"id":7,"state":"running"}`), func(_ http.ResponseWriter, r *http.Request) {
		cancel()
		<-r.Context().Done()
	})
	j, err := b.client.SubmitAndWait(ctx, client.Submission{Type: "echo"})
	if !errors.Is(err, context.Canceled) || j == nil || j.ID != 7 {
		t.Errorf("got %v, %v; want the job as last seen and the reason", j, err)
	}
}

func TestWait_unknownJob(t *testing.T) {
	b := setup(t, answer(404, `{"code":"job_not_found"}`))
	if _, err := b.client.Wait(t.Context(), 7); !errors.Is(err, job.ErrJobNotFound) || len(b.seen()) != 1 {
		t.Errorf("error %v after %d requests", err, len(b.seen()))
	}
}

func TestSubmitBatch(t *testing.T) {
	b := setup(t, answer(200, `{"items":[{"status":201,"job":{"id":7,"state":"pending"}},{"status":200,"id":3},`+
		`{"status":422,"problem":{"status":422,"code":"invalid","detail":"no"}}],"accepted":2,"refused":1}`))
	jobs := []client.Submission{{Type: "a"}, {Type: "b"}, {Type: "?"}}
	res, err := b.client.SubmitBatch(t.Context(), jobs, client.BatchOptions{Atomic: true})
	if err != nil {
		t.Fatal(err)
	}
	if res.Items[0].ID != 7 || res.Items[1].ID != 3 || res.Items[2].Problem.Code != "invalid" || res.Accepted != 2 {
		t.Errorf("got %+v", res)
	}
	if q := b.seen()[0].query; q["atomic"][0] != "true" {
		t.Errorf("query %v", q)
	}
	if res, err := b.client.SubmitBatch(t.Context(), nil, client.BatchOptions{}); err != nil || len(res.Items) != 0 || len(b.seen()) != 1 {
		t.Errorf("an empty batch: %v, %v, %d requests", res, err, len(b.seen()))
	}
	if _, err := b.client.SubmitBatch(t.Context(), jobs[:1], client.BatchOptions{}); err == nil {
		t.Error("an answer for another number of jobs was taken")
	}
}

func TestList(t *testing.T) {
	b := setup(t,
		answer(200, `{"jobs":[{"id":9,"state":"failed"},{"id":8,"state":"failed"}],"next_cursor":"c1"}`),
		answer(200, `{"jobs":[{"id":7,"state":"failed"}],"next_cursor":"c2"}`),
	)
	opts := client.ListOptions{
		Filter: client.Filter{
			States: []job.State{job.Failed, job.TimedOut}, Queues: []string{"a"}, Metadata: map[string]string{"env": "prod"},
			CreatedAfter: job.Time(1000),
		},
		Limit: 3, PageSize: 2, Linearizable: true,
	}
	var ids []job.ID
	for j, err := range b.client.List(t.Context(), opts) {
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, j.ID)
	}
	if len(ids) != 3 || ids[2] != 7 {
		t.Errorf("ids %v", ids)
	}
	first, second := b.seen()[0].query, b.seen()[1].query
	for k, want := range map[string]string{
		"state": "failed,timed_out", "queue": "a", "meta.env": "prod", "created_after": "1970-01-01T00:00:01.000Z",
		"limit": "2", "consistency": "linearizable",
	} {
		if got := first[k]; len(got) != 1 || got[0] != want {
			t.Errorf("%s = %q, want %q", k, got, want)
		}
	}
	if second["cursor"][0] != "c1" || second["limit"][0] != "1" {
		t.Errorf("second page with %v", second)
	}
}

func TestList_endsWithAnError(t *testing.T) {
	b := setup(t, answer(200, `{"jobs":[{"id":9}],"next_cursor":"c1"}`), answer(400, `{"code":"bad_cursor"}`))
	n, last := 0, error(nil)
	for _, err := range b.client.List(t.Context(), client.ListOptions{}) {
		n, last = n+1, err
	}
	if n != 2 || last == nil {
		t.Errorf("%d items, then %v", n, last)
	}
	for range b.client.List(t.Context(), client.ListOptions{}) {
		break // must not panic by yielding once more
	}
}
