package fsm

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/orrery-io/orrery/command"
	"github.com/orrery-io/orrery/job"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// TestPlans pins how SQLite executes every hot query. A plan that changes is a
// decision: look at it, then run the test with -update.
func TestPlans(t *testing.T) {
	b := setup(t, Config{})
	b.do(submission(nil))
	b.do(&command.Migrate{To: NewestSchema})
	filter := JobFilter{
		Queues: []string{"a", "b"}, Types: []string{"t"}, Tags: []string{"x"}, Agents: []string{"g"}, CorrelationID: "c",
		CreatedAfter: 1, CreatedBefore: 2, FinishedAfter: 3, FinishedBefore: 4, ErrorKinds: []string{"e"},
	}
	where, _ := filter.where()
	froms := func(states ...job.State) string { return (&JobFilter{States: states}).sources(NewestSchema)[0].sql }
	scheduled := (&JobFilter{Schedules: []string{"s"}}).sources(NewestSchema)[0].sql
	queries := []struct{ name, sql string }{
		{"a job by id", sqlGetJob},
		{"an idempotency key", sqlGetKey},
		{"the head of a log", sqlGetHead},
		{"a chunk of a log", sqlGetChunk},
		{"ready jobs, same moment", sqlReadySame},
		{"ready jobs, same priority", sqlReadyLater},
		{"ready jobs, lower priorities", sqlReadyBelow},
		{"next type of ready jobs in a queue", sqlNextType},
		{"next queue of ready jobs", sqlNextQueue},
		{"due jobs", sqlDue},
		{"expiring jobs", sqlExpiring},
		{"active jobs", sqlActive + "3" + sqlActiveBy},
		{"ended jobs", sqlEnded},
		{"list of all jobs", sqlSelect + froms() + sqlJobsOrder},
		{"list of completed jobs", sqlSelect + froms(job.Completed) + sqlJobsOrder},
		{"list of failed jobs", sqlSelect + froms(job.Failed) + sqlJobsOrder},
		{"list of pending jobs, all filters", sqlSelect + froms(job.Pending) + where + sqlJobsOrder},
		{"list, all filters", sqlSelect + froms() + where + sqlJobsOrder},
		{"list of the jobs of a schedule, all filters", sqlSelect + scheduled + where + sqlJobsOrder},
		{"count of failed jobs, all filters", sqlSelectNo + froms(job.Failed) + where},
		{"dead letters in groups", sqlSelectNo + froms(job.TimedOut)},
		{"events", sqlReadFeed},
		{"size of the feed", sqlFeedSize},
		{"size of what a trim drops", sqlFeedSum},
		{"trim of the feed", sqlTrimFeed},
		{"trim of request ids", sqlTrimRequests},
		{"delete of a job", sqlDropJob},
		{"delete of the head of a log", sqlDropHead},
		{"history of a schedule", sqlTicks},
		{"delete of an entry of a history", sqlDropTick},
	}
	var out strings.Builder
	for _, q := range queries {
		fmt.Fprintf(&out, "%s\n", q.name)
		args := make([]any, strings.Count(q.sql, "?"))
		for i := range args {
			args[i] = 1
		}
		for _, step := range plan(t, b.m.store, q.sql, args) {
			fmt.Fprintf(&out, "\t%s\n", step)
			if strings.Contains(step, "TEMP B-TREE") {
				t.Errorf("%s sorts: %s", q.name, step)
			}
		}
	}
	const golden = "testdata/plans.txt"
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		write(t, golden, out.String())
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if out.String() != string(want) {
		t.Errorf("the plans have changed; they are now\n%s", out.String())
	}
}

// plan asks SQLite how it would execute a query.
func plan(t *testing.T, s *store, query string, args []any) (steps []string) {
	t.Helper()
	rows, err := s.lists.QueryContext(t.Context(), "EXPLAIN QUERY PLAN "+query, args...)
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	defer rows.Close()
	for rows.Next() {
		var id, parent, unused int
		var detail string
		if err := rows.Scan(&id, &parent, &unused, &detail); err != nil {
			t.Fatal(err)
		}
		steps = append(steps, detail)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return steps
}
