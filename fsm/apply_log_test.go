package fsm

import (
	"fmt"
	"strings"
	"testing"

	"github.com/orrery-io/orrery/command"
	"github.com/orrery-io/orrery/job"
)

func lines(from, n int, size int) []job.LogLine {
	list := make([]job.LogLine, n)
	for i := range list {
		seq := int64(from + i)
		text := fmt.Sprintf("%06d ", seq)
		list[i] = job.LogLine{Seq: seq, Time: 1000, Level: "info", Text: text + strings.Repeat("x", max(0, size-len(text)))}
	}
	return list
}

func (b *bundle) logOf(id job.ID, q LogQuery) []LogRow {
	b.t.Helper()
	rows, err := b.m.JobLog(b.t.Context(), id, q)
	if err != nil {
		b.t.Fatal(err)
	}
	return rows
}

func seqs(rows []LogRow) []int64 {
	list := make([]int64, len(rows))
	for i := range rows {
		list[i] = rows[i].Seq
	}
	return list
}

func TestLog(t *testing.T) {
	t.Run("lines are kept in order, and read before and after a flush", func(t *testing.T) {
		b := setup(t, Config{})
		id := b.do(submission(nil)).Job
		f := b.dispatch(id)
		if rows := b.logOf(id, LogQuery{}); len(rows) != 0 {
			t.Errorf("a log before the first line: %v", rows)
		}
		rev := b.job(id).Rev
		for i := range 10 {
			b.do(&command.AppendLog{Job: id, Fence: f, Lines: lines(i*10+1, 10, 50)})
			if i == 4 {
				b.reopen()
			}
		}
		if got := b.job(id).Rev; got != rev {
			t.Errorf("log lines changed the revision from %d to %d", rev, got)
		}
		for range 2 {
			rows := b.logOf(id, LogQuery{})
			if len(rows) != 100 {
				t.Fatalf("%d lines", len(rows))
			}
			for i, r := range rows {
				if r.Seq != int64(i+1) || r.CutLines != 0 || r.Attempt != 1 || r.Fence != f {
					t.Fatalf("line %d: %+v", i, r)
				}
			}
			b.reopen()
		}
		if head := b.head(id, f); len(head.Chunks) != 1 {
			t.Errorf("small additions made %d chunks", len(head.Chunks))
		}
	})
	t.Run("lines that come again are dropped", func(t *testing.T) {
		b := setup(t, Config{})
		id := b.do(submission(nil)).Job
		f := b.dispatch(id)
		b.do(&command.AppendLog{Job: id, Fence: f, Lines: lines(1, 5, 10)})
		b.do(&command.AppendLog{Job: id, Fence: f, Lines: lines(1, 5, 10)})
		b.do(&command.AppendLog{Job: id, Fence: f, Lines: lines(3, 5, 10)})
		b.do(&command.AppendLog{Job: id, Fence: f, Lines: []job.LogLine{{Text: "without a number"}}})
		if got := fmt.Sprint(seqs(b.logOf(id, LogQuery{}))); got != "[1 2 3 4 5 6 7 8]" {
			t.Errorf("got %v", got)
		}
	})
	t.Run("over the cap the middle is cut, and the cut is stated", func(t *testing.T) {
		const limit = 200 << 10
		b := setup(t, Config{LogCap: limit})
		id := b.do(submission(nil)).Job
		f := b.dispatch(id)
		const total = 5000
		for i := 0; i < total; i += 100 {
			b.do(&command.AppendLog{Job: id, Fence: f, Lines: lines(i+1, 100, 100)})
			if i%1000 == 0 {
				b.reopen()
			}
		}
		rows := b.logOf(id, LogQuery{})
		kept, gaps := int64(0), 0
		for i, r := range rows {
			kept += int64(len(r.Text)) + lineBytes
			if r.CutLines == 0 {
				if i > 0 && r.Seq != rows[i-1].Seq+1 {
					t.Fatalf("a gap before line %d that is not stated", r.Seq)
				}
				continue
			}
			gaps++
			if missing := r.Seq - rows[i-1].Seq - 1; r.CutLines != missing || r.CutBytes != 100*missing {
				t.Errorf("%d lines and %d bytes are stated as cut, %d lines are missing", r.CutLines, r.CutBytes, missing)
			}
		}
		if gaps != 1 || rows[0].Seq != 1 || rows[len(rows)-1].Seq != total {
			t.Errorf("%d gaps, lines %d to %d", gaps, rows[0].Seq, rows[len(rows)-1].Seq)
		}
		if kept > limit || kept < limit-2*chunkBytes {
			t.Errorf("%d bytes kept, the cap is %d", kept, limit)
		}
		b.flush()
		var n int
		if err := b.m.store.lists.QueryRowContext(t.Context(), "SELECT count(*) FROM log_chunks").Scan(&n); err != nil || n != len(b.head(id, f).Chunks) {
			t.Errorf("%d chunks are stored, %v; the head knows %d", n, err, len(b.head(id, f).Chunks))
		}
	})
	t.Run("a line larger than half the cap", func(t *testing.T) {
		b := setup(t, Config{LogCap: 10 << 10})
		id := b.do(submission(nil)).Job
		f := b.dispatch(id)
		b.do(&command.AppendLog{Job: id, Fence: f, Lines: lines(1, 3, 6<<10)})
		rows := b.logOf(id, LogQuery{})
		if len(rows) != 1 || rows[0].Seq != 3 || rows[0].CutLines != 2 {
			t.Errorf("got lines %v, cut %d", seqs(rows), rows[0].CutLines)
		}
	})
	t.Run("each attempt has its own", func(t *testing.T) {
		b := setup(t, Config{})
		id := b.do(submission(nil)).Job
		for i := range 3 {
			f := b.dispatch(id)
			if i != 1 {
				b.do(&command.AppendLog{Job: id, Fence: f, Lines: lines(1, i+1, 20)})
			}
			b.finish(id, job.OutcomeFailed, job.Pending, nil)
		}
		for _, tt := range []struct {
			name string
			q    LogQuery
			want string
		}{
			{"newest", LogQuery{}, "[1 2 3]"},
			{"first", LogQuery{Attempt: 1}, "[1]"},
			{"one without a log", LogQuery{Attempt: 2}, "[]"},
			{"one that never was", LogQuery{Attempt: 9}, "[]"},
			{"all", LogQuery{Attempt: -1}, "[1 1 2 3]"},
			{"after", LogQuery{After: 2}, "[3]"},
			{"tail", LogQuery{Tail: 2}, "[2 3]"},
			{"limit", LogQuery{Limit: 2}, "[1 2]"},
			{"tail and limit", LogQuery{Tail: 2, Limit: 1}, "[2]"},
		} {
			if got := fmt.Sprint(seqs(b.logOf(id, tt.q))); got != tt.want {
				t.Errorf("%s: got %v, want %s", tt.name, got, tt.want)
			}
		}
		if _, err := b.m.JobLog(t.Context(), 77, LogQuery{}); err == nil {
			t.Error("the log of an unknown job was read")
		}
	})
}

func (b *bundle) head(id job.ID, f job.Fence) *logHead {
	b.t.Helper()
	h, err := b.m.state.heads.get(b.t.Context(), attemptKey{id, f})
	if err != nil || h == nil {
		b.t.Fatalf("head %v, %v", h, err)
	}
	return h
}
