package cluster

import (
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/orrery-io/orrery/internal/obs"
)

// errInterrupted is what becomes of sending or receiving a database when the node
// stops.
var errInterrupted = errors.New("the node stops")

// progressEvery is how often the log tells how far a database has come.
const progressEvery = 3 * time.Second

// progress is how far a database has come on its way to or from another node.
type progress struct {
	log   *slog.Logger
	sends bool // false: it comes
	size  int64
	began time.Time

	done  atomic.Int64 // bytes, with those of the request
	moved atomic.Int64 // when done changed last, in nanoseconds
	told  time.Time    // used by the one who calls move
	over  bool         // told that all is there; likewise

	mu          sync.Mutex
	conn        closer // nil until it is there
	interrupted bool
}

// newProgress begins to follow a database; node is where it goes, "" when it comes.
func newProgress(t *Transport, node string, size int64) *progress {
	now := time.Now()
	p := &progress{log: t.log, sends: node != "", size: size, began: now, told: now}
	if p.sends {
		p.log = p.log.With(obs.Member(node))
	}
	p.moved.Store(now.UnixNano())
	return p
}

// move counts bytes. Only one goroutine may call it.
func (p *progress) move(n int) {
	if n == 0 {
		return
	}
	now := time.Now()
	p.done.Add(int64(n))
	p.moved.Store(now.UnixNano())
	switch {
	case p.complete():
		p.arrived()
	case now.Sub(p.told) >= progressEvery:
		p.told = now
		far := slog.String("progress", size(p.bytes())+" of "+size(p.size))
		if p.sends {
			p.log.Info("sending the database", far)
		} else {
			p.log.Info("receiving the database", far)
		}
	}
}

// arrived tells once that all of it is there, or sent.
func (p *progress) arrived() {
	if p.over {
		return
	}
	p.over = true
	took := time.Since(p.began)
	if p.sends {
		p.log.Info("the database is sent, now it is installed there", obs.Bytes(p.size), obs.Took(took))
	} else {
		p.log.Info("the database is here, now it is installed", obs.Bytes(p.size), obs.Took(took))
	}
}

// bytes is how much has come, or gone. What the request itself takes is not worth
// subtracting.
func (p *progress) bytes() int64 { return min(p.done.Load(), p.size) }

func (p *progress) complete() bool { return p.done.Load() >= p.size }

// on says over which connection it goes. False means that it was interrupted before.
func (p *progress) on(c closer) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.conn = c
	return !p.interrupted
}

// interrupt ends it.
func (p *progress) interrupt() {
	p.mu.Lock()
	c := p.conn
	p.interrupted = true
	p.mu.Unlock()
	if c != nil {
		go func() { _ = c.Close() }() // the caller holds locks that Close needs
	}
}

// because returns why it has failed: an interruption, or what it looked like.
func (p *progress) because(err error) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil && p.interrupted {
		return errInterrupted
	}
	return err
}
