package httpapi

import (
	"net/http"
	"slices"
	"strings"

	"github.com/orrery-io/orrery/job"
)

// ScheduleBody is what a user says of a schedule. It is read by decodeSchedule; the
// struct is what the OpenAPI document says of it, and a test compares the two.
type ScheduleBody struct {
	Description string           `json:"description,omitempty" doc:"For people." maxLength:"1000"`
	Expressions expressionsText  `json:"expressions" doc:"When it fires: cron with 5 or 6 fields, @daily and the like, @every 90s, @at 2027-01-31T08:00:00Z. A moment that several name counts once."`
	Timezone    string           `json:"timezone,omitempty" doc:"The IANA name of the zone in which they are read." default:"UTC" example:"Europe/Berlin"`
	Start       momentText       `json:"start,omitzero" doc:"Nothing is planned before."`
	End         momentText       `json:"end,omitzero" doc:"Nothing is planned at this time or later."`
	Exclude     []string         `json:"exclude,omitempty" doc:"Dates and weekly windows to leave out." maxItems:"200" example:"12-24..12-26"`
	Jitter      durationText     `json:"jitter,omitzero" doc:"Each tick fires later by something below this that is always the same for the same tick; at most 24h."`
	CatchUp     CatchUpBody      `json:"catch_up,omitzero" doc:"What becomes of ticks that could not fire in their time. A policy alone may be given as text."`
	Overlap     string           `json:"overlap,omitempty" doc:"What a tick does while jobs of the schedule have not ended: make another one, make none, wait until they have (one tick waits), or cancel them and wait." enum:"allow,skip,queue_one,cancel_running" default:"allow"`
	Template    ScheduleTemplate `json:"template" doc:"The job that each tick makes: the fields of POST /v1/jobs but those that fix a moment or make two jobs one."`
}

// ScheduleTemplate is the job of each tick.
type ScheduleTemplate struct {
	Type          string            `json:"type" doc:"Selects the handler." minLength:"1" maxLength:"200" example:"report.build"`
	Queue         string            `json:"queue,omitempty" doc:"The queue that the jobs wait in." maxLength:"200" default:"default"`
	Payload       anyJSON           `json:"payload,omitzero" doc:"Any JSON value, the same for every tick. The handler is told the schedule and the planned time beside it."`
	PayloadBytes  []byte            `json:"payload_bytes,omitempty" doc:"Raw bytes in base64, instead of payload."`
	Priority      int               `json:"priority,omitempty" doc:"Higher first." minimum:"0" maximum:"9" default:"4"`
	Delay         durationText      `json:"delay,omitzero" doc:"How long after its tick the job may first run."`
	MaxAttempts   int               `json:"max_attempts,omitempty" doc:"How many executions may fail or time out." minimum:"1" maximum:"100" default:"5"`
	Retry         RetryPolicy       `json:"retry,omitzero" doc:"The delays between attempts."`
	Timeout       durationText      `json:"timeout,omitzero" doc:"Bounds one attempt."`
	Lease         durationText      `json:"lease,omitzero" doc:"How long the agent may be silent before the attempt is lost."`
	ExpiresIn     durationText      `json:"expires_in,omitzero" doc:"The job ends as expired when it was not started within this time after its tick."`
	Tags          []string          `json:"tags,omitempty" doc:"Words to find the jobs by." maxItems:"32"`
	Metadata      map[string]string `json:"metadata,omitempty" doc:"Keys and values to find the jobs by; the handler gets them too."`
	CorrelationID string            `json:"correlation_id,omitempty" doc:"Ties together what belongs together." maxLength:"256"`
	Traceparent   string            `json:"traceparent,omitempty" doc:"W3C trace context." maxLength:"64"`
	Retention     durationText      `json:"retention,omitzero" doc:"How long each job is kept after it ended."`
}

// CatchUpBody is what the OpenAPI document says of job.CatchUp.
type CatchUpBody struct {
	Policy string       `json:"policy,omitempty" doc:"last fires the newest one of them, none only one that is at most a minute late, all each of them in order." enum:"last,none,all" default:"last"`
	Window durationText `json:"window,omitzero" doc:"How late a tick may be and still fire; 24h by default."`
	Max    int          `json:"max,omitempty" doc:"How many fire at once with all: the newest." minimum:"1" maximum:"1000" default:"100"`
}

// scheduleNames are the fields of a schedule that a user gives.
func scheduleNames() []string {
	return []string{"description", "expressions", "timezone", "start", "end", "exclude", "jitter", "catch_up", "overlap", "template"}
}

// shownNames are fields that only answers have. Who sends back what was read is told
// so, instead of being asked whether a near name was meant.
func shownNames() []string {
	return []string{
		"id", "name", "revision", "created_at", "updated_at", "anchor", "paused", "pause_reason", "paused_at", "paused_until",
		"next_at", "queued", "open", "open_jobs", "ticks", "last_tick", "last_job", "state", "summary", "warnings",
	}
}

func catchUpNames() []string { return []string{"policy", "window", "max"} }

// decodeSchedule reads what a user says of a schedule. What it returns is checked
// and complete, but for what only package cron can tell, and shares no memory with
// raw, which must have passed checkJSON.
func decodeSchedule(raw []byte) (*job.ScheduleSpec, error) {
	return decodeScheduleWith(raw, nil, nil)
}

