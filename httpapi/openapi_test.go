package httpapi

import (
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/orrery-io/orrery/job"
)

type openAPIParam struct {
	Name, In, Style string
	Required        bool
	Schema          map[string]any
}

type openAPIOperation struct {
	OperationID string `json:"operationId"`
	Summary     string
	Tags        []string
	Parameters  []openAPIParam
	RequestBody *struct {
		Content map[string]struct{ Schema map[string]any }
	} `json:"requestBody"`
	Responses map[string]struct {
		Description string
		Content     map[string]struct{ Schema map[string]any }
	}
	Curl string `json:"x-curl"`
}

type openAPIDocument struct {
	OpenAPI    string `json:"openapi"`
	Info       struct{ Title, Version string }
	Paths      map[string]map[string]openAPIOperation
	Components struct {
		Schemas map[string]struct {
			Properties           map[string]map[string]any
			Required             []string
			AdditionalProperties any `json:"additionalProperties"`
		}
	}
	Tags []struct{ Name string }
}

func document(t *testing.T, b *testBundle) (*openAPIDocument, []byte) {
	t.Helper()
	r := b.get("/openapi.json").want(200)
	doc := new(openAPIDocument)
	r.into(doc)
	return doc, r.body
}

// TestOpenAPI_lists_every_route compares the mux with the document, in both
// directions.
func TestOpenAPI_lists_every_route(t *testing.T) {
	b := setup(t)
	doc, _ := document(t, b)
	var listed []string
	for path, item := range doc.Paths {
		for method := range item {
			listed = append(listed, strings.ToUpper(method)+" "+path)
		}
	}
	for _, pattern := range listed {
		method, path, _ := strings.Cut(pattern, " ")
		path = strings.NewReplacer("{id}", "1", "{name}", "x").Replace(path)
		r, err := http.NewRequestWithContext(t.Context(), method, path, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		if _, got := b.mux.Handler(r); got != pattern {
			t.Errorf("%s is documented, and answered by %q", pattern, got)
		}
	}
	for i := range b.routes {
		if p := b.routes[i].pattern(); !slices.Contains(listed, p) {
			t.Errorf("%s is not documented", p)
		}
	}
	// What the product promises.
	for _, p := range []string{
		"POST /v1/jobs", "POST /v1/jobs/batch", "GET /v1/jobs", "GET /v1/jobs/{id}", "GET /v1/jobs/{id}/logs", "GET /v1/jobs/{id}/events",
		"POST /v1/jobs/{id}/cancel", "POST /v1/jobs/{id}/retry", "POST /v1/jobs/{id}/promote", "GET /v1/queues", "GET /v1/queues/{name}",
		"POST /v1/queues/{name}/pause", "POST /v1/queues/{name}/resume",
		"GET /v1/schedules", "PUT /v1/schedules/{name}", "PATCH /v1/schedules/{name}", "GET /v1/schedules/{name}", "DELETE /v1/schedules/{name}",
		"POST /v1/schedules/{name}/run", "POST /v1/schedules/{name}/pause", "POST /v1/schedules/{name}/resume", "POST /v1/schedules/{name}/backfill",
		"GET /v1/schedules/{name}/next", "GET /v1/schedules/{name}/ticks", "POST /v1/schedules/preview", "GET /v1/dead-letters", "POST /v1/dead-letters/redrive",
		"POST /v1/dead-letters/purge", "GET /v1/agents", "GET /v1/agents/{id}", "GET /v1/agents/connect", "GET /v1/events", "GET /v1/cluster",
		"POST /v1/cluster/join", "POST /v1/cluster/remove", "POST /v1/cluster/transfer", "POST /v1/cluster/drain",
		"POST /v1/cluster/verify", "POST /v1/cluster/snapshot", "GET /v1/cluster/backup", "POST /v1/cluster/restore",
		"GET /healthz", "GET /readyz", "GET /metrics", "GET /openapi.json", "GET /docs",
	} {
		if !slices.Contains(listed, p) {
			t.Errorf("%s is missing", p)
		}
	}
}

func TestOpenAPI_is_valid(t *testing.T) {
	b := setup(t)
	doc, raw := document(t, b)
	if doc.OpenAPI != "3.1.0" || doc.Info.Title == "" || doc.Info.Version != "1.2.3" {
		t.Errorf("%+v", doc)
	}
	for _, ref := range regexp.MustCompile(`"\$ref": ?"([^"]*)"`).FindAllSubmatch(raw, -1) {
		name, ok := strings.CutPrefix(string(ref[1]), "#/components/schemas/")
		if _, known := doc.Components.Schemas[name]; !ok || !known {
			t.Errorf("%s leads nowhere", ref[1])
		}
	}
	var tags []string
	for _, tag := range doc.Tags {
		tags = append(tags, tag.Name)
	}
	ids := map[string]bool{}
	for path, item := range doc.Paths {
		for method, op := range item {
			at := method + " " + path
			if op.OperationID == "" || ids[op.OperationID] {
				t.Errorf("%s: operationId %q", at, op.OperationID)
			}
			ids[op.OperationID] = true
			if op.Summary == "" || len(op.Tags) != 1 || !slices.Contains(tags, op.Tags[0]) {
				t.Errorf("%s: summary %q, tags %q", at, op.Summary, op.Tags)
			}
			if op.Curl == "" && op.OperationID != "docs" && op.OperationID != "connectAgent" {
				t.Errorf("%s has no example", at)
			}
			checkOperation(t, at, path, &op)
		}
	}
}

func checkOperation(t *testing.T, at, path string, op *openAPIOperation) {
	t.Helper()
	seen := map[string]bool{}
	for _, p := range op.Parameters {
		if seen[p.In+p.Name] || p.Schema == nil || !slices.Contains([]string{"path", "query", "header"}, p.In) {
			t.Errorf("%s: parameter %+v", at, p)
		}
		seen[p.In+p.Name] = true
		if p.In == "path" && (!p.Required || !strings.Contains(path, "{"+p.Name+"}")) {
			t.Errorf("%s: parameter %+v", at, p)
		}
	}
	for _, name := range regexp.MustCompile(`{(\w+)}`).FindAllStringSubmatch(path, -1) {
		if !seen["path"+name[1]] {
			t.Errorf("%s: %s is not described", at, name[0])
		}
	}
	if op.RequestBody != nil && len(op.RequestBody.Content) == 0 {
		t.Errorf("%s: an empty body", at)
	}
	good := false
	for status, r := range op.Responses {
		if r.Description == "" {
			t.Errorf("%s: %s has no description", at, status)
		}
		if status[0] <= '2' {
			good = true
		} else if _, ok := r.Content["application/problem+json"]; !ok {
			t.Errorf("%s: %s is no problem", at, status)
		}
	}
	if !good {
		t.Errorf("%s never succeeds", at)
	}
}

// TestOpenAPI_describes_what_is_sent holds answers against their schemas.
func TestOpenAPI_describes_what_is_sent(t *testing.T) {
	b := setup(t, func(c *Config) { c.Cluster = newTestCluster() })
	doc, _ := document(t, b)
	id := b.die(func(s *job.Spec) {
		s.Payload, s.Tags, s.Metadata, s.Timeout = job.JSON(`{}`), []string{"a"}, job.Labels{{Key: "k", Value: "v"}}, job.Second
		s.Retry = job.Retry{Backoff: job.Fixed, Initial: job.Second}
	})
	check := func(schema string, v any) {
		t.Helper()
		s, ok := doc.Components.Schemas[schema]
		if !ok {
			t.Fatalf("no schema %s", schema)
		}
		object, _ := v.(map[string]any)
		for name, value := range object {
			p, known := s.Properties[name]
			if !known {
				t.Errorf("%s.%s is not described", schema, name)
				continue
			}
			if want, ok := p["type"].(string); ok && want != typeOfJSON(value) {
				t.Errorf("%s.%s is %s, described as %s", schema, name, typeOfJSON(value), want)
			}
		}
		for _, name := range s.Required {
			if _, ok := object[name]; !ok {
				t.Errorf("%s.%s is missing", schema, name)
			}
		}
	}
	get := func(target string) map[string]any {
		var v map[string]any
		b.get(target).want(200).into(&v)
		return v
	}
	j := get(fmt.Sprintf("/v1/jobs/%d", id))
	check("Job", j)
	check("Attempt", j["attempts"].([]any)[0])
	check("Failure", j["error"])
	check("QueueList", get("/v1/queues"))
	check("DeadLetters", get("/v1/dead-letters?consistency=linearizable"))
	check("AgentList", get("/v1/agents"))
	check("AgentInfo", get("/v1/agents/a1"))
	checkSchedules(b, get, check)
	info := get("/v1/cluster")
	check("ClusterInfo", info)
	check("Server", info["servers"].([]any)[0])
	check("Member", info["members"].([]any)[1])
	check("Installing", info["members"].([]any)[1].(map[string]any)["installing"])
	var v map[string]any
	b.send("POST", "/v1/cluster/verify", "").want(200).into(&v)
	check("Verification", v)
	events := get("/v1/events")
	check("EventList", events)
	check("Event", events["events"].([]any)[0])
	check("JobLog", get(fmt.Sprintf("/v1/jobs/%d/logs", id)))
	var p map[string]any
	if err := json.Unmarshal(b.post("/v1/jobs", `{"x":1}`).body, &p); err != nil {
		t.Fatal(err)
	}
	check("Problem", p)
	// Every field is explained to readers, in the parts that they use most.
	for _, name := range []string{
		"Job", "Submission", "Problem", "ClusterInfo", "Member", "Verification",
		"Schedule", "ScheduleBody", "CatchUp", "CatchUpBody", "ScheduleTemplate", "TickCounts", "TickEntry", "PlannedTime", "Preview", "PreviewAnswer", "Pause", "Backfill", "BackfillAnswer",
	} {
		for field, f := range doc.Components.Schemas[name].Properties {
			if text, _ := f["description"].(string); text == "" && f["$ref"] == nil {
				switch field {
				case "tags", "metadata", "correlation_id", "traceparent", "idempotency_key", "title":
				default:
					t.Errorf("%s.%s has no description", name, field)
				}
			}
		}
	}
	if extra := doc.Components.Schemas["Submission"].AdditionalProperties; extra != false {
		t.Errorf("Submission allows other properties: %v", extra)
	}
	if extra := doc.Components.Schemas["Job"].AdditionalProperties; extra != nil {
		t.Errorf("Job forbids other properties: %v", extra)
	}
}

// checkSchedules holds what is answered about schedules against the schemas.
func checkSchedules(b *testBundle, get func(string) map[string]any, check func(string, any)) {
	b.put("/v1/schedules/s", `{"description":"d","expressions":["@hourly"],"start":"2020-01-01T00:00:00Z","end":"2100-01-01T00:00:00Z","exclude":["12-24"],"jitter":"1m",`+
		`"template":{"type":"x","delay":"1s","expires_in":"1h","payload_bytes":"AA==","tags":["a"],"metadata":{"k":"v"},"retry":{"initial":"1s"}}}`).want(201)
	b.post("/v1/schedules/s/run", `{"reason":"r"}`).want(201)
	b.post("/v1/schedules/s/pause", `{"reason":"r","for":"1h"}`).want(200)
	b.patch("/v1/schedules/s", `{"timezone":"Europe/Berlin"}`).want(200)
	s := get("/v1/schedules/s")
	check("Schedule", s)
	check("CatchUp", s["catch_up"])
	check("Template", s["template"])
	check("TickCounts", s["ticks"])
	list := get("/v1/schedules?limit=1")
	check("ScheduleList", list)
	check("Schedule", list["schedules"].([]any)[0])
	next := get("/v1/schedules/s/next")
	check("NextTicks", next)
	check("PlannedTime", next["next"].([]any)[0])
	ticks := get("/v1/schedules/s/ticks?consistency=linearizable")
	check("TickList", ticks)
	check("TickEntry", ticks["ticks"].([]any)[0])
	var v map[string]any
	b.post("/v1/schedules/preview", nightly).want(200).into(&v)
	check("PreviewAnswer", v)
	v = nil
	b.post("/v1/schedules/s/backfill", `{"from":"2020-01-01T00:00:00Z","to":"2020-01-01T02:00:00Z"}`).want(200).into(&v)
	check("BackfillAnswer", v)
	v = nil
	if err := json.Unmarshal(b.put("/v1/schedules/s", `{"expressions":"x","template":{"type":"x"}}`).body, &v); err != nil {
		b.t.Fatal(err)
	}
	check("FieldError", v["errors"].([]any)[0])
}

func typeOfJSON(v any) string {
	switch v := v.(type) {
	case string:
		return "string"
	case bool:
		return "boolean"
	case float64:
		if v == float64(int64(v)) {
			return "integer"
		}
		return "number"
	case []any:
		return "array"
	case map[string]any:
		return "object"
	}
	return "null"
}

func TestDocs_need_no_network(t *testing.T) {
	b := setup(t)
	r := b.get("/docs").want(200)
	page := string(r.body)
	if !strings.Contains(page, `fetch("openapi.json")`) || regexp.MustCompile(`(?i)(src|href)\s*=\s*["']?(https?:)?//`).MatchString(page) || strings.Contains(page, "@import") {
		t.Error("the page loads something from elsewhere, or not the document")
	}
	if got := r.header.Get("Content-Security-Policy"); !strings.Contains(got, "default-src 'none'") {
		t.Errorf("Content-Security-Policy %q", got)
	}
	if !strings.HasPrefix(r.header.Get("Content-Type"), "text/html") || r.header.Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("headers %v", r.header)
	}
}
