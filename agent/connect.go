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

// elsewhere is an error that says that another node will do: this one shuts down, is
// being drained, or is full.
type elsewhere struct{ error }

func (e elsewhere) Unwrap() error { return e.error }

// stayConnected connects again and again, to one node after the other, until ctx
// ends or a node refuses the agent for good. When a good connection is lost, or a
// node sends the agent away, the next one is tried at once.
func (a *Agent) stayConnected(ctx context.Context) error {
	pause := minBackoff
	known := false // a node has welcomed this agent
	refusals := 0  // in a row, by nodes that take no agents
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
		steadily := welcomed && time.Since(began) >= steady
		if steadily {
			pause = minBackoff
		}
		_, sentAway := errors.AsType[elsewhere](err)
		if refusals++; welcomed || !sentAway {
			refusals = 0
		}
		// With each node at most once in a row, lest they pass the agent round.
		if others := a.nodes.count() - 1; others > 0 && (steadily || sentAway && refusals <= others) {
			a.log.Info("connecting to another node", "addr", addr, "error", err)
			continue
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
	// all is in an order of its own, so that the agents of a node that goes away don't
	// all choose the same other one. at is the next.
	all []string
	at  int
}

func newNodes(given []string) *nodes {
	n := &nodes{given: given, all: slices.Clone(given)}
	n.shuffle()
	return n
}

// shuffle makes a new order; n.mu is held, or n is new.
func (n *nodes) shuffle() {
	rand.Shuffle(len(n.all), func(i, j int) { n.all[i], n.all[j] = n.all[j], n.all[i] })
	n.at = 0
}

func (n *nodes) next() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.at %= len(n.all)
	addr := n.all[n.at]
	n.at++
	return addr
}

func (n *nodes) count() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.all)
}

// maxNodes bounds the list; a cluster has a handful.
const maxNodes = 100

// learn replaces what was learnt before. What is not an address is passed over. The
// node that the agent is connected to, which next returned last, becomes the last to
// be tried.
func (n *nodes) learn(addrs []string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	all := slices.Clone(n.given)
	for _, raw := range addrs {
		addr, err := normalizeAddr(raw)
		if err == nil && !slices.Contains(all, addr) && len(all) < maxNodes {
			all = append(all, addr)
		}
	}
	if len(all) == len(n.all) && !slices.ContainsFunc(all, func(addr string) bool { return !slices.Contains(n.all, addr) }) {
		return // the same; the order stays
	}
	present := ""
	if n.at > 0 {
		present = n.all[n.at-1]
	}
	n.all = all
	n.shuffle()
	if i := slices.Index(n.all, present); i >= 0 {
		n.all = append(slices.Delete(n.all, i, i+1), present)
	}
}