// decodeScheduleWith does the same with fields besides, which it hands to set.
func decodeScheduleWith(raw []byte, more []string, set func(d *decoder, p path, value []byte)) (*job.ScheduleSpec, error) {
	var d decoder
	s := &job.ScheduleSpec{}
	var inner error // what is wrong with the template
	known := append(scheduleNames(), more...)
	names := append(known, shownNames()...)
	has := false
	d.object(path{}, raw, names, func(n int, value []byte) {
		p := path{"", names[n]}
		switch {
		case slices.Contains(more, names[n]):
			set(&d, p, value)
		case n >= len(known):
			d.fail("read_only_field", p, "is not for you to set; leave it out%s", insteadOf(names[n]))
		case names[n] == "template":
			has = true
			s.Template, inner = decodeTemplate(p, value)
		default:
			scheduleField(&d, s, p, value)
		}
	})
	if !has && (len(d.fields) == 0 || d.fields[0].Pointer != "") {
		d.fail("missing_field", path{"", "template"}, "is required: the job that each tick makes, such as {\"type\":\"report\"}")
	}
	s.Normalize()
	if err := merge(&d, inner); err != nil {
		return nil, err
	}
	if len(d.fields) == 0 {
		for _, f := range s.Check() {
			d.add("invalid_value", f)
		}
	}
	d.times(s)
	return s, d.err()
}

// times adds what is wrong with the times of a schedule, but for fields of which
// something is known already.
func (d *decoder) times(s *job.ScheduleSpec) {
	_, err := ruleOf(&job.Schedule{ScheduleSpec: *s})
	wrong, ok := err.(*fault) //nolint:errorlint // made by ruleOf, never wrapped
	if !ok {
		return
	}
	before := d.fields
	for _, f := range wrong.fields {
		known := slices.ContainsFunc(before, func(b job.FieldError) bool {
			return b.Pointer == f.Pointer || strings.HasPrefix(b.Pointer, f.Pointer+"/") || strings.HasPrefix(f.Pointer, b.Pointer+"/")
		})
		if !known {
			d.add(wrong.public.Code, f)
		}
	}
}

// insteadOf says which request sets a field that is no part of the definition.
func insteadOf(name string) string {
	switch name {
	case "paused", "pause_reason", "paused_until":
		return ", and POST …/pause or …/resume"
	case "name":
		return ": it stands in the path"
	}
	return ""
}

// merge takes over what is wrong with the template. What is not about its fields is
// returned.
func merge(d *decoder, inner error) error {
	f, ok := inner.(*fault) //nolint:errorlint // made by the decoder, never wrapped
	if !ok || f.public.Kind != job.Invalid {
		return inner
	}
	for _, e := range f.fields {
		d.add(f.public.Code, e)
	}
	return nil
}

func scheduleField(d *decoder, s *job.ScheduleSpec, p path, value []byte) {
	switch p.name {
	case "description":
		s.Description = d.text(p, value)
	case "expressions":
		if value[0] == '"' {
			s.Expressions = []string{d.text(p, value)}
			return
		}
		s.Expressions = d.texts(p, value, job.MaxExpressions)
	case "timezone":
		s.Timezone = d.text(p, value)
	case "start":
		s.Start = d.moment(p, value)
	case "end":
		s.End = d.moment(p, value)
	case "exclude":
		s.Exclude = d.texts(p, value, job.MaxExclusions)
	case "jitter":
		s.Jitter = d.duration(p, value, true)
	case "catch_up":
		s.CatchUp = decodeCatchUp(d, p, value)
	case "overlap":
		d.parse(p, value, &s.Overlap)
	}
}

func decodeCatchUp(d *decoder, p path, raw []byte) (c job.CatchUp) {
	if raw[0] == '"' {
		d.parse(p, raw, &c.Policy)
		return c
	}
	names, parent := catchUpNames(), p.String()
	d.object(p, raw, names, func(n int, value []byte) {
		at := path{parent, names[n]}
		switch names[n] {
		case "policy":
			d.parse(at, value, &c.Policy)
		case "window":
			c.Window = d.duration(at, value, false)
		case "max":
			c.Max = int(d.number(at, value, 1, job.MaxCatchUp))
		}
	})
	return c
}

// decodeTemplate reads the job of each tick, with the decoder of submissions.
func decodeTemplate(p path, raw []byte) (job.Template, error) {
	s, err := decodeSubmission(p, raw)
	if err != nil {
		return job.Template{}, err
	}
	return job.Template{Spec: s.spec, Delay: s.delay, ExpiresIn: s.expiresIn}, nil
}

// readSchedule reads a body of that kind.
func (a *API) readSchedule(w *response, r *http.Request) (*job.ScheduleSpec, error) {
	if _, err := contentType(r, typeJSON); err != nil {
		return nil, err
	}
	b, err := a.read(w, r, maxSubmission)
	if err != nil {
		return nil, err
	}
	defer a.buffers.put(b)
	if f := checkJSON("the body", b.Bytes()); f != nil {
		return nil, f
	}
	return decodeSchedule(b.Bytes())
}
