package httpapi

import (
	"net/http"
	"strconv"
	"time"

	"github.com/orrery-io/orrery/command"
	"github.com/orrery-io/orrery/cron"
	"github.com/orrery-io/orrery/job"
	"github.com/orrery-io/orrery/scheduler"
)

// Backfill is the body of POST …/backfill.
type Backfill struct {
	From   momentText `json:"from" doc:"The first planned time that counts."`
	To     momentText `json:"to,omitzero" doc:"Up to here, itself not included; now by default, and not later."`
	Reason string     `json:"reason,omitempty" doc:"Why, in a sentence." maxLength:"500"`
	DryRun bool       `json:"dry_run,omitempty" doc:"Only count."`
}

// BackfillAnswer says what a backfill did.
type BackfillAnswer struct {
	Count  int      `json:"count" doc:"How many planned times there are in the range."`
	First  job.Time `json:"first,omitempty,omitzero" doc:"The first of them."`
	Last   job.Time `json:"last,omitempty,omitzero" doc:"The last of them."`
	Jobs   []job.ID `json:"jobs" doc:"The jobs that were made, in the order of the planned times."`
	DryRun bool     `json:"dry_run,omitempty" doc:"Nothing was made."`
}

const (
	// maxBackfillBytes bounds the payloads that one backfill copies.
	maxBackfillBytes = 64 << 20
	// maxTicksCounted is how far the ticks of a range that is too long are counted.
	maxTicksCounted = 1_000_000
)

func (a *API) backfill(w *response, r *http.Request, _ *query) error {
	name, err := pathName(r, "name", "a schedule")
	if err != nil {
		return err
	}
	request, err := requestID(r)
	if err != nil {
		return err
	}
	b, err := a.readBackfill(w, r)
	if err != nil {
		return err
	}
	// The times are those of the definition that everybody knows of.
	if err := a.caughtUp(r.Context()); err != nil {
		return err
	}
	row, err := a.machine.Schedule(name)
	if err != nil {
		return unknownSchedule(name, err)
	}
	rule, err := ruleOf(row)
	if err != nil {
		return err
	}
	most := job.MaxBackfill
	if size := len(row.Template.Payload) + len(row.Template.PayloadBytes); size > 0 {
		most = min(most, max(1, maxBackfillBytes/size))
	}
	times, err := plannedBetween(rule, b.from, b.to, most)
	if err != nil {
		return err
	}
	ans := BackfillAnswer{Count: len(times), Jobs: []job.ID{}, DryRun: b.dryRun}
	if len(times) > 0 {
		ans.First, ans.Last = times[0], times[len(times)-1]
	}
	if !b.dryRun && len(times) > 0 {
		res, err := a.proposeSchedule(r.Context(), w, request, &command.RunSchedule{Schedule: name, Times: times, Reason: b.reason})
		if err != nil {
			return unknownSchedule(name, err)
		}
		ans.Jobs = res.Jobs
	}
	return a.reply(w, http.StatusOK, &ans)
}

// backfillRange is a decoded body.
type backfillRange struct {
	from, to job.Time
	reason   string
	dryRun   bool
}

func (a *API) readBackfill(w *response, r *http.Request) (*backfillRange, error) {
	now := job.At(time.Now())
	b := &backfillRange{to: now}
	names := []string{"from", "to", "reason", "dry_run"}
	err := a.object(w, r, maxSmall, false, names, func(d *decoder, p path, name string, value []byte) {
		switch name {
		case "from":
			b.from = d.moment(p, value)
		case "to":
			if b.to = d.moment(p, value); b.to > now {
				d.fail("invalid_value", p, "is in the future; what is planned then fires by itself")
			}
		case "reason":
			b.reason = d.reason(p, value)
		case "dry_run":
			b.dryRun = d.boolean(p, value)
		}
	})
	switch {
	case err != nil:
		return nil, err
	case b.from == 0:
		return nil, invalidFields("missing_field", []job.FieldError{{Pointer: "/from", Detail: "is required: the first planned time that counts"}})
	case b.from >= b.to:
		return nil, invalidFields("invalid_value", []job.FieldError{{Pointer: "/from", Detail: "must be before to, which is " + b.to.String()}})
	}
	return b, nil
}

// plannedBetween returns the planned times from one moment up to another, itself not
// included. More than most of them are refused.
func plannedBetween(rule *cron.Rule, from, to job.Time, most int) ([]job.Time, error) {
	var times []job.Time
	n := 0
	var over job.Time // the first one too many
	for t := scheduler.NextTick(rule, from-1); t != 0 && t < to && n <= maxTicksCounted; t = scheduler.NextTick(rule, t) {
		switch {
		case n < most:
			times = append(times, t)
		case n == most:
			over = t
		}
		n++
	}
	if over == 0 {
		return times, nil
	}
	count := strconv.Itoa(n)
	if n > maxTicksCounted {
		count = "more than " + strconv.Itoa(maxTicksCounted)
	}
	return nil, &fault{
		public: job.Errorf(job.Invalid, "too_many_ticks", "there are %s planned times in this range; one backfill makes at most %d jobs of this schedule", count, most).
			WithHint("divide the range: with \"to\": %q it has %d, and the next one begins there", over, most),
		status: http.StatusUnprocessableEntity,
	}
}
