//go:build linux

package chaos

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/orrery-io/orrery/client"
)

func clusterFaults() []fault {
	return []fault{
		{name: "rolling-restart", hold: time.Second, nodes: 3, run: rolling},
		{name: "transfer", hold: 200 * time.Millisecond, nodes: 3, run: func(ctx context.Context, e *env, r *rand.Rand, hold time.Duration) error {
			c, err := client.New(client.Config{Token: token, Addrs: e.addrs(r)})
			if err != nil {
				return err
			}
			if _, err := c.TransferLeadership(ctx, ""); err != nil {
				e.say("  not transferred: %v", err)
			}
			pauseFor(ctx, hold)
			return nil
		}},
		{name: "install", hold: 2 * time.Second, nodes: 3, run: install},
		{name: "install-frozen-leader", hold: 1500 * time.Millisecond, nodes: 3, run: installFrozen},
		{name: "replace", hold: time.Second, nodes: 3, run: func(ctx context.Context, e *env, r *rand.Rand, hold time.Duration) error {
			n, err := e.follower(ctx, r)
			if err != nil {
				return err
			}
			st, err := e.cluster.status(ctx, n)
			if err != nil {
				return err
			}
			e.kill(n)
			pauseFor(ctx, hold)
			return e.replace(ctx, n, st.Node)
		}},
	}
}

// rolling restarts every node as an operator would: one after the other, each once
// the one before is ready. Clients that retry once must not notice.
func rolling(ctx context.Context, e *env, r *rand.Rand, _ time.Duration) error {
	failed := e.jobs.failures.Load()
	e.jobs.rolling.Store(true)
	defer e.jobs.rolling.Store(false)
	for _, i := range r.Perm(len(e.nodes)) {
		n := e.nodes[i]
		n.mayEnd()
		if err := n.process().stop(40 * time.Second); err != nil {
			e.found.violated(0, "rolling restart: %v", err)
		}
		if err := e.start(n); err != nil {
			return err
		}
		if err := e.cluster.ready(ctx, n, 30*time.Second); err != nil {
			e.found.violated(7, "rolling restart: %v", err)
			return err
		}
		pauseFor(ctx, 500*time.Millisecond)
	}
	if k := e.jobs.failures.Load() - failed; k > 0 {
		e.jobs.mu.Lock()
		why := slices.Clone(e.jobs.failed)
		e.jobs.mu.Unlock()
		e.found.violated(7, "rolling restart: %d requests failed, although their clients tried again: %v", k, why)
	}
	return nil
}

// install keeps a node away until the others have cut their logs, so that it needs a
// copy of the database.
func install(ctx context.Context, e *env, r *rand.Rand, hold time.Duration) error {
	n, err := e.behind(ctx, r, hold)
	if err != nil {
		return err
	}
	if err := e.start(n); err != nil {
		return err
	}
	return e.caughtUp(ctx, n, 45*time.Second)
}

// behind kills a follower and waits until the log that it would need is cut.
func (e *env) behind(ctx context.Context, r *rand.Rand, hold time.Duration) (*node, error) {
	n, err := e.follower(ctx, r)
	if err != nil {
		return nil, err
	}
	e.kill(n)
	pauseFor(ctx, hold)
	for _, o := range e.nodes {
		if o == n {
			continue
		}
		for range 2 { // what trails the first marker goes with the second
			c, err := client.New(client.Config{Token: token, Addr: o.http})
			if err != nil {
				return nil, err
			}
			if _, err := c.Snapshot(ctx); err != nil {
				e.say("  no snapshot on %s: %v", o.name, err)
			}
			pauseFor(ctx, 200*time.Millisecond)
		}
	}
	return n, nil
}

