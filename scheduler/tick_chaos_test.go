package scheduler

import (
	"math/rand/v2"
	"time"

	"github.com/orrery-io/orrery/command"
	"github.com/orrery-io/orrery/job"
)

// exactlyOnce lets schedules of every catch-up policy fire under leaders that come
// and go, and a log that refuses.
func exactlyOnce(b *bundle, seed uint64) {
	b.t.Helper()
	r := rand.New(rand.NewPCG(seed, 7))
	which := rand.New(rand.NewPCG(seed, 8)) // by whoever proposes, one at a time
	policies := map[string]job.CatchUpPolicy{"last": job.CatchUpLast, "none": job.CatchUpNone, "all": job.CatchUpAll}
	for name, p := range policies {
		b.schedule(name, "* * * * * *", func(s *job.ScheduleSpec) { s.CatchUp.Policy = p })
	}
	x := b.agent("x", 4)
	work := func() {
		for _, d := range x.dispatches() {
			x.hold(d)
			x.complete(d)
		}
	}
	for range 60 {
		switch r.IntN(4) {
		case 0:
			b.stop()
			time.Sleep(time.Duration(r.IntN(5000)) * time.Millisecond)
			b.lead()
			x.connect()
		case 1:
			b.refusing(func(items []command.Item) error {
				switch {
				case items[0].Command.Kind() != command.KindTick:
					return nil
				case which.IntN(2) == 0:
					return &job.Error{Kind: job.Overloaded, Code: "overloaded"}
				default:
					return job.ErrOutcomeUnknown
				}
			})
			b.pass(time.Duration(r.IntN(2000)) * time.Millisecond)
			b.refusing(nil)
		default:
			b.pass(time.Duration(r.IntN(4000)) * time.Millisecond)
		}
		work()
	}
	b.pass(2 * time.Second)
	for name, p := range policies {
		row := b.row(name)
		var fired int64
		for at, jobs := range b.made(name) {
			fired++
			if len(jobs) != 1 || at%1000 != 0 {
				b.t.Errorf("%s: tick %s has %d jobs", name, clock(at), len(jobs))
			}
		}
		planned := int64(row.Cursor-row.CreatedAt) / 1000
		if row.Ticks.Fired != fired || fired+row.Ticks.Missed != planned {
			b.t.Errorf("%s: %d jobs, %+v, of %d planned", name, fired, row.Ticks, planned)
		}
		if p == job.CatchUpAll && row.Ticks.Missed > 0 {
			b.t.Errorf("%s: %d missed", name, row.Ticks.Missed)
		}
	}
}
