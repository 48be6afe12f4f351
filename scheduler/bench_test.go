package scheduler

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/orrery-io/orrery/command"
	"github.com/orrery-io/orrery/fsm"
	"github.com/orrery-io/orrery/job"
	"github.com/orrery-io/orrery/wire"
)

// proposer is a log of one node that gathers what comes while it is busy into one
// entry, as package cluster does, without Raft and without a disk.
type proposer struct {
	tb      testing.TB
	machine *fsm.Machine
	s       *Scheduler
	queue   chan proposal
	index   uint64
}

type proposal struct {
	items  []command.Item
	answer chan []command.Result
}

func (p *proposer) propose(ctx context.Context, items ...command.Item) ([]command.Result, error) {
	x := proposal{items, make(chan []command.Result, 1)}
	select {
	case p.queue <- x:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	select {
	case results := <-x.answer:
		return results, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (p *proposer) run(ctx context.Context) {
	var items []command.Item
	var batch []proposal
	var buf []byte
	for {
		items, batch = items[:0], batch[:0]
		select {
		case x := <-p.queue:
			batch = append(batch, x)
		case <-ctx.Done():
			return
		}
		runtime.Gosched()
	more:
		for n := len(batch[0].items); n < 1000; {
			select {
			case x := <-p.queue:
				batch = append(batch, x)
				n += len(x.items)
			default:
				break more
			}
		}
		for _, x := range batch {
			items = append(items, x.items...)
		}
		done := p.s.Prepare(items)
		p.index++
		e := command.Entry{Time: job.At(time.Now()), Version: "bench", Items: items}
		var err error
		if buf, err = e.Append(buf[:0]); err != nil {
			p.tb.Error(err)
			return
		}
		results, err := p.machine.Apply([]fsm.Entry{{Index: p.index, Term: 1, Data: buf}})
		if err != nil {
			p.tb.Error(err)
			return
		}
		done(results[0], nil)
		rest := results[0]
		for _, x := range batch {
			x.answer <- rest[:len(x.items):len(x.items)]
			rest = rest[len(x.items):]
		}
	}
}

// BenchmarkJobs is submit → dispatch → result with the real state machine, an
// in-process log and agents that answer at once. What is measured is all of Orrery
// but Raft, sockets and HTTP.
func BenchmarkJobs(b *testing.B) {
	for _, bb := range []struct {
		name             string
		agents, slots    int
		callers, backlog int
	}{
		{"8 agents of 100 slots, 1024 jobs at a time", 8, 100, 1024, 0},
		{"100 agents of 2 slots, 1024 jobs at a time", 100, 2, 1024, 0},
		{"1 agent of 1 slot, 64 jobs at a time", 1, 1, 64, 0},
		{"1 agent of 1 slot, 1 job at a time", 1, 1, 1, 0},
		{"8 agents of 100 slots, all jobs waiting before", 8, 100, 0, 1},
	} {
		b.Run(bb.name, func(b *testing.B) {
			ctx, cancel := context.WithCancel(b.Context())
			m, err := fsm.Open(ctx, fsm.Config{Dir: b.TempDir()})
			if err != nil {
				b.Fatal(err)
			}
			p := &proposer{tb: b, machine: m, queue: make(chan proposal, 4096)}
			var wg sync.WaitGroup
			wg.Go(func() {
				if err := m.Run(ctx); err != nil {
					b.Error(err)
				}
			})
			finished := make(chan int, 1<<16)
			results := make(chan []wire.Envelope, 1<<12)
			p.s = New(Config{Machine: m, Propose: p.propose, Send: func(envs []wire.Envelope) {
				var out []wire.Envelope
				acks := 0
				for _, env := range envs {
					answer := wire.Envelope{Session: env.Session, Node: env.Node, Agent: env.Agent}
					for _, msg := range env.Messages {
						switch {
						case msg.Dispatch != nil:
							d := msg.Dispatch
							answer.Messages = append(answer.Messages,
								wire.Message{Ack: &wire.Ack{Job: d.Job, Fence: d.Fence}},
								wire.Message{Result: &wire.Result{Job: d.Job, Fence: d.Fence, Outcome: "completed"}})
						case msg.ResultAck != nil:
							acks++
						}
					}
					if len(answer.Messages) > 0 {
						out = append(out, answer)
					}
				}
				if len(out) > 0 {
					results <- out
				}
				if acks > 0 {
					finished <- acks
				}
			}})
			wg.Go(func() { p.run(ctx) })
			wg.Go(func() {
				for {
					select {
					case out := <-results:
						p.s.Deliver(out)
					case <-ctx.Done():
						return
					}
				}
			})
			if _, err := p.propose(ctx, command.Item{Command: &command.Migrate{To: fsm.NewestSchema}}); err != nil {
				b.Fatal(err)
			}
			leads := make(chan struct{})
			go func() {
				defer close(leads)
				if err := p.s.Lead(ctx, 1); err != nil {
					b.Error(err)
				}
			}()
			submit := func(n int) {
				items := make([]command.Item, n)
				for i := range items {
					items[i] = submission(job.Spec{Payload: payload})
				}
				if _, err := p.propose(ctx, items...); err != nil && ctx.Err() == nil {
					b.Error(err)
				}
			}
			if bb.backlog > 0 {
				for rest := b.N; rest > 0; rest -= 500 {
					submit(min(rest, 500))
				}
			}
			b.ResetTimer()
			for i := range bb.agents {
				id := fmt.Sprint("agent-", i)
				p.s.Deliver([]wire.Envelope{{Session: id, Node: "n", Agent: id, Up: &wire.Hello{
					ID: id, Slots: bb.slots, Queues: []string{"default"}, Capabilities: []job.Capability{{Type: "work"}},
				}}})
			}
			// Each caller submits its next job when one has been done.
			turns := make(chan struct{}, 1<<20)
			for range bb.callers {
				turns <- struct{}{}
				go func() {
					for range turns {
						submit(1)
					}
				}()
			}
			for done, submitted := 0, bb.callers; done < b.N; {
				n := <-finished
				done += n
				for ; n > 0 && bb.callers > 0 && submitted < b.N; n-- {
					submitted++
					turns <- struct{}{}
				}
			}
			close(turns)
			b.StopTimer()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "jobs/s")
			cancel()
			wg.Wait()
			<-leads
			if err := m.Close(); err != nil {
				b.Error(err)
			}
		})
	}
}

var payload = job.JSON(`{"text":"` + string(make200()) + `"}`)

func make200() []byte {
	b := make([]byte, 190)
	for i := range b {
		b[i] = 'x'
	}
	return b
}
