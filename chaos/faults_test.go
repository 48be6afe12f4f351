//go:build linux

package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/orrery-io/orrery/job"
)

// fault is something that can happen.
type fault struct {
	name string
	// hold is how long it lasts at least; up to twice as long is drawn.
	hold time.Duration
	// nodes is how many there must be; disk means that the node's disk must be its
	// own, which takes root.
	nodes int
	disk  bool
	run   func(ctx context.Context, e *env, r *rand.Rand, hold time.Duration) error
}

// catalogue are all faults.
func catalogue() []fault {
	return slices.Concat(processFaults(), networkFaults(), diskFaults(), agentFaults(), clusterFaults())
}

// planned is one fault of a schedule.
type planned struct {
	fault fault
	hold  time.Duration
	calm  time.Duration // before it
	seed  uint64
}

// schedule draws faults until their time is used up: every one that is possible
// here once, in random order, then again.
func schedule(o options, possible []fault) []planned {
	r := rand.New(rand.NewPCG(o.seed, 1))
	var out []planned
	for total := time.Duration(0); total < o.duration && len(possible) > 0; {
		for _, i := range r.Perm(len(possible)) {
			f := possible[i]
			p := planned{
				fault: f,
				hold:  f.hold + time.Duration(r.Int64N(int64(f.hold)+1)),
				calm:  time.Duration(500+r.IntN(1500)) * time.Millisecond,
				seed:  r.Uint64(),
			}
			out = append(out, p)
			if total += p.hold + p.calm + time.Second; total >= o.duration {
				break
			}
		}
	}
	return out
}

// possible are the faults that this run can do; left are those that it can't, and
// why.
func possible(o options) (can []fault, left []string) {
	for _, f := range catalogue() {
		switch {
		case len(o.only) > 0 && !slices.Contains(o.only, f.name):
		case f.nodes > o.nodes:
			left = append(left, fmt.Sprintf("%s (needs %d nodes)", f.name, f.nodes))
		case f.disk && !isInside():
			left = append(left, f.name+" (needs root, for a disk of its own)")
		default:
			can = append(can, f)
		}
	}
	return can, left
}

func processFaults() []fault {
	return []fault{
		{name: "kill-leader", hold: 300 * time.Millisecond, run: func(ctx context.Context, e *env, _ *rand.Rand, hold time.Duration) error {
			n, err := e.leader(ctx)
			if err != nil {
				return err
			}
			e.killed()
			e.kill(n)
			pauseFor(ctx, hold)
			return nil
		}},
		{name: "kill-follower", hold: time.Second, nodes: 3, run: func(ctx context.Context, e *env, r *rand.Rand, hold time.Duration) error {
			n, err := e.follower(ctx, r)
			if err != nil {
				return err
			}
			e.kill(n)
			pauseFor(ctx, hold)
			return nil
		}},
		{name: "kill-all", hold: 300 * time.Millisecond, nodes: 3, run: func(ctx context.Context, e *env, _ *rand.Rand, hold time.Duration) error {
			for _, n := range e.nodes {
				e.kill(n)
			}
			pauseFor(ctx, hold)
			return nil
		}},
		{name: "pause-leader", hold: 2 * time.Second, run: func(ctx context.Context, e *env, r *rand.Rand, hold time.Duration) error {
			n, err := e.leader(ctx)
			if err != nil {
				return err
			}
			n.process().pause()
			defer n.process().resume()
			e.askPaused(ctx, n, hold)
			return nil
		}},
		{name: "pause-follower", hold: time.Second, nodes: 3, run: func(ctx context.Context, e *env, r *rand.Rand, hold time.Duration) error {
			n, err := e.follower(ctx, r)
			if err != nil {
				return err
			}
			n.process().pause()
			defer n.process().resume()
			pauseFor(ctx, hold)
			return nil
		}},
		{name: "clock-jump", hold: 1500 * time.Millisecond, run: func(ctx context.Context, e *env, r *rand.Rand, hold time.Duration) error {
			n, err := e.leader(ctx)
			if err != nil {
				return err
			}
			// What is far ahead takes away all ticks up to there: mostly it is a little.
			by := time.Duration(3+r.IntN(18)) * time.Second
			if r.IntN(3) == 0 {
				by = time.Duration(1+r.IntN(30)) * time.Minute
			}
			if r.IntN(2) == 0 {
				by = -by
			}
			return e.jump(ctx, n, by, hold)
		}},
	}
}

