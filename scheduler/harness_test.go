package scheduler

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/orrery-io/orrery/command"
	"github.com/orrery-io/orrery/fsm"
	"github.com/orrery-io/orrery/job"
	"github.com/orrery-io/orrery/wire"
)

// bundle is a state machine with a log of one node, a scheduler that leads, and
// agents that are played by the test. It lives in a bubble of virtual time.
type bundle struct {
	t       *testing.T
	machine *fsm.Machine
	s       *Scheduler
	stop    func()

	logMu  sync.Mutex // the log
	index  uint64
	term   uint64
	now    job.Time
	refuse func(items []command.Item) error

	mayFail bool  // Lead may return an error
	led     error // what it returned

	mu       sync.Mutex
	sessions map[string]*player
	next     int
	all      []*player
}

// play runs a test in a bubble, with a scheduler that leads.
func play(t *testing.T, cfg Config, f func(b *bundle)) {
	t.Helper()
	playOn(t, cfg, func(m machine) machine { return m }, f)
}

// playOn does the same on a state machine with faults.
func playOn(t *testing.T, cfg Config, wrap func(machine) machine, f func(b *bundle)) {
	t.Helper()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		b := &bundle{t: t, sessions: make(map[string]*player)}
		m, err := fsm.Open(t.Context(), fsm.Config{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		b.machine = m
		ctx, cancel := context.WithCancel(context.Background()) //nolint:usetesting // ends after the term
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := m.Run(ctx); err != nil {
				t.Error(err)
			}
		})
		cfg.Machine, cfg.Propose, cfg.Send = m, b.propose, b.send
		b.s = newScheduler(cfg, wrap(stateMachine{m}))
		defer func() { // also when f ends the test
			b.stop()
			cancel()
			wg.Wait()
			if err := m.Close(); err != nil {
				t.Error(err)
			}
		}()
		b.stop = func() {}
		b.record(&command.Migrate{To: fsm.NewestSchema}, &command.Init{ClusterID: "test"})
		b.lead()
		f(b)
	})
}

// lead begins a term.
func (b *bundle) lead() {
	ctx, cancel := context.WithCancel(context.Background()) //nolint:usetesting // stopped before the machine
	done := make(chan struct{})
	b.logMu.Lock()
	b.term++
	term := b.term
	b.logMu.Unlock()
	go func() {
		defer close(done)
		if b.led = b.s.Lead(ctx, term); b.led != nil && !b.mayFail {
			b.t.Errorf("lead: %v", b.led)
		}
	}()
	b.stop = sync.OnceFunc(func() {
		cancel()
		<-done
	})
	synctest.Wait()
}

// lead again ends the term and begins the next, on the same node.
func (b *bundle) leadAgain() {
	b.stop()
	b.lead()
}

// refusing has f asked before anything is recorded; nil ends that.
func (b *bundle) refusing(f func(items []command.Item) error) {
	b.logMu.Lock()
	defer b.logMu.Unlock()
	b.refuse = f
}

func (b *bundle) propose(ctx context.Context, items ...command.Item) ([]command.Result, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	b.logMu.Lock()
	defer b.logMu.Unlock()
	if b.refuse != nil {
		if err := b.refuse(items); err != nil {
			return nil, err
		}
	}
	done := b.s.Prepare(items)
	b.index++
	b.now = max(b.now, job.At(time.Now()))
	e := command.Entry{Time: b.now, Version: "test", Items: items}
	data, err := e.Append(nil)
	if err != nil {
		done(nil, err)
		return nil, err
	}
	results, err := b.machine.Apply([]fsm.Entry{{Index: b.index, Term: b.term, Data: data}})
	if err != nil {
		b.t.Error(err)
		done(nil, err)
		return nil, err
	}
	done(results[0], nil)
	return results[0], nil
}

// record has commands recorded, as one of the node's other parts would.
func (b *bundle) record(commands ...command.Command) []command.Result {
	b.t.Helper()
	items := make([]command.Item, len(commands))
	for i, c := range commands {
		items[i].Command = c
	}
	results, err := b.propose(b.t.Context(), items...)
	if err != nil {
		b.t.Fatal(err)
	}
	for i, r := range results {
		if r.Err != nil {
			b.t.Fatalf("%T: %v", commands[i], r.Err)
		}
	}
	synctest.Wait()
	return results
}

// submit records a job; spec may leave out what does not matter.
func (b *bundle) submit(spec job.Spec) job.ID {
	b.t.Helper()
	return b.record(&command.Submit{Spec: normal(spec)})[0].Job
}

func normal(spec job.Spec) job.Spec {
	if spec.Type == "" {
		spec.Type = "work"
	}
	if spec.Priority == 0 {
		spec.Priority = job.DefaultPriority
	}
	spec.Normalize()
	return spec
}

