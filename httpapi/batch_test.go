package httpapi

import (
	"fmt"
	"strings"
	"testing"

	"github.com/orrery-io/orrery/job"
)

func TestBatch(t *testing.T) {
	b := setup(t)
	const three = `[{"type":"echo"},{"type":"echo","priority":99},{"type":"echo","idempotency_key":"k"}]`
	var a BatchAnswer
	b.post("/v1/jobs/batch", three).want(200).into(&a)
	if a.Accepted != 2 || a.Refused != 1 || len(a.Items) != 3 {
		t.Fatalf("%+v", a)
	}
	for i, it := range a.Items {
		if it.Index != i {
			t.Errorf("item %d has index %d", i, it.Index)
		}
	}
	if a.Items[0].Status != 201 || a.Items[0].ID == 0 || a.Items[2].Status != 201 || a.Items[2].ID <= a.Items[0].ID {
		t.Errorf("%+v", a.Items)
	}
	if p := a.Items[1].Problem; a.Items[1].Status != 400 || p == nil || p.Code != "out_of_range" || p.Errors[0].Pointer != "/priority" {
		t.Errorf("%+v", a.Items[1])
	}
	b.post("/v1/jobs/batch", `[{"type":"echo","idempotency_key":"k"}]`).want(200).into(&a)
	if a.Items[0].Status != 200 || !a.Items[0].Existing || a.Accepted != 1 {
		t.Errorf("%+v", a.Items)
	}
	b.post("/v1/jobs/batch", `[{"type":"other","idempotency_key":"k"}]`).want(200).into(&a)
	if a.Items[0].Status != 422 || a.Refused != 1 {
		t.Errorf("%+v", a.Items)
	}
}

func TestBatch_atomic(t *testing.T) {
	b := setup(t)
	var a BatchAnswer
	b.post("/v1/jobs/batch?atomic=true", `[{"type":"a"},{"type":"b"}]`).want(200).into(&a)
	if a.Accepted != 2 || a.Items[1].ID != a.Items[0].ID+1 {
		t.Errorf("%+v", a)
	}
	before := b.node.proposed()
	p := b.post("/v1/jobs/batch?atomic=true", `[{"type":"a"},{"type":"b","priority":-1},{"queue":"x"}]`).problem(400, "out_of_range")
	if len(p.Errors) != 2 || p.Errors[0].Pointer != "/1/priority" || p.Errors[1].Pointer != "/2/type" {
		t.Errorf("%+v", p.Errors)
	}
	if n := b.node.proposed() - before; n != 0 {
		t.Errorf("%d commands were proposed", n)
	}
	// Refused by the state machine: nothing of it is stored either.
	b.post("/v1/jobs", `{"type":"a","idempotency_key":"k"}`).want(201)
	b.post("/v1/jobs/batch?atomic=true", `[{"type":"a"},{"type":"other","idempotency_key":"k"}]`).problem(422, "idempotency_key_reused")
	if n, err := b.machine.CountJobs(t.Context(), fsmFilter{}); err != nil || n != 3 {
		t.Errorf("%d jobs, %v", n, err)
	}
}

func TestBatch_NDJSON(t *testing.T) {
	b := setup(t)
	body := `{"type":"echo"}` + "\n\n" + `{"type":` + "\r\n" + "{\"type\":\"\xff\"}\n" + ` {"type":"echo"}`
	var a BatchAnswer
	b.post("/v1/jobs/batch", body, "Content-Type", "application/x-ndjson").want(200).into(&a)
	var got []string
	for _, it := range a.Items {
		code := ""
		if it.Problem != nil {
			code = it.Problem.Code
		}
		got = append(got, fmt.Sprint(it.Status, code))
	}
	if want := "201 400invalid_json 400invalid_utf8 201"; strings.Join(got, " ") != want && strings.ReplaceAll(strings.Join(got, ","), " ", "") != "201,400invalid_json,400invalid_utf8,201" {
		t.Errorf("got %q", got)
	}
	// Its lines and columns are not those of the body.
	if p := a.Items[1].Problem; p == nil || !strings.HasPrefix(p.Detail, "the job is not valid JSON") {
		t.Errorf("%+v", p)
	}
	b.post("/v1/jobs/batch?atomic=true", body, "Content-Type", "application/x-ndjson").problem(400, "invalid_json")
}

func TestBatch_bad_input(t *testing.T) {
	b := setup(t)
	many := "[" + strings.Repeat(`{"type":"a"},`, job.MaxBatch) + `{"type":"a"}]`
	tests := []struct {
		name, target, body string
		status             int
		code               string
	}{
		{"empty array", "/v1/jobs/batch", `[]`, 400, "empty_batch"},
		{"an object", "/v1/jobs/batch", `{"type":"a"}`, 400, "wrong_type"},
		{"malformed", "/v1/jobs/batch", `[{"type":"a"},]`, 400, "invalid_json"},
		{"too many", "/v1/jobs/batch", many, 413, "too_large"},
		{"too large", "/v1/jobs/batch", `["` + strings.Repeat("x", 17<<20) + `"]`, 413, "too_large"},
		{"too large for atomic", "/v1/jobs/batch?atomic=1", `[` + strings.Repeat(`{"type":"a","payload":"`+strings.Repeat("x", 1000_000)+`"},`, 4) + `{"type":"a","payload":"` + strings.Repeat("x", 1000_000) + `"}]`, 413, "too_large"},
		{"unknown parameter", "/v1/jobs/batch?wait=3s", `[{"type":"a"}]`, 400, "unknown_parameter"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := b.post(tt.target, tt.body)
			r.t = t
			r.problem(tt.status, tt.code)
		})
	}
	b.post("/v1/jobs/batch", `[{"type":"a"}]`, "Idempotency-Key", "k").problem(400, "invalid_header")
	b.post("/v1/jobs/batch", `[{"type":"a"}]`, "Content-Type", "text/plain").problem(415, "unsupported_media_type")
	if n := b.node.proposed(); n != 0 {
		t.Errorf("%d commands were proposed", n)
	}
	var a BatchAnswer
	b.post("/v1/jobs/batch", `[7,null,"x"]`).want(200).into(&a)
	if a.Refused != 3 || a.Items[0].Problem.Code != "wrong_type" {
		t.Errorf("%+v", a)
	}
}