// jump sets the clock of a node, and later sets it back.
func (e *env) jump(ctx context.Context, n *node, by, hold time.Duration) error {
	e.say("  clock of %s jumps by %s", n.name, by)
	set := func(d time.Duration) error {
		e.jumps = append(e.jumps, jump{at: job.At(time.Now()), by: job.For(max(by, time.Duration(onItsWay)*time.Millisecond))})
		return n.advance(d)
	}
	if err := set(by); err != nil {
		return err
	}
	pauseFor(ctx, hold)
	return set(0)
}

// killed notes the moment of a leader's death.
func (e *env) killed() { e.deaths = append(e.deaths, killed{mono: monotonic(), wall: time.Now()}) }

// askPaused sends linearizable reads to a node that is stopped, so that they lie
// there when it goes on: then it must notice that it leads no longer.
func (e *env) askPaused(ctx context.Context, n *node, hold time.Duration) {
	pauseFor(ctx, hold/2)
	e.regs.mu.Lock()
	hot := slices.Clone(e.regs.all)
	e.regs.mu.Unlock()
	hot = hot[max(0, len(hot)-8):]
	at := slices.Index(e.nodes, n)
	for end := time.Now().Add(hold / 2); time.Now().Before(end); {
		for _, x := range hot {
			go e.regs.readAt(ctx, x, at, 10+int(readers.Add(1)))
		}
		pauseFor(ctx, 100*time.Millisecond)
	}
}

