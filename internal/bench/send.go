package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"time"
)

// sender submits jobs over one connection.
type sender struct {
	run *run
	// number is that of the connection, from 0.
	number  int
	at      int // the target in use
	conn    conn
	form    *form
	formFor ticketShape
	sent    uint64
}

// ticketShape is what a form is rendered for.
type ticketShape struct{ target, jobs int }

const (
	// giveUpAfter is for how long one request is sent again.
	giveUpAfter = 30 * time.Second
	// leastThrottle and mostThrottle bound what a node may ask for with a 429.
	leastThrottle, mostThrottle = 100 * time.Millisecond, 10 * time.Second
	// retryPause is the pause after a failure that may pass.
	retryPause = 200 * time.Millisecond
	// lateAfter is how long after its time a request of an open loop counts as late.
	lateAfter = 10 * time.Millisecond
)

// errRefused means that the cluster will never take such a request.
var errRefused = errors.New("the cluster refuses the jobs")

// send submits jobs that were due at a time, and sees to it that it is known what
// became of them, as far as that is possible. The error ends the measurement.
func (s *sender) send(ctx context.Context, t ticket) error {
	c := s.run.counters
	s.sent++
	began := time.Now()
	// unclear means that a try may have reached the cluster.
	unclear := false
	for {
		s.prepare(t)
		rep, err := s.conn.do(context.WithoutCancel(ctx), s.form.raw)
		c.requests.Add(1)
		now := s.run.now()
		var pause time.Duration
		switch {
		case err == nil && (rep.status == http.StatusCreated || rep.status == http.StatusOK):
			return s.acked(t, rep, now)
		case err == nil && rep.status == http.StatusTooManyRequests:
			c.throttle.Add(1)
			c.trouble("429 "+problemCode(rep.body), string(rep.body))
			pause = min(max(rep.retryAfter, leastThrottle), mostThrottle)
			pause += rand.N(pause / 2) // not all at once
		case err == nil && rep.status < http.StatusInternalServerError:
			return fmt.Errorf("%w: %s answered %d: %s", errRefused, s.conn.to.base, rep.status, clip(string(rep.body), 500))
		case err == nil:
			unclear = unclear || rep.status != http.StatusServiceUnavailable
			c.trouble(fmt.Sprintf("%d %s", rep.status, problemCode(rep.body)), string(rep.body))
			pause = retryPause
			s.turn()
		default:
			if _, dialing := errors.AsType[*dialError](err); !dialing {
				unclear = true
			}
			c.trouble(kindOf(err), err.Error())
			pause = retryPause
			s.turn()
		}
		if time.Since(began)+pause > giveUpAfter || !pauseFor(ctx, pause) {
			s.failed(t, unclear)
			return nil
		}
	}
}

// prepare makes the request ready. The same id in every try makes it happen once.
func (s *sender) prepare(t ticket) {
	r := s.run
	shape := ticketShape{s.at, t.jobs}
	if s.form == nil || s.formFor != shape {
		to := r.targets[s.at]
		s.formFor = shape
		s.form = newForm(formConfig{
			host: to.url.Host, path: to.url.EscapedPath(), token: r.cfg.Token,
			prefix: fmt.Sprintf("%s-%d", r.queue, s.number), queue: r.queue, retention: r.cfg.Retention,
			jobs: t.jobs, payload: r.cfg.Payload, batch: r.cfg.Batch > 1,
		})
	}
	if s.conn.to.base != r.targets[s.at].base {
		s.conn.close()
		s.conn.to = r.targets[s.at]
	}
	s.form.fill(s.sent, t.due)
}

// turn goes to the next node.
func (s *sender) turn() { s.at = (s.at + 1) % len(s.run.targets) }

// acked counts an answer that the jobs are recorded.
func (s *sender) acked(t ticket, rep reply, now time.Duration) error {
	accepted := t.jobs
	if s.run.cfg.Batch > 1 {
		var answer struct{ Accepted, Refused int }
		if err := json.Unmarshal(rep.body, &answer); err != nil || answer.Accepted+answer.Refused != t.jobs {
			return fmt.Errorf("%s answered for %d of %d jobs: %s", s.conn.to.base, answer.Accepted+answer.Refused, t.jobs, clip(string(rep.body), 200))
		}
		accepted = answer.Accepted
	}
	r, c := s.run, s.run.counters
	c.acked.Add(int64(accepted))
	if refused := t.jobs - accepted; refused > 0 {
		c.refused.Add(int64(refused))
		c.trouble("refused in a batch", string(rep.body))
		r.window.leave(refused)
	}
	if r.span.has(now) {
		c.inAcked.Add(int64(accepted))
		c.inRequests.Add(1)
	}
	if r.span.has(t.due) {
		r.request.add(s.number, now-t.due)
	}
	return nil
}

// failed counts jobs of which it is not known, or known that they are not recorded.
func (s *sender) failed(t ticket, unclear bool) {
	n := int64(t.jobs)
	if unclear {
		s.run.counters.unknown.Add(n)
	} else {
		s.run.counters.refused.Add(n)
	}
	s.run.window.leave(t.jobs)
}

// problemCode is the word for programs in an answer that is not a success.
func problemCode(body []byte) string {
	var p struct{ Code string }
	_ = json.Unmarshal(body, &p) // what answered may be something else
	return p.Code
}

// kindOf names a failure below HTTP.
func kindOf(err error) string {
	if _, ok := errors.AsType[*dialError](err); ok {
		return "no connection"
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return "no answer in time"
	}
	return "connection lost"
}

// pauseFor waits; false means that ctx ended first.
func pauseFor(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
