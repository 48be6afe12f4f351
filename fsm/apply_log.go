package fsm

import (
	"context"
	"fmt"
	"slices"

	"github.com/orrery-io/orrery/command"
	"github.com/orrery-io/orrery/job"
)

// chunkBytes is the size at which a chunk of log lines is full. Small additions
// go to the newest chunk until then.
const chunkBytes = 16 << 10

// lineBytes is what a line counts beyond its text.
const lineBytes = 16

// appendLog stores lines of an attempt's log: the first half of the cap is kept
// for good, after it the newest lines that fit into the second half. What falls
// out between them is counted.
func (a *apply) appendLog(c *command.AppendLog, r *command.Result) error {
	old, err := a.attempt(c.Job, c.Fence)
	if err != nil {
		return err
	}
	if !job.Allowed(old.State, job.ActReport, old.State) {
		return refuse(job.Refusal(c.Job, old.State, job.ActReport))
	}
	key := attemptKey{c.Job, c.Fence}
	var head logHead
	last := old.Attempts[len(old.Attempts)-1]
	if last.Logged {
		h, err := a.heads.get(context.Background(), key)
		if err != nil {
			return err
		}
		if h == nil {
			return fmt.Errorf("job %d has no log for attempt %d, which should have one", c.Job, last.Number)
		}
		head = *h
		head.Chunks = slices.Clone(h.Chunks)
	}
	w := logWriter{apply: a, head: &head, fence: c.Fence}
	for i := range c.Lines {
		if err := w.add(c.Lines[i]); err != nil {
			return err
		}
	}
	w.close()
	r.Job = c.Job
	if w.lines == 0 {
		return nil // all of them came again
	}
	a.heads.put(key, &head)
	if !last.Logged {
		j := old.Clone()
		j.Attempts[len(j.Attempts)-1].Logged = true
		a.jobs.put(j.ID, j) // nothing that a listener would want to know
	}
	return nil
}

// logWriter adds lines to an attempt's log.
type logWriter struct {
	*apply
	head  *logHead
	fence job.Fence
	lines int // added

	open *job.LogChunk // the newest chunk, being written; nil when not loaded
	ref  *chunkRef
}

func (w *logWriter) add(line job.LogLine) error {
	h := w.head
	if line.Seq == 0 {
		line.Seq = h.LastSeq + 1
	}
	if line.Seq <= h.LastSeq {
		return nil
	}
	h.LastSeq = line.Seq
	w.lines++
	size := int64(len(line.Text)) + lineBytes
	half := w.logCap / 2
	if !h.HeadFull && h.HeadBytes+size > half {
		h.HeadFull = true
		w.close()
	}
	if err := w.room(int(size)); err != nil {
		return err
	}
	w.open.Lines = append(w.open.Lines, line)
	w.ref.Lines++
	w.ref.Bytes += int(size)
	if !h.HeadFull {
		h.HeadBytes += size
		return nil
	}
	h.TailBytes += size
	for h.TailBytes > half && len(h.Chunks) > h.Head+1 {
		w.cut()
	}
	return nil
}

// room makes sure that there is a chunk that takes size more bytes.
func (w *logWriter) room(size int) error {
	if w.open != nil {
		if w.ref.Bytes+size <= chunkBytes {
			return nil
		}
		w.close()
	}
	h := w.head
	if n := len(h.Chunks); n > 0 && n > w.sealed() && h.Chunks[n-1].Bytes+size <= chunkBytes {
		old, err := w.chunks.get(context.Background(), h.Chunks[n-1].ID)
		if err != nil {
			return err
		}
		if old == nil {
			return fmt.Errorf("log chunk %d is missing", h.Chunks[n-1].ID)
		}
		w.open = &job.LogChunk{Fence: w.fence, Lines: slices.Clone(old.Lines)}
		w.ref = &h.Chunks[n-1]
		return nil
	}
	w.lastChunk++
	h.Chunks = append(h.Chunks, chunkRef{ID: w.lastChunk})
	if !h.HeadFull {
		h.Head++
	}
	w.open = &job.LogChunk{Fence: w.fence}
	w.ref = &h.Chunks[len(h.Chunks)-1]
	return nil
}

// sealed is how many chunks take no more lines: those of the head, once the tail
// has begun.
func (w *logWriter) sealed() int {
	if w.head.HeadFull {
		return w.head.Head
	}
	return 0
}

// close stores the chunk being written.
func (w *logWriter) close() {
	if w.open != nil {
		w.chunks.put(w.ref.ID, w.open)
		w.open, w.ref = nil, nil
	}
}

// cut drops the oldest chunk of the tail.
func (w *logWriter) cut() {
	h := w.head
	old := h.Chunks[h.Head]
	h.CutLines += int64(old.Lines)
	h.CutBytes += int64(old.Bytes) - lineBytes*int64(old.Lines)
	h.TailBytes -= int64(old.Bytes)
	h.Chunks = slices.Delete(h.Chunks, h.Head, h.Head+1)
	w.chunks.remove(old.ID)
	if w.ref != nil {
		w.ref = &h.Chunks[len(h.Chunks)-1]
	}
}

// dropLog removes the log of an attempt.
func (a *apply) dropLog(id job.ID, t *job.Attempt) error {
	if !t.Logged {
		return nil
	}
	key := attemptKey{id, t.Fence}
	h, err := a.heads.get(context.Background(), key)
	if err != nil || h == nil {
		return err
	}
	for _, c := range h.Chunks {
		a.chunks.remove(c.ID)
	}
	a.heads.remove(key)
	return nil
}