func networkFaults() []fault {
	cut := func(name string, hold time.Duration, nodes int, links func(e *env, n *node) []link, target func(ctx context.Context, e *env, r *rand.Rand) (*node, error)) fault {
		return fault{name: name, hold: hold, nodes: nodes, run: func(ctx context.Context, e *env, r *rand.Rand, hold time.Duration) error {
			n, err := target(ctx, e, r)
			if err != nil {
				return err
			}
			e.net.block(links(e, n)...)
			pauseFor(ctx, hold)
			return nil
		}}
	}
	leader := func(ctx context.Context, e *env, _ *rand.Rand) (*node, error) { return e.leader(ctx) }
	follower := func(ctx context.Context, e *env, r *rand.Rand) (*node, error) { return e.follower(ctx, r) }
	fromNodes := func(e *env, n *node) []link { return between([]string{n.name}, e.others(n)) }
	everything := func(e *env, n *node) []link {
		all := append(e.others(n), clients)
		for _, w := range e.workers {
			all = append(all, w.setup.ID)
		}
		return between([]string{n.name}, all)
	}
	mute := func(e *env, n *node) (out []link) {
		for _, o := range e.others(n) {
			out = append(out, link{n.name, o})
		}
		return out
	}
	deaf := func(e *env, n *node) (out []link) {
		for _, o := range e.others(n) {
			out = append(out, link{o, n.name})
		}
		return out
	}
	return []fault{
		cut("isolate-leader", 2*time.Second, 3, fromNodes, leader),
		cut("isolate-leader-wholly", 2*time.Second, 3, everything, leader),
		cut("isolate-follower", 2*time.Second, 3, fromNodes, follower),
		cut("mute-leader", 1500*time.Millisecond, 3, mute, leader),
		cut("deaf-leader", 1500*time.Millisecond, 3, deaf, leader),
		cut("mute-follower", 1500*time.Millisecond, 3, mute, follower),
		cut("deaf-follower", 1500*time.Millisecond, 3, deaf, follower),
		cut("cut-clients", 1500*time.Millisecond, 1, func(_ *env, n *node) []link { return between([]string{n.name}, []string{clients}) }, leader),
		{name: "cut-one-link", hold: 2 * time.Second, nodes: 3, run: func(ctx context.Context, e *env, r *rand.Rand, hold time.Duration) error {
			// The leader and one follower don't hear each other; both hear the third.
			l, err := e.leader(ctx)
			if err != nil {
				return err
			}
			e.net.block(between([]string{l.name}, e.others(l)[:1])...)
			pauseFor(ctx, hold)
			return nil
		}},
		{name: "shatter", hold: 2 * time.Second, nodes: 3, run: func(ctx context.Context, e *env, _ *rand.Rand, hold time.Duration) error {
			e.net.block(between(e.names(), e.names())...)
			pauseFor(ctx, hold)
			return nil
		}},
		{name: "flap", hold: 2 * time.Second, nodes: 3, run: func(ctx context.Context, e *env, r *rand.Rand, hold time.Duration) error {
			for end := time.Now().Add(hold); time.Now().Before(end) && ctx.Err() == nil; {
				n := e.nodes[r.IntN(len(e.nodes))]
				e.net.block(fromNodes(e, n)...)
				pauseFor(ctx, time.Duration(100+r.IntN(400))*time.Millisecond)
				e.net.heal()
				pauseFor(ctx, time.Duration(100+r.IntN(300))*time.Millisecond)
			}
			return nil
		}},
		{name: "cut-gossip", hold: 3 * time.Second, nodes: 3, run: func(ctx context.Context, e *env, r *rand.Rand, hold time.Duration) error {
			// Only packets: the log goes on, and nothing may follow from what gossip thinks.
			n := e.nodes[r.IntN(len(e.nodes))]
			e.net.blockPackets(between([]string{n.name}, e.others(n))...)
			before, stall := e.watch.highestTerm(), time.Duration(0)
			for end := time.Now().Add(hold); time.Now().Before(end) && ctx.Err() == nil; {
				start := time.Now()
				pauseFor(ctx, 20*time.Millisecond)
				stall = max(stall, time.Since(start))
			}
			// A machine that stands still makes nodes miss heartbeats too.
			if after := e.watch.highestTerm(); after != before && stall < 200*time.Millisecond {
				e.found.violated(0, "the term went from %d to %d because gossip was cut", before, after)
			}
			return nil
		}},
		{name: "lose-answers", hold: 1500 * time.Millisecond, run: func(ctx context.Context, e *env, _ *rand.Rand, hold time.Duration) error {
			for end := time.Now().Add(hold); time.Now().Before(end) && ctx.Err() == nil; {
				for _, n := range e.nodes {
					e.net.silence(link{n.name, clients})
				}
				pauseFor(ctx, 30*time.Millisecond)
				e.net.heal()
				pauseFor(ctx, 100*time.Millisecond)
			}
			return nil
		}},
	}
}

func agentFaults() []fault {
	pick := func(e *env, r *rand.Rand) *worker { return e.workers[r.IntN(len(e.workers))] }
	return []fault{
		{name: "agent-kill", hold: time.Second, run: func(ctx context.Context, e *env, r *rand.Rand, hold time.Duration) error {
			w := pick(e, r)
			w.process().kill()
			pauseFor(ctx, hold)
			return w.start()
		}},
		{name: "agent-pause", hold: 5 * time.Second, run: func(ctx context.Context, e *env, r *rand.Rand, hold time.Duration) error {
			// The lease is 3 s: its work is given away meanwhile.
			w := pick(e, r)
			w.pause()
			defer w.resume()
			pauseFor(ctx, hold)
			return nil
		}},
		{name: "agent-cut", hold: 4 * time.Second, run: func(ctx context.Context, e *env, r *rand.Rand, hold time.Duration) error {
			// From all nodes, past its lease: it must stop its work by itself.
			e.net.block(between([]string{pick(e, r).setup.ID}, e.names())...)
			pauseFor(ctx, hold)
			return nil
		}},
		{name: "agent-cut-from-one", hold: 2 * time.Second, nodes: 3, run: func(ctx context.Context, e *env, r *rand.Rand, hold time.Duration) error {
			n := e.nodes[r.IntN(len(e.nodes))]
			for _, w := range e.workers {
				e.net.block(between([]string{w.setup.ID}, []string{n.name})...)
			}
			pauseFor(ctx, hold)
			return nil
		}},
	}
}
