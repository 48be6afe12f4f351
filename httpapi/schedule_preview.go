package httpapi

import (
	"net/http"
	"time"

	"github.com/orrery-io/orrery/job"
)

// Preview is the body of POST /v1/schedules/preview.
type Preview struct {
	ScheduleBody
	Name string     `json:"name,omitempty" doc:"What it will be called: hashed expressions and jitter depend on it." maxLength:"200"`
	N    int        `json:"n,omitempty" doc:"How many planned times at most." minimum:"1" maximum:"1000" default:"10"`
	From momentText `json:"from,omitzero" doc:"Begin at this time instead of now."`
}

// PreviewAnswer says what a schedule would do.
type PreviewAnswer struct {
	Summary  string        `json:"summary" doc:"When it would fire, in plain words."`
	Plain    []string      `json:"plain" doc:"The expressions with numbers for names, and in place of H what it stands for."`
	Warnings []string      `json:"warnings" doc:"What you should know before you rely on it."`
	Next     []PlannedTime `json:"next" doc:"In order. Fewer than were asked for means that there are no more."`
}

// previewFields are those of a preview that a schedule has not.
func previewFields() []string { return []string{"name", "n", "from"} }

func (a *API) previewSchedule(w *response, r *http.Request, _ *query) error {
	if _, err := contentType(r, typeJSON); err != nil {
		return err
	}
	b, err := a.read(w, r, maxSubmission)
	if err != nil {
		return err
	}
	defer a.buffers.put(b)
	if f := checkJSON("the body", b.Bytes()); f != nil {
		return f
	}
	p, err := decodePreview(b.Bytes())
	if err != nil {
		return err
	}
	now := job.At(time.Now())
	anchor := now - now%job.Time(job.Second)
	if row, err := a.machine.Schedule(p.name); err == nil {
		anchor = row.Anchor // what PUT would keep
	}
	rule, err := ruleOf(&job.Schedule{Name: p.name, Anchor: anchor, ScheduleSpec: *p.spec})
	if err != nil {
		return err
	}
	after := now
	if p.from != 0 {
		after = p.from - 1 // a tick at this very time counts
	}
	ans := PreviewAnswer{Summary: rule.Describe(), Plain: rule.Expressions(), Warnings: a.warnings(rule, p.spec, now)}
	if ans.Warnings == nil {
		ans.Warnings = []string{}
	}
	ans.Next = planned(rule, p.name, p.spec, after.Time(), p.n)
	return a.reply(w, http.StatusOK, &ans)
}

// preview is a decoded body.
type preview struct {
	spec *job.ScheduleSpec
	name string
	n    int
	from job.Time
}

func decodePreview(raw []byte) (*preview, error) {
	p := &preview{n: 10}
	var err error
	p.spec, err = decodeScheduleWith(raw, previewFields(), func(d *decoder, at path, value []byte) {
		switch at.name {
		case "name":
			p.name = d.text(at, value)
			if detail := job.CheckName(p.name); detail != "" && value[0] == '"' {
				d.fail("invalid_value", at, "%s", detail)
			}
		case "n":
			p.n = int(d.number(at, value, 1, maxNext))
		case "from":
			p.from = d.moment(at, value)
		}
	})
	return p, err
}
