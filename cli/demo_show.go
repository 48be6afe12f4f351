package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/orrery-io/orrery/client"
	"github.com/orrery-io/orrery/job"
)

const (
	prompt    = job.Duration(0)
	lingering = job.Minute
	demoBatch = 500
	// demoRescued and demoLast are how many of the rescued and of the last jobs the
	// table at the end has.
	demoRescued, demoLast = 4, 8
)

// demoMismatch is a result that is not what it should be.
type demoMismatch struct {
	Job  job.ID `json:"job"`
	File string `json:"file"`
	Got  string `json:"got"`
	Want string `json:"want"`
}

// submit submits one job per file and returns their ids, in order.
func (d *demo) submit(ctx context.Context, files []demoFile, linger job.Duration) ([]job.ID, error) {
	ids := make([]job.ID, 0, len(files))
	for len(files) > 0 {
		n := min(len(files), demoBatch)
		batch := make([]client.Submission, n)
		for i, f := range files[:n] {
			batch[i] = client.Submission{
				Type: demoType, Payload: hashArgs{f.path, linger}, Tags: []string{"demo"},
				Metadata: map[string]string{"file": clipBytes(f.name, job.MaxLabelValue)},
			}
		}
		res, err := d.c.SubmitBatch(ctx, batch, client.BatchOptions{Atomic: true})
		if err != nil {
			return nil, fmt.Errorf("submit %d jobs: %w", n, err)
		}
		for i, it := range res.Items {
			if it.Problem != nil {
				return nil, fmt.Errorf("submit the job for %s: %w", files[i].name, it.Problem)
			}
			ids = append(ids, it.ID)
		}
		files = files[n:]
	}
	return ids, nil
}

// clipBytes shortens s to n bytes of valid UTF-8.
func clipBytes(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "")
}

// compare fetches every job and compares its result with the file.
func (d *demo) compare(ctx context.Context, rep *demoReport) error {
	jobs := make([]*job.Job, 0, len(d.files))
	opts := client.ListOptions{Filter: client.Filter{Types: []string{demoType}}, PageSize: 500, Linearizable: true}
	for j, err := range d.c.List(ctx, opts) {
		if err != nil {
			return fmt.Errorf("list the jobs: %w", err)
		}
		jobs = append(jobs, j)
	}
	files := make(map[string]demoFile, len(d.files))
	for _, f := range d.files {
		files[f.path] = f
	}
	seen := make(map[string]bool, len(d.files))
	for _, j := range jobs {
		var args hashArgs
		var got hashResult
		_ = json.Unmarshal(j.Payload, &args)
		_ = json.Unmarshal(j.Result, &got)
		f, ours := files[args.Path]
		if !ours || seen[args.Path] {
			rep.Disagree++
			rep.Wrong = append(rep.Wrong, demoMismatch{j.ID, args.Path, "a second job for one file", ""})
			continue
		}
		seen[args.Path] = true
		want, _, err := hashFile(ctx, f.path)
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case err == nil && j.State == job.Completed && got.SHA256 == want:
			rep.Agree++
		case f.changed():
			rep.Changed++
		default:
			rep.Disagree++
			rep.Wrong = append(rep.Wrong, demoMismatch{j.ID, f.name, j.State.String() + " " + got.SHA256, want})
		}
	}
	if missing := len(d.files) - len(seen); missing > 0 {
		rep.Disagree += missing
		rep.Wrong = append(rep.Wrong, demoMismatch{0, fmt.Sprintf("%d files", missing), "no job", ""})
	}
	return d.showJobs(jobs, rep)
}

// tell shows what is new: losses and rescues, and how far it is.
func (d *demo) tell() {
	for news := d.feed.news; len(news) > 0; {
		n := 1
		for n < len(news) && news[n].what == news[0].what && news[n].attempt == news[0].attempt && news[n].agent == news[0].agent {
			n++
		}
		d.line("")
		d.sayf("%s\n", newsText(news[:n]))
		news = news[n:]
	}
	d.feed.news = d.feed.news[:0]
	total := len(d.files)
	if d.tty {
		d.line(fmt.Sprintf("         %d of %d jobs done", d.feed.ended, total))
		return
	}
	// Four plain lines at most: at each quarter.
	if quarter := d.feed.ended * 4 / total; quarter > d.quarter {
		d.quarter = quarter
		d.sayf("         %d of %d jobs done\n", d.feed.ended, total)
	}
}