// job returns the row as it is now.
func (b *bundle) job(id job.ID) *job.Job {
	b.t.Helper()
	j, err := b.machine.Job(b.t.Context(), id)
	if err != nil {
		b.t.Fatal(err)
	}
	return j
}

// is fails the test unless the job is in this state.
func (b *bundle) is(id job.ID, want job.State) *job.Job {
	b.t.Helper()
	j := b.job(id)
	if j.State != want {
		b.t.Fatalf("job %d is %s, want %s (attempts %+v)", id, j.State, want, j.Attempts)
	}
	return j
}

func (b *bundle) send(envelopes []wire.Envelope) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, env := range envelopes {
		p := b.sessions[env.Session]
		if p == nil {
			continue
		}
		if env.Agent != p.id || env.Node != "n1" {
			b.t.Errorf("envelope to session %s is for agent %s on %s", env.Session, env.Agent, env.Node)
		}
		for _, m := range env.Messages {
			p.receive(m)
		}
		if env.Down != nil {
			if p.session == env.Session {
				p.closed = env.Down
			}
			delete(b.sessions, env.Session)
		}
	}
}

// player is an agent in the hands of the test.
type player struct {
	b       *bundle
	id      string
	session string
	hello   wire.Hello
	// silent agents send no heartbeats while time passes.
	silent bool

	// Guarded by the bundle's mutex.
	inbox []wire.Message
	held  []wire.Held
	// reached are the attempts that its node has given to it in this session, and that
	// neither side has ended.
	reached  []wire.Held
	welcomed bool
	closed   *wire.Error
	seq      uint64
}

// agent connects one that handles "work" in the default queue, and is welcomed.
func (b *bundle) agent(id string, slots int) *player {
	b.t.Helper()
	p := &player{b: b, id: id, hello: wire.Hello{
		Protocol: wire.Protocol, ID: id, Slots: slots, Queues: []string{"default"},
		Capabilities: []job.Capability{{Type: "work"}},
	}}
	b.all = append(b.all, p)
	p.connect()
	return p
}

// connect opens a new session, and returns the welcome.
func (p *player) connect() *wire.Welcome {
	p.b.t.Helper()
	p.b.mu.Lock()
	p.b.next++
	p.session = fmt.Sprint("session-", p.b.next)
	p.b.sessions[p.session] = p
	p.inbox, p.closed, p.silent = nil, nil, false
	p.reached, p.welcomed = nil, false
	p.b.mu.Unlock()
	return p.up()
}

// up announces the session to the leader, as a node does.
func (p *player) up() *wire.Welcome {
	p.b.t.Helper()
	p.b.mu.Lock()
	h := p.hello
	h.Held = slices.Clone(p.held)
	again := p.welcomed
	var sent []wire.Held
	for _, x := range p.reached {
		if !slices.Contains(p.held, x) {
			sent = append(sent, x)
		}
	}
	p.b.mu.Unlock()
	p.deliver(wire.Envelope{Up: &h, Again: again, Sent: sent})
	for _, m := range p.peek() {
		if m.Welcome != nil {
			return m.Welcome
		}
	}
	p.b.t.Fatalf("agent %s is not welcomed: %+v, closed %v", p.id, p.peek(), p.closed)
	return nil
}

// drop is the connection going away.
func (p *player) drop() {
	p.b.mu.Lock()
	delete(p.b.sessions, p.session)
	p.silent = true
	sent := slices.Concat(p.reached, p.held)
	p.b.mu.Unlock()
	p.deliver(wire.Envelope{Down: &wire.Error{Code: "gone"}, Sent: sent})
}

func (p *player) deliver(env wire.Envelope) {
	env.Session, env.Node, env.Agent = p.session, "n1", p.id
	p.b.s.Deliver([]wire.Envelope{env})
	synctest.Wait()
}

// say sends messages.
func (p *player) say(messages ...wire.Message) {
	p.b.mu.Lock()
	for _, m := range messages {
		if m.Reject != nil {
			p.reached = slices.DeleteFunc(p.reached, func(h wire.Held) bool { return h.Job == m.Reject.Job && h.Fence == m.Reject.Fence })
		}
	}
	p.b.mu.Unlock()
	p.deliver(wire.Envelope{Messages: messages})
}

