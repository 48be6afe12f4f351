package fsm

import (
	"context"
	"errors"
	"testing"

	"github.com/orrery-io/orrery/command"
	"github.com/orrery-io/orrery/job"
)

// bundle is a machine with a running flusher and the log that it was fed.
type bundle struct {
	t     testing.TB
	cfg   Config
	m     *Machine
	now   job.Time
	index uint64
	log   []Entry
	gave  [][]command.Result // what each entry of log gave
	stop  func()
}

func setup(t testing.TB, cfg Config) *bundle {
	t.Helper()
	if cfg.Dir == "" {
		cfg.Dir = t.TempDir()
	}
	b := &bundle{t: t, cfg: cfg, now: 1_700_000_000_000}
	b.open()
	t.Cleanup(b.close)
	return b
}

func (b *bundle) open() {
	b.t.Helper()
	m, err := Open(context.Background(), b.cfg)
	if err != nil {
		b.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	b.m = m
	b.stop = func() {
		cancel()
		if err := <-done; err != nil {
			b.t.Errorf("run: %v", err)
		}
	}
}

func (b *bundle) close() {
	if b.m == nil {
		return
	}
	b.stop()
	if err := b.m.Close(); err != nil {
		b.t.Error(err)
	}
	b.m = nil
}

// reopen stops the machine in good order and opens the database again.
func (b *bundle) reopen() {
	b.t.Helper()
	b.close()
	b.open()
}

// apply applies commands as one entry, a millisecond later than the one before.
func (b *bundle) apply(commands ...command.Command) []command.Result {
	b.t.Helper()
	items := make([]command.Item, len(commands))
	for i, c := range commands {
		items[i].Command = c
	}
	return b.items(items...)
}

func (b *bundle) items(items ...command.Item) []command.Result {
	b.t.Helper()
	b.now++
	b.index++
	e := command.Entry{Time: b.now, Version: "test", Items: items}
	data, err := e.Append(nil)
	if err != nil {
		b.t.Fatal(err)
	}
	entry := Entry{Index: b.index, Term: 1, Data: data}
	b.log = append(b.log, entry)
	all, err := b.m.Apply([]Entry{entry})
	if err != nil {
		b.t.Fatal(err)
	}
	b.gave = append(b.gave, all[0])
	return all[0]
}

// do applies one command that must not be refused.
func (b *bundle) do(c command.Command) command.Result {
	b.t.Helper()
	r := b.apply(c)[0]
	if r.Err != nil {
		b.t.Fatalf("%T: %v", c, r.Err)
	}
	return r
}

// refused applies one command that must be refused with the given code.
func (b *bundle) refused(c command.Command, code string) *job.Error {
	b.t.Helper()
	r := b.apply(c)[0]
	if r.Err == nil {
		b.t.Fatalf("%T was not refused", c)
	}
	if r.Err.Code != code {
		b.t.Fatalf("%T: refused with %q (%v), want %q", c, r.Err.Code, r.Err, code)
	}
	return r.Err
}

func (b *bundle) job(id job.ID) *job.Job {
	b.t.Helper()
	j, err := b.m.Job(b.t.Context(), id)
	if err != nil {
		b.t.Fatal(err)
	}
	return j
}

func (b *bundle) flush() {
	b.t.Helper()
	if err := b.m.Flush(b.t.Context()); err != nil {
		b.t.Fatal(err)
	}
}

// submission is a job as the API would submit it.
func submission(change func(*job.Spec)) *command.Submit {
	s := job.Spec{Type: "email.send", Payload: job.JSON(`{"to":"a@example.com"}`), Priority: job.DefaultPriority}
	if change != nil {
		change(&s)
	}
	s.Normalize()
	return &command.Submit{Spec: s}
}

func assign() command.Assign {
	return command.Assign{Agent: "agent-1", Session: "s1", Node: "n1"}
}

func wantCode(t testing.TB, err error, code string) {
	t.Helper()
	if e, ok := errors.AsType[*job.Error](err); !ok || e.Code != code {
		t.Fatalf("got %v, want an error with code %q", err, code)
	}
}