// newsText is a line about what happened to several jobs alike.
func newsText(news []demoNews) string {
	ids := make([]job.ID, len(news))
	for i, n := range news {
		ids[i] = n.job
	}
	first := news[0]
	if first.what == "rescue" {
		return fmt.Sprintf("rescue   attempt %d on %s: job %s", first.attempt, first.agent, ranges(ids))
	}
	return fmt.Sprintf("%-8s attempt %d on %s; back in the queue: job %s", first.what, first.attempt, first.agent, ranges(ids))
}

// ranges writes ids as "1, 5-9".
func ranges(ids []job.ID) string {
	ids = slices.Sorted(slices.Values(ids))
	var parts []string
	for len(ids) > 0 {
		n := 1
		for n < len(ids) && ids[n] == ids[n-1]+1 {
			n++
		}
		part := ids[0].String()
		if n > 1 {
			part += "-" + ids[n-1].String()
		}
		parts, ids = append(parts, part), ids[n:]
	}
	return strings.Join(parts, ", ")
}

// line replaces the line that is updated on a terminal.
func (d *demo) line(text string) {
	if d.tty {
		d.sayf("\r\x1b[K%s", text)
	}
}

func (d *demo) showFound(f *demoFiles) {
	d.sayf("files    %s below %s\n", count(len(f.files), "file"), printable(f.root))
	if f.more {
		d.sayf("         there are more; --max-files takes more than %d\n", d.opts.maxFiles)
	}
	if f.large > 0 {
		d.sayf("         %s left out, each over %d MiB\n", count(f.large, "file"), maxDemoFile>>20)
	}
	for i, u := range f.unreadable {
		if i == 5 {
			d.sayf("         and %d more\n", len(f.unreadable)-i)
			break
		}
		d.sayf("         unreadable: %s\n", printable(u))
	}
}

// showJobs shows what the jobs gave: the first of those rescued, and the last ones.
func (d *demo) showJobs(newestFirst []*job.Job, rep *demoReport) error {
	rescued := make(map[job.ID]bool, len(rep.Rescued))
	for _, r := range rep.Rescued[:min(len(rep.Rescued), demoRescued)] {
		rescued[r.Job] = true
	}
	d.sayf("\n")
	t := newTable(d.out, "JOB", "FILE", "BYTES", "SHA-256", "TRY", "AGENT")
	for i, j := range slices.Backward(newestFirst) {
		if !rescued[j.ID] && i >= demoLast {
			continue
		}
		var res hashResult
		_ = json.Unmarshal(j.Result, &res)
		file, _ := j.Metadata.Get("file")
		t.row(j.ID, clipFront(file, 48), res.Bytes, clipBytes(res.SHA256, 16), j.Attempt(), j.Agent)
	}
	return t.end()
}

// clipFront shortens a path from its front.
func clipFront(s string, n int) string {
	r := []rune(s)
	if len(r) <= n {
		return s
	}
	return "…" + string(r[len(r)-n+1:])
}

func (d *demo) showReport(rep *demoReport) {
	d.sayf("\n%s in %s: %d results agree with the hashes computed directly, %d differ\n", count(rep.Files, "job"), rep.Took, rep.Agree, rep.Disagree)
	if rep.Changed > 0 {
		d.sayf("%s changed in the meantime and cannot be compared\n", count(rep.Changed, "file"))
	}
	lost := 0
	for _, r := range rep.Rescued {
		lost += len(r.Losses)
	}
	d.sayf("%s lost with the killed agent, %s run again by another one and recorded once\n", count(lost, "attempt"), count(len(rep.Rescued), "job"))
	for i, w := range rep.Wrong {
		if i == 10 {
			d.sayf("and %d more\n", len(rep.Wrong)-i)
			break
		}
		d.sayf("wrong: job %d, %s: %s, want %s\n", w.Job, printable(w.File), w.Got, w.Want)
	}
}

func (d *demo) showWhereToLook() {
	d.sayf(`
The node is still up. Look around in another terminal:

  curl -s %[1]s/v1/jobs/1
  curl -s '%[1]s/v1/jobs?limit=5'
  curl -sN -H 'Accept: text/event-stream' '%[1]s/v1/events?after=0.0'
  export ORRERY_ADDR=%[1]s; orrery job show 1 --events

API    %[1]s/docs
Data   %[2]s (removed at the end)
Stop   Ctrl-C
`, d.url, d.tmp)
}

// lastLines is the end of a file, "" when there is none.
func lastLines(path string, n int) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	all := strings.Split(strings.TrimSpace(string(b)), "\n")
	return strings.Join(all[max(0, len(all)-n):], "\n")
}
