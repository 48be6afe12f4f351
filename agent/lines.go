package agent

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/orrery-io/orrery/job"
	"github.com/orrery-io/orrery/wire"
)

const (
	// maxLine bounds one line of a log, in bytes.
	maxLine = 64 << 10
	// maxAttemptLog bounds what waits to be sent of one attempt's log, and
	// maxOfflineLog of all of them while there is no connection. A line counts with
	// lineCost added to its text.
	maxAttemptLog = 512 << 10
	maxOfflineLog = 16 << 20
	lineCost      = 64
	// progressPace is the least time between two progress messages of an attempt.
	progressPace = 100 * time.Millisecond
	// maxProgress bounds the message of a progress, in bytes.
	maxProgress = 1 << 10
)

// lineBuffer holds what an attempt has to say and has not sent yet.
type lineBuffer struct {
	mu    sync.Mutex
	lines []wire.LogLine
	bytes int
	// seq is that of the last line.
	seq int64
	// left counts lines left out since the last that was kept.
	left int64
	// report is the latest progress, not yet sent; reported is when one was.
	report   *wire.Progress
	reported time.Time
	// queued means that outgoing knows that there is something to send.
	queued bool
	// closed ends the taking: the handler has returned.
	closed bool
	// room, when not nil, is closed when lines were taken out.
	room chan struct{}
}

// line adds text to the log, line by line.
func (at *attempt) line(now time.Time, level, text string) {
	text = strings.TrimSuffix(text, "\n")
	for one := range strings.SplitSeq(text, "\n") {
		one = strings.TrimSuffix(one, "\r")
		at.addLine(wire.LogLine{Time: int64(job.At(now)), Level: level, Text: clip(one, maxLine)})
	}
}

func (at *attempt) addLine(l wire.LogLine) {
	b, cost := &at.log, len(l.Text)+lineCost
	b.mu.Lock()
	for b.bytes+cost > maxAttemptLog && !b.closed && at.waitForRoom() {
	}
	switch {
	case b.closed:
		b.mu.Unlock()
		return
	case b.bytes+cost > maxAttemptLog, at.out.offline() && at.out.logged.Load() > maxOfflineLog:
		b.left++
		b.mu.Unlock()
		return
	}
	grown := at.confess(l.Time)
	b.append(l)
	touch := !b.queued
	b.queued = true
	b.mu.Unlock()
	at.out.logged.Add(int64(grown + cost))
	if touch {
		at.out.touch(at)
	}
}

// waitForRoom releases the buffer's lock until something was taken out of it. It
// returns false when waiting makes no sense: no connection, or the attempt was
// told to stop.
func (at *attempt) waitForRoom() bool {
	b := &at.log
	gone := at.out.gone()
	if gone == nil || at.ctx.Err() != nil {
		return false
	}
	if b.room == nil {
		b.room = make(chan struct{})
	}
	room := b.room
	b.mu.Unlock()
	defer b.mu.Lock()
	select {
	case <-room:
		return true
	case <-gone:
		return true // look again: there may be another connection
	case <-at.ctx.Done():
		return false
	}
}

// confess adds a line that says how many were left out, and returns its cost. The
// buffer is locked.
func (at *attempt) confess(now int64) int {
	b := &at.log
	if b.left == 0 {
		return 0
	}
	l := wire.LogLine{Time: now, Level: "warn", Text: fmt.Sprintf("[%d lines left out: the agent could not send them]", b.left)}
	b.left = 0
	b.append(l)
	return len(l.Text) + lineCost
}

func (b *lineBuffer) append(l wire.LogLine) {
	b.seq++
	l.Seq = b.seq
	b.lines = append(b.lines, l)
	b.bytes += len(l.Text) + lineCost
}

// progress replaces what has not been sent yet.
func (at *attempt) progress(p wire.Progress) {
	p.Job, p.Fence = at.id(), at.fence()
	p.Message = clip(p.Message, maxProgress)
	b := &at.log
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		return
	}
	b.report = &p
	touch := !b.queued && time.Since(b.reported) >= progressPace
	b.queued = b.queued || touch
	b.mu.Unlock()
	if touch {
		at.out.touch(at)
	}
}

// remind queues a progress that waited for its pace.
func (at *attempt) remind() {
	b := &at.log
	b.mu.Lock()
	touch := b.report != nil && !b.queued
	b.queued = b.queued || touch
	b.mu.Unlock()
	if touch {
		at.out.touch(at)
	}
}

// shut takes nothing more. With discard what waits is thrown away.
func (b *lineBuffer) shut(at *attempt, discard bool) {
	b.mu.Lock()
	b.closed = true
	cost := at.confess(int64(job.At(time.Now())))
	if discard {
		cost -= b.bytes
		b.lines, b.bytes, b.report = nil, 0, nil
	}
	b.makeRoom()
	b.mu.Unlock()
	if cost != 0 {
		at.out.logged.Add(int64(cost))
	}
}

func (b *lineBuffer) makeRoom() {
	if b.room != nil {
		close(b.room)
		b.room = nil
	}
}

// take removes lines worth about budget bytes, at least one if there is any, and
// the progress. It reports whether more is left.
func (b *lineBuffer) take(budget int, logged *atomic.Int64) (lines []wire.LogLine, report *wire.Progress, more bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	n, size := 0, 0
	for n < len(b.lines) && (n == 0 || size < budget) {
		size += len(b.lines[n].Text) + lineCost
		n++
	}
	lines, b.lines = b.lines[:n:n], b.lines[n:]
	if len(b.lines) == 0 {
		b.lines = nil
	}
	b.bytes -= size
	if size > 0 {
		logged.Add(int64(-size))
		b.makeRoom()
	}
	if report = b.report; report != nil {
		b.report, b.reported = nil, time.Now()
	}
	b.queued = len(b.lines) > 0
	return lines, report, b.queued
}

// restore puts lines back that could not be sent. Some of them may have arrived;
// their numbers tell the receiver.
func (at *attempt) restore(lines []wire.LogLine) {
	size := 0
	for i := range lines {
		size += len(lines[i].Text) + lineCost
	}
	b := &at.log
	b.mu.Lock()
	b.lines = append(lines, b.lines...)
	b.bytes += size
	touch := !b.queued
	b.queued = true
	b.mu.Unlock()
	at.out.logged.Add(int64(size))
	if touch {
		at.out.touch(at)
	}
}