// installFrozen stops the leader while it sends a copy of the database.
func installFrozen(ctx context.Context, e *env, r *rand.Rand, hold time.Duration) error {
	n, err := e.behind(ctx, r, hold)
	if err != nil {
		return err
	}
	l, err := e.leader(ctx)
	if err != nil {
		return err
	}
	e.net.throttle(link{l.name, n.name})
	before, err := os.ReadFile(l.log)
	if err != nil {
		return err
	}
	if err := e.start(n); err != nil {
		return err
	}
	for end := time.Now().Add(4 * time.Second); time.Now().Before(end) && ctx.Err() == nil; pauseFor(ctx, 5*time.Millisecond) {
		text, err := os.ReadFile(l.log)
		if err == nil && bytes.Contains(text[len(before):], []byte("database copied for another node")) {
			e.say("  %s is frozen while it sends its database", l.name)
			pauseFor(ctx, 300*time.Millisecond)
			break
		}
	}
	l.process().pause()
	pauseFor(ctx, hold)
	l.process().resume()
	e.net.heal()
	return e.caughtUp(ctx, n, 60*time.Second)
}

// caughtUp waits until a node has applied what the leader had committed.
func (e *env) caughtUp(ctx context.Context, n *node, limit time.Duration) error {
	l, err := e.leader(ctx)
	if err != nil {
		return err
	}
	goal, err := e.cluster.status(ctx, l)
	if err != nil {
		return err
	}
	var st status
	for end := time.Now().Add(limit); time.Now().Before(end) && ctx.Err() == nil; pauseFor(ctx, 50*time.Millisecond) {
		if st, err = e.cluster.status(ctx, n); err == nil && st.Applied >= goal.Commit {
			return nil
		}
		if !n.process().alive() {
			return nil // somebody else says why
		}
	}
	if ctx.Err() == nil {
		e.found.violated(7, "%s has applied %d after %s; the leader had %d", n.name, st.Applied, limit, goal.Commit)
	}
	return nil
}

// replace takes a node out of the cluster and lets an empty one come in its place.
func (e *env) replace(ctx context.Context, n *node, id string) error {
	e.kill(n)
	r := rand.New(rand.NewPCG(e.seed, uint64(n.generation)))
	var last error
	for range 20 {
		c, err := client.New(client.Config{Token: token, Addrs: e.addrs(r)})
		if err != nil {
			return err
		}
		if _, last = c.RemoveMember(ctx, id, true); last == nil || !pauseFor(ctx, 500*time.Millisecond) {
			break
		}
	}
	if last != nil && ctx.Err() == nil {
		e.found.violated(7, "%s could not be removed: %v", n.name, last)
		return last
	}
	n.generation++
	if err := e.start(n); err != nil {
		return err
	}
	for end := time.Now().Add(60 * time.Second); time.Now().Before(end) && ctx.Err() == nil; pauseFor(ctx, 100*time.Millisecond) {
		st, err := e.cluster.status(ctx, n)
		if err != nil {
			continue
		}
		for _, s := range st.Servers {
			if s.ID == st.Node && s.Voter {
				return nil
			}
		}
	}
	if ctx.Err() == nil {
		e.found.violated(7, "%s, empty, was not made a voter within 60s", n.name)
		return fmt.Errorf("%s did not join", n.name)
	}
	return nil
}

// equal checks that a node which went on with a damaged file has the same rows as
// the others, once it has caught up. When it meets the damage it ends, and gets what it
// needs from the others at its next start. What has no checksum, such as the keys of an
// index, only the comparison finds: a known gap, and the node is replaced.
func (e *env) equal(ctx context.Context, n *node, id, what string) error {
	r := rand.New(rand.NewPCG(e.seed, 3))
	c, err := client.New(client.Config{Token: token, Addrs: e.addrs(r)})
	if err != nil {
		return err
	}
	var v *client.Verification
	for range 3 {
		if err = e.caughtUp(ctx, n, 45*time.Second); err == nil {
			v, err = c.Verify(ctx)
		}
		if err == nil && slices.Contains(v.Missing, id) {
			n.process().ends(15 * time.Second)
		}
		if n.process().alive() {
			break
		}
		e.say("  %s ends: %s", n.name, lastLines(n.log, 1))
		if err := e.start(n); err != nil {
			return err
		}
		n.mayEnd()
	}
	switch {
	case err != nil:
		e.say("  not verified: %v", err)
	case !v.Equal && strings.HasPrefix(what, oneBit):
		e.say("  KNOWN GAP: %s goes on with %s, which only verify finds", n.name, what)
		e.gaps++
		return e.replace(ctx, n, id)
	case !v.Equal:
		e.found.violated(4, "%s went on with %s, and its rows differ: %v", n.name, what, v.Hashes)
	}
	return nil
}
