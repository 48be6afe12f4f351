//go:build linux

package chaos

import (
	"context"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/orrery-io/orrery/client"
	"github.com/orrery-io/orrery/job"
)

// listener follows the event feed from its beginning, each connection on another
// node, and notes every event.
type listener struct {
	load  *jobLoad
	found *findings

	mu      sync.Mutex
	events  []job.Event
	resumed int
}

// sum is a fingerprint of all that an event says.
func sum(e job.Event) uint64 {
	text, err := json.Marshal(e)
	if err != nil {
		panic(err)
	}
	h := fnv.New64a()
	_, _ = h.Write(text)
	return h.Sum64()
}

// follow listens until ctx ends.
func (l *listener) follow(ctx context.Context, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 777))
	var last job.EventID
	for ctx.Err() == nil {
		c := l.load.client(r)
		// A connection is given up after a while, to resume on another node.
		some, cancel := context.WithTimeout(ctx, time.Duration(2+r.IntN(6))*time.Second)
		for e, err := range c.Events(some, client.EventOptions{After: new(last)}) {
			if err != nil {
				break
			}
			if !last.Less(e.ID) {
				l.found.violated(6, "the feed gave event %s behind %s", e.ID, last)
			}
			last = e.ID
			l.mu.Lock()
			l.events = append(l.events, e)
			l.mu.Unlock()
		}
		cancel()
		l.mu.Lock()
		l.resumed++
		l.mu.Unlock()
		pauseFor(ctx, 50*time.Millisecond)
	}
}

// feedOf reads all that a node has of the feed, directly.
func feedOf(ctx context.Context, n *node) ([]job.Event, error) {
	c, err := client.New(client.Config{Token: token, Addr: n.http, Timeout: 30 * time.Second})
	if err != nil {
		return nil, err
	}
	var events []job.Event
	for e, err := range c.Events(ctx, client.EventOptions{After: new(job.EventID), Stored: true}) {
		if err != nil {
			return nil, fmt.Errorf("feed of %s: %w", n.name, err)
		}
		events = append(events, e)
	}
	return events, nil
}