func (p *player) receive(m wire.Message) {
	p.inbox = append(p.inbox, m)
	drop := func(x wire.Held) {
		is := func(h wire.Held) bool { return h.Job == x.Job && h.Fence == x.Fence }
		p.held = slices.DeleteFunc(p.held, is)
		p.reached = slices.DeleteFunc(p.reached, is)
	}
	switch {
	case m.Dispatch != nil:
		p.reached = append(p.reached, wire.Held{Job: m.Dispatch.Job, Fence: m.Dispatch.Fence})
	case m.ResultAck != nil:
		drop(wire.Held{Job: m.ResultAck.Job, Fence: m.ResultAck.Fence})
	case m.Cancel != nil && m.Cancel.Drop:
		drop(wire.Held{Job: m.Cancel.Job, Fence: m.Cancel.Fence})
	case m.Beat != nil:
		for _, x := range m.Beat.Drop {
			drop(x)
		}
	case m.Welcome != nil:
		p.welcomed = true
		for _, x := range m.Welcome.Drop {
			drop(x)
		}
	}
}

func (p *player) peek() []wire.Message {
	p.b.mu.Lock()
	defer p.b.mu.Unlock()
	return slices.Clone(p.inbox)
}

// got returns what came since it was called last.
func (p *player) got() []wire.Message {
	p.b.mu.Lock()
	defer p.b.mu.Unlock()
	inbox := p.inbox
	p.inbox = nil
	return inbox
}

// dispatches returns the dispatches that came since, and leaves them unacknowledged.
func (p *player) dispatches() (ds []*wire.Dispatch) {
	for _, m := range p.got() {
		if m.Dispatch != nil {
			ds = append(ds, m.Dispatch)
		}
	}
	return ds
}

// take returns the only new dispatch, acknowledged and from now on in the agent's
// heartbeats.
func (p *player) take() *wire.Dispatch {
	p.b.t.Helper()
	ds := p.dispatches()
	if len(ds) != 1 {
		p.b.t.Fatalf("agent %s got %d dispatches, want 1", p.id, len(ds))
	}
	p.hold(ds[0])
	p.say(wire.Message{Ack: &wire.Ack{Job: ds[0].Job, Fence: ds[0].Fence}})
	return ds[0]
}

func (p *player) hold(d *wire.Dispatch) {
	p.b.mu.Lock()
	defer p.b.mu.Unlock()
	p.held = append(p.held, wire.Held{Job: d.Job, Fence: d.Fence})
}

// has reports whether the agent has a job, by a fence or, when that is 0, any.
func (p *player) has(id job.ID, fence job.Fence) bool {
	p.b.mu.Lock()
	defer p.b.mu.Unlock()
	return slices.ContainsFunc(p.held, func(h wire.Held) bool { return h.Job == id && (fence == 0 || h.Fence == fence) })
}

// stop makes the agent give up all that it has, without a word.
func (p *player) stop() {
	p.b.mu.Lock()
	defer p.b.mu.Unlock()
	p.held = nil
}

// ended reports whether the leader has closed the session.
func (p *player) ended() bool {
	p.b.mu.Lock()
	defer p.b.mu.Unlock()
	return p.closed != nil
}

func (p *player) release(id job.ID) {
	p.b.mu.Lock()
	defer p.b.mu.Unlock()
	p.held = slices.DeleteFunc(p.held, func(h wire.Held) bool { return h.Job == id })
}

// result sends the end of an attempt, and returns the answer, nil when there is
// none.
func (p *player) result(d *wire.Dispatch, outcome string, failure *wire.Failure) *wire.ResultAck {
	p.b.t.Helper()
	p.release(d.Job)
	p.got()
	p.say(wire.Message{Result: &wire.Result{Job: d.Job, Fence: d.Fence, Outcome: outcome, Error: failure}})
	for _, m := range p.peek() {
		if m.ResultAck != nil && m.ResultAck.Job == d.Job && m.ResultAck.Fence == d.Fence {
			return m.ResultAck
		}
	}
	return nil
}

// complete ends an attempt well.
func (p *player) complete(d *wire.Dispatch) {
	p.b.t.Helper()
	if a := p.result(d, "completed", nil); a == nil || !a.Accepted {
		p.b.t.Fatalf("result of job %d was answered with %+v", d.Job, a)
	}
}

func (p *player) beat() *wire.Beat {
	p.b.mu.Lock()
	p.seq++
	hb := &wire.Heartbeat{Seq: p.seq, Held: slices.Clone(p.held)}
	p.b.mu.Unlock()
	p.say(wire.Message{Heartbeat: hb})
	for _, m := range p.peek() {
		if m.Beat != nil && m.Beat.Seq == hb.Seq {
			return m.Beat
		}
	}
	return nil
}

// pass lets time go by; agents that are not silent send their heartbeats.
func (b *bundle) pass(d time.Duration) {
	for d > 0 {
		step := min(d, time.Second)
		time.Sleep(step)
		synctest.Wait()
		d -= step
		for _, p := range b.all {
			if !p.silent && !p.ended() && time.Now().Unix()%5 == 0 {
				p.beat()
			}
		}
	}
	synctest.Wait()
}
