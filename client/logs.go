package client

import (
	"context"
	"encoding/json"
	"iter"
	"net/http"
	"net/url"
	"strconv"

	"github.com/orrery-io/orrery/job"
)

// LogLine is one line of a job's log.
type LogLine struct {
	// Attempt is the number of the attempt that logged it.
	Attempt int       `json:"attempt"`
	Fence   job.Fence `json:"fence"`
	job.LogLine
}

// LogCut says what of a log was not kept, because it passed the bound on what is
// kept of one attempt.
type LogCut struct {
	Attempt int   `json:"attempt"`
	Lines   int64 `json:"lines"`
	Bytes   int64 `json:"bytes"`
	// After is the number of the last line before the gap.
	After int64 `json:"after"`
}

// LogOptions says which lines to read.
type LogOptions struct {
	// Attempt selects one attempt; zero means the newest.
	Attempt int
	// After skips the lines of the attempt up to that number.
	After int64
	// Tail starts so many lines before the end; zero means at the start.
	Tail int
	// Limit ends after so many lines; zero means no limit. It does not go with
	// Follow.
	Limit int
	// Follow goes on with lines as they are logged, until the job has ended: through
	// all attempts to come, or only the one that Attempt selects.
	Follow bool
	// OnProgress, with Follow, is called with what the handler reports.
	OnProgress func(job.Progress)
	// OnCut is called before the lines when some were not kept.
	OnCut func(LogCut)
}

// Logs yields the lines of a job's log, oldest first. It ends after the first
// error. When following, an interrupted connection is taken up again where it
// broke off.
func (c *Client) Logs(ctx context.Context, id job.ID, opts LogOptions) iter.Seq2[LogLine, error] {
	return func(yield func(LogLine, error) bool) {
		if opts.Follow {
			c.followLog(ctx, id, opts, yield)
			return
		}
		c.readLog(ctx, id, opts, yield)
	}
}

func (o LogOptions) values() url.Values {
	q := url.Values{}
	if o.Attempt > 0 {
		q.Set("attempt", strconv.Itoa(o.Attempt))
	}
	if o.After > 0 {
		q.Set("after", strconv.FormatInt(o.After, 10))
	}
	if o.Tail > 0 {
		q.Set("tail", strconv.Itoa(o.Tail))
	}
	return q
}

const logPage = 1000

func (c *Client) readLog(ctx context.Context, id job.ID, opts LogOptions, yield func(LogLine, error) bool) {
	q := opts.values()
	left := opts.Limit
	told := false
	for {
		size := logPage
		if opts.Limit > 0 {
			size = min(size, left)
		}
		q.Set("limit", strconv.Itoa(size))
		var page struct {
			Attempt   int       `json:"attempt"`
			Lines     []LogLine `json:"lines"`
			Cut       *LogCut   `json:"cut"`
			NextAfter int64     `json:"next_after"`
		}
		if err := c.call(ctx, request{method: http.MethodGet, path: jobPath(id) + "/logs", query: q}, &page); err != nil {
			yield(LogLine{}, err)
			return
		}
		if page.Cut != nil && opts.OnCut != nil && !told {
			told = true
			opts.OnCut(*page.Cut)
		}
		for _, l := range page.Lines {
			if !yield(l, nil) {
				return
			}
		}
		left -= len(page.Lines)
		if page.NextAfter == 0 || opts.Limit > 0 && left <= 0 {
			return
		}
		// The pages that follow are of the same attempt, even when a new one has
		// begun meanwhile.
		q.Set("attempt", strconv.Itoa(page.Attempt))
		q.Set("after", strconv.FormatInt(page.NextAfter, 10))
		q.Del("tail")
	}
}

func (c *Client) followLog(ctx context.Context, id job.ID, opts LogOptions, yield func(LogLine, error) bool) {
	q := opts.values()
	q.Set("follow", "true")
	var seen LogLine
	each := func(ev sseEvent) (more bool, err error) {
		switch ev.Name {
		case "log":
			var l LogLine
			if err := json.Unmarshal(ev.Data, &l); err != nil {
				return false, badStream(err)
			}
			// After a reconnection some may come again.
			if l.Fence < seen.Fence || l.Fence == seen.Fence && l.Seq <= seen.Seq {
				return true, nil
			}
			seen = l
			return yield(l, nil), nil
		case "progress":
			var p job.Progress
			if err := json.Unmarshal(ev.Data, &p); err != nil {
				return false, badStream(err)
			}
			if opts.OnProgress != nil {
				opts.OnProgress(p)
			}
		case "cut":
			var cut LogCut
			if err := json.Unmarshal(ev.Data, &cut); err != nil {
				return false, badStream(err)
			}
			if opts.OnCut != nil {
				opts.OnCut(cut)
			}
		case "end":
			return false, nil
		case "error":
			return false, problem(ev.Data)
		}
		return true, nil
	}
	r := request{method: http.MethodGet, path: jobPath(id) + "/logs", query: q, stream: true}
	if err := c.follow(ctx, r, each); err != nil && err != errDone { //nolint:errorlint // it is never wrapped
		yield(LogLine{}, err)
	}
}
