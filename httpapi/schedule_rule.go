package httpapi

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/orrery-io/orrery/cron"
	"github.com/orrery-io/orrery/internal/spelling"
	"github.com/orrery-io/orrery/job"
	"github.com/orrery-io/orrery/scheduler"
)

// ruleOf makes the rule of a schedule, of which name, anchor and definition count. The
// error says what is wrong at which place of which expression.
func ruleOf(row *job.Schedule) (*cron.Rule, error) {
	rule, err := scheduler.Rule(row)
	if wrong, ok := errors.AsType[*cron.Error](err); ok {
		return nil, invalidFields("invalid_schedule", faultFields(wrong, &row.ScheduleSpec))
	}
	return rule, err
}

// faultFields turns the faults of a rule into those of fields of the body.
func faultFields(wrong *cron.Error, s *job.ScheduleSpec) []job.FieldError {
	var fields []job.FieldError
	for _, f := range wrong.Faults {
		var list []string
		pointer := "/" + f.Field
		switch f.Field {
		case cron.FieldExpressions:
			list = s.Expressions
		case cron.FieldExclude:
			list = s.Exclude
		case cron.FieldZone:
			pointer = "/timezone"
		case cron.FieldEnd:
			pointer = "/end"
		}
		e := job.FieldError{Pointer: pointer, Detail: f.Message}
		if f.Index >= 0 && f.Index < len(list) {
			e.Pointer += "/" + strconv.Itoa(f.Index)
			e.Position = position1(list[f.Index], f.Offset)
			e.Detail = fmt.Sprintf("at position %d: %s", e.Position, f.Message)
		}
		if fields = append(fields, e); len(fields) == maxFieldErrors {
			break
		}
	}
	return fields
}

// position1 counts characters from 1 up to an offset in bytes.
func position1(text string, offset int) int {
	return utf8.RuneCountInString(text[:max(0, min(offset, len(text)))]) + 1
}

// PlannedTime is one planned time of a schedule.
type PlannedTime struct {
	PlannedAt job.Time `json:"planned_at" doc:"The tick: what the expressions name, and what names the tick in the history."`
	FiresAt   job.Time `json:"fires_at" doc:"When it fires: later by the jitter."`
	Local     string   `json:"local" doc:"planned_at as a clock in the schedule's zone shows it." example:"2027-03-28T03:00:00+02:00"`
	Zone      string   `json:"zone" doc:"What the zone is called then." example:"CEST"`
}

// planned lists up to n planned times behind a moment.
func planned(rule *cron.Rule, name string, s *job.ScheduleSpec, after time.Time, n int) []PlannedTime {
	list := []PlannedTime{}
	for len(list) < n {
		t, ok := rule.Next(after)
		if !ok {
			break
		}
		local := t.In(rule.Location())
		zone, _ := local.Zone()
		list = append(list, PlannedTime{
			PlannedAt: job.At(t),
			FiresAt:   job.At(t.Add(cron.Jitter(name, t, s.Jitter.Duration()))),
			Local:     local.Format(time.RFC3339),
			Zone:      zone,
		})
		after = t
	}
	return list
}

// warnings are what a user should know of a schedule that is in order: about its
// times, and about the jobs that it would make now.
func (a *API) warnings(rule *cron.Rule, s *job.ScheduleSpec, now job.Time) []string {
	list := rule.Warnings(now.Time())
	if text := a.unhandled(&s.Template.Spec); text != "" {
		list = append(list, text)
	}
	return list
}

// unhandled says that no agent would take a job, as far as it is known; "" when one
// would, and while there is no agent at all.
func (a *API) unhandled(s *job.Spec) string {
	var types []string
	handled, agents := false, 0
	for _, agent := range a.machine.Agents() {
		if agent.Status != job.AgentReady && agent.Status != job.AgentDraining {
			continue
		}
		agents++
		for _, c := range agent.Capabilities {
			if c.Type == s.Type {
				handled = true
				if slices.Contains(agent.Queues, s.Queue) {
					return ""
				}
			}
			types = append(types, c.Type)
		}
	}
	switch {
	case agents == 0:
		return ""
	case handled:
		return fmt.Sprintf("no connected agent that handles %s takes jobs of queue %s", s.Type, s.Queue)
	}
	return fmt.Sprintf("no connected agent handles jobs of type %s%s", s.Type, spelling.DidYouMean(s.Type, types))
}
