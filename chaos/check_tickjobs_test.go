//go:build linux

package chaos

import (
	"encoding/json"

	"github.com/orrery-io/orrery/job"
)

// madeJob says which tick of which schedule made a job, by the feed.
type madeJob struct {
	schedule string
	planned  job.Time // zero for a job by hand
	deleted  bool
}

// tickToken is what the agent says in the result of such a job, from what it was told.
func tickToken(schedule string, planned job.Time) string { return schedule + " " + planned.String() }

// checkTickJobs compares the jobs of schedules that a node has with those of which
// the feed says that ticks made them.
func checkTickJobs(node string, jobs []*job.Job, made map[job.ID]*madeJob, f *findings) {
	has := map[job.ID]bool{}
	for _, j := range jobs {
		has[j.ID] = true
		m := made[j.ID]
		switch {
		case m == nil:
			f.violated(8, "%s has job %d of schedule %s (%s), of which the feed says nothing", node, j.ID, j.Schedule, j.Tick)
		case m.schedule != j.Schedule || m.planned != j.Tick:
			f.violated(8, "%s has job %d of schedule %s (%s), and by the feed it is of %s (%s)", node, j.ID, j.Schedule, j.Tick, m.schedule, m.planned)
		case j.State == job.Completed:
			var o outcome
			if err := json.Unmarshal(j.Result, &o); err != nil || o.Token != tickToken(j.Schedule, j.Tick) {
				f.violated(8, "job %d of schedule %s (%s) has the result %s", j.ID, j.Schedule, j.Tick, j.Result)
			}
		}
	}
	for id, m := range made {
		if !has[id] && !m.deleted {
			f.violated(8, "%s does not have job %d of schedule %s (%s)", node, id, m.schedule, m.planned)
		}
	}
}
