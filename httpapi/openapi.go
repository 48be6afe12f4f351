package httpapi

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/danielgtaylor/huma/v2"
)

// openAPI makes the document (OpenAPI 3.1, JSON) of all routes.
func openAPI(version string, routes []route) ([]byte, error) {
	reg := newRegistry()
	doc := &huma.OpenAPI{
		OpenAPI: "3.1.0",
		Info: &huma.Info{
			Title:       "Orrery",
			Version:     version,
			Description: "Durable jobs on a mesh of agents. Every answer that is not a success is application/problem+json (RFC 9457). Fields that are not known are refused.",
			License:     &huma.License{Name: "MIT", Identifier: "MIT"},
		},
		Components: &huma.Components{
			SecuritySchemes: map[string]*huma.SecurityScheme{
				"token": {Type: "http", Scheme: "bearer", Description: "The node's token. A node without one takes requests from its own machine only."},
			},
		},
		Security: []map[string][]string{{"token": {}}, {}},
		Tags: []*huma.Tag{
			{Name: "jobs", Description: "Submit, watch and control jobs."},
			{Name: "queues", Description: "What waits where; pause and resume."},
			{Name: "schedules", Description: "Jobs that make themselves: by cron, by interval, at one time."},
			{Name: "dead-letters", Description: "Jobs that failed for good: look, run again, remove."},
			{Name: "agents", Description: "Who executes."},
			{Name: "events", Description: "The ordered feed of everything that happens."},
			{Name: "cluster", Description: "The nodes together: members, leadership, backups."},
			{Name: "node", Description: "The node that answers."},
		},
	}
	requests := map[string]bool{}
	for i := range routes {
		doc.AddOperation(operation(reg, &routes[i], requests))
	}
	schemas := reg.Map()
	doc.Components.Schemas = reg
	describe(schemas, requests)
	b, err := json.MarshalIndent(doc, "", " ")
	if err != nil {
		return nil, fmt.Errorf("make the OpenAPI document: %w", err)
	}
	return append(b, '\n'), nil
}

// operation makes the documentation of a route. The names of schemas that stand in
// requests are added to requests.
func operation(reg huma.Registry, rt *route, requests map[string]bool) *huma.Operation {
	op := &huma.Operation{
		Method: rt.method, Path: rt.path, OperationID: rt.id,
		Summary: rt.summary, Description: rt.doc, Tags: []string{rt.tag},
		Responses:  map[string]*huma.Response{},
		Extensions: map[string]any{},
	}
	if rt.curl != "" {
		op.Extensions["x-curl"] = rt.curl
	}
	if rt.open {
		op.Security = []map[string][]string{{}}
	}
	for _, name := range rt.pathParams() {
		s := &huma.Schema{Type: huma.TypeString}
		if name == "id" && strings.HasPrefix(rt.path, "/v1/jobs/") {
			s = &huma.Schema{Type: huma.TypeInteger, Format: "int64", Minimum: new(float64(1))}
		}
		op.Parameters = append(op.Parameters, &huma.Param{Name: name, In: "path", Required: true, Schema: s})
	}
	for _, p := range rt.params {
		op.Parameters = append(op.Parameters, p.document())
	}
	if rt.body != nil {
		media := rt.bodyTypes
		if len(media) == 0 {
			media = []string{typeJSON}
		}
		before := mapNames(reg.Map())
		s := reg.Schema(rt.body, true, rt.id+"Request")
		for name := range reg.Map() {
			if !before[name] {
				requests[name] = true
			}
		}
		op.RequestBody = &huma.RequestBody{Required: !rt.optional, Content: map[string]*huma.MediaType{}}
		for _, m := range media {
			one := s
			if m == typeNDJSON && s.Items != nil {
				one = s.Items // one job on each line
			}
			op.RequestBody.Content[m] = &huma.MediaType{Schema: one}
		}
	}
	for _, ans := range rt.answers {
		r := &huma.Response{Description: ans.doc}
		if rt.tag != "node" {
			r.Headers = map[string]*huma.Header{"Orrery-Index": {Description: "A log index that the answer includes.", Schema: &huma.Schema{Type: huma.TypeInteger, Format: "int64"}}}
		}
		if ans.body != nil || len(ans.media) > 0 {
			r.Content = map[string]*huma.MediaType{}
		}
		if ans.body != nil {
			r.Content[typeJSON] = &huma.MediaType{Schema: reg.Schema(ans.body, true, rt.id+"Answer")}
		}
		for m, what := range ans.media {
			r.Content[m] = &huma.MediaType{Schema: &huma.Schema{Type: huma.TypeString, Description: what}}
		}
		op.Responses[strconv.Itoa(ans.status)] = r
	}
	problem := reg.Schema(typeOf[Problem](), true, "Problem")
	refuse := func(key, text string) {
		op.Responses[key] = &huma.Response{
			Description: text,
			Content:     map[string]*huma.MediaType{"application/problem+json": {Schema: problem}},
		}
	}
	refuse("default", "What went wrong.")
	for _, status := range rt.refusals {
		refuse(strconv.Itoa(status), http.StatusText(status))
	}
	return op
}

func mapNames(m map[string]*huma.Schema) map[string]bool {
	names := make(map[string]bool, len(m))
	for n := range m {
		names[n] = true
	}
	return names
}

func (p *param) document() *huma.Param {
	in := p.in
	if in == "" {
		in = "query"
	}
	d := &huma.Param{Name: p.name, In: in, Description: p.doc, Example: p.example}
	s := &huma.Schema{Type: huma.TypeString, Default: p.def}
	switch p.kind {
	case "integer":
		s.Type, s.Format = huma.TypeInteger, "int64"
	case "boolean":
		s.Type = huma.TypeBoolean
	case "list":
		s.Type = huma.TypeArray
		s.Items = &huma.Schema{Type: huma.TypeString}
		d.Style, d.Explode = "form", new(false)
		if p.example != nil {
			d.Example = strings.Split(fmt.Sprint(p.example), ",")
		}
	}
	if prefix, ok := strings.CutSuffix(p.name, ".*"); ok {
		// An exploded object has each of its fields as a parameter: meta.env=prod.
		d.Name, d.Style, d.Explode = prefix, "form", new(true)
		s = labelsObject{}.Schema(nil)
	}
	for _, v := range p.values {
		if s.Items != nil {
			s.Items.Enum = append(s.Items.Enum, v)
		} else {
			s.Enum = append(s.Enum, v)
		}
	}
	d.Schema = s
	return d
}

// describe adds what the Go types do not say.
func describe(schemas map[string]*huma.Schema, requests map[string]bool) {
	docs := fieldDocs()
	for name, s := range schemas {
		if !requests[name] {
			// Answers may get more fields in later versions.
			s.AdditionalProperties = nil
		}
		for field, f := range s.Properties {
			if text := docs[name][field]; text != "" {
				f.Description = text
			}
			// Empty lists are [], never null.
			if f.Type == huma.TypeArray {
				f.Nullable = false
			}
		}
		slices.Sort(s.Required)
	}
}
