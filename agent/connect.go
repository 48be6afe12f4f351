package agent

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

const (
	// minBackoff and maxBackoff bound the pause before a new connection.
	minBackoff = 100 * time.Millisecond
	maxBackoff = 10 * time.Second
	// steady is how long a session must have lasted for the next pause to be short.
	steady = 5 * time.Second
)

// stayConnected connects again and again, to one node after the other, until ctx
// ends or a node refuses the agent for good.
func (a *Agent) stayConnected(ctx context.Context) error {
	pause := minBackoff
	known := false // a node has welcomed this agent
	for {
		addr := a.nodes.next()
		began := time.Now()
		welcomed, err := a.connect(ctx, addr)
		if ctx.Err() != nil || a.parted.Load() {
			return nil //nolint:nilerr // the end was asked for, and err is only how it came
		}
		known = known || welcomed
		// A wrong credential is reported at once. Once the agent was taken, a
		// refused handshake is more likely a node that is being set up anew, and
		// running work is worth waiting for.
		if refused, ok := errors.AsType[*RefusedError](err); ok && (!known || welcomed) {
			return refused
		}
		if welcomed && time.Since(began) >= steady {
			pause = minBackoff
		}
		pause = backoff(pause)
		a.log.Warn("not connected", "addr", addr, "error", err, "next_try", pause)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
	}
}

func (a *Agent) connect(ctx context.Context, addr string) (welcomed bool, err error) {
	c, err := a.dial(ctx, addr)
	if err != nil {
		return false, err
	}
	defer c.cut()
	return a.serve(ctx, addr, c)
}

// backoff returns the pause that follows one of the given length: decorrelated
// jitter, so that agents that lost the same node don't come back together.
// (Marc Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.)
func backoff(last time.Duration) time.Duration {
	return min(maxBackoff, minBackoff+rand.N(3*last-minBackoff))
}

// dropLink ends the present connection, if there is one.
func (a *Agent) dropLink(reason string) {
	if s := a.link.Load(); s != nil {
		s.fail(errors.New(reason))
	}
}

// learn takes the addresses of nodes from a node.
func (a *Agent) learn(addrs []string) {
	if len(addrs) > 0 {
		a.nodes.learn(addrs)
	}
}

// nodes is the list of addresses to try, in turn.
type nodes struct {
	mu    sync.Mutex
	given []string
	all   []string
	at    int
}

// newNodes begins anywhere in the list, so that agents with the same list don't
// all choose the same node.
func newNodes(given []string) *nodes {
	return &nodes{given: given, all: slices.Clone(given), at: rand.IntN(len(given))}
}

func (n *nodes) next() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.at %= len(n.all)
	addr := n.all[n.at]
	n.at++
	return addr
}

// maxNodes bounds the list; a cluster has a handful.
const maxNodes = 100

// learn replaces what was learnt before. What is not an address is passed over.
func (n *nodes) learn(addrs []string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.all = slices.Clone(n.given)
	for _, raw := range addrs {
		addr, err := normalizeAddr(raw)
		if err == nil && !slices.Contains(n.all, addr) && len(n.all) < maxNodes {
			n.all = append(n.all, addr)
		}
	}
}
