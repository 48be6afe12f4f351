package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
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
	Lines int64 `json:"lines"`
	Bytes int64 `json:"bytes,omitempty"`
	// After is the last line before the gap.
	After int64 `json:"after,omitempty"`
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
	// Follow goes on with lines as they are logged, through all attempts to come,
	// until the job has ended.
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
	for first := true; ; first = false {
		size := logPage
		if opts.Limit > 0 {
			size = min(size, left)
		}
		q.Set("limit", strconv.Itoa(size))
		var page struct {
			Items []LogLine `json:"items"`
			Cut   *LogCut   `json:"cut"`
		}
		if err := c.call(ctx, request{method: http.MethodGet, path: jobPath(id) + "/logs", query: q}, &page); err != nil {
			yield(LogLine{}, err)
			return
		}
		if first && page.Cut != nil && page.Cut.Lines > 0 && opts.OnCut != nil {
			opts.OnCut(*page.Cut)
		}
		for _, l := range page.Items {
			if !yield(l, nil) {
				return
			}
		}
		left -= len(page.Items)
		if len(page.Items) < size || opts.Limit > 0 && left <= 0 || opts.Tail > 0 {
			return
		}
		last := page.Items[len(page.Items)-1]
		// The pages that follow are of the same attempt, even when a new one has
		// begun meanwhile.
		q.Set("attempt", strconv.Itoa(last.Attempt))
		q.Set("after", strconv.FormatInt(last.Seq, 10))
	}
}

func (c *Client) followLog(ctx context.Context, id job.ID, opts LogOptions, yield func(LogLine, error) bool) {
	q := opts.values()
	q.Set("follow", "true")
	var seen LogLine
	each := func(ev sseEvent) (more bool, err error) {
		switch ev.Name {
		case "line", "message":
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
			if json.Unmarshal(ev.Data, &cut) == nil && opts.OnCut != nil {
				opts.OnCut(cut)
			}
		case "end":
			return false, nil
		}
		return true, nil
	}
	r := request{method: http.MethodGet, path: jobPath(id) + "/logs", query: q, stream: true}
	if err := c.follow(ctx, r, "", each); err != nil {
		yield(LogLine{}, err)
	}
}

// follow reads a stream of server-sent events and takes an interrupted one up
// again with Last-Event-ID, until each reports that it wants no more or a cause
// remains that does not pass. A stream that cannot even be begun is an error at
// once.
func (c *Client) follow(ctx context.Context, r request, lastID string, each func(sseEvent) (bool, error)) error {
	patience := newPatience()
	begun := false
	for {
		more, got, err := c.followOnce(ctx, r, &lastID, each)
		begun = begun || got
		switch {
		case !more || ctx.Err() != nil:
			return err
		case !begun && err != nil:
			return err
		case got:
			patience = newPatience()
		}
		if err == nil {
			err = &Error{Code: CodeNoAnswer, Detail: "the node ended the stream"}
		}
		if !patience.retry(ctx, err) {
			return err
		}
	}
}

// followOnce reads one connection's worth of a stream. more means that the
// stream broke off and may be taken up again; got that the node had answered.
func (c *Client) followOnce(ctx context.Context, r request, lastID *string, each func(sseEvent) (bool, error)) (more, got bool, err error) {
	r.header = http.Header{"Accept": {"text/event-stream"}}
	if *lastID != "" {
		r.header.Set("Last-Event-Id", *lastID)
	}
	resp, err := c.do(ctx, r)
	if err != nil {
		return passing(err), false, err
	}
	defer resp.Body.Close()
	events := newSSEReader(resp.Body)
	events.id = *lastID
	for {
		ev, err := events.Next()
		switch {
		case errors.Is(err, errEventTooLong):
			return false, true, badStream(err)
		case err != nil && ctx.Err() != nil:
			return false, true, context.Cause(ctx)
		case errors.Is(err, io.EOF):
			return true, true, nil
		case err != nil:
			return true, true, unanswered(base(resp), err)
		}
		more, err := each(ev)
		if err != nil || !more {
			return false, true, err
		}
		*lastID = ev.ID
	}
}

func badStream(err error) error {
	return &Error{Code: CodeBadAnswer, cause: err, Detail: fmt.Sprintf("the stream cannot be read: %v", err)}
}
