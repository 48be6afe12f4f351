package client

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"time"
)

// patience says whether, and after which pause, something that was interrupted
// is taken up again: for a minute, with pauses that grow to two seconds.
type patience struct {
	until time.Time
	next  time.Duration
}

const (
	patienceLasts = time.Minute
	pauseFirst    = 50 * time.Millisecond
	pauseMost     = 2 * time.Second
)

func newPatience() *patience { return &patience{} }

// retry pauses and reports true when the failed call may be made again.
func (p *patience) retry(ctx context.Context, err error) bool {
	if ctx.Err() != nil || !passing(err) {
		return false
	}
	if p.until.IsZero() {
		p.until, p.next = time.Now().Add(patienceLasts), pauseFirst
	}
	if time.Now().After(p.until) {
		return false
	}
	d := p.next/2 + rand.N(p.next/2+1)
	p.next = min(2*p.next, pauseMost)
	return pause(ctx, d) == nil
}

// passing reports whether the cause of an error may pass by itself.
func passing(err error) bool {
	e, ok := errors.AsType[*Error](err)
	if !ok {
		return false
	}
	switch e.Status {
	case 0:
		return e.Code != CodeBadAnswer
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return false
}
