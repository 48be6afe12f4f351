package client

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	mathrand "math/rand/v2"
	"net/http"
	"net/url"
	"time"

	"github.com/orrery-io/orrery/job"
)

// requestIDHeader carries an id by which the cluster recognises a repeated
// request, so that it happens once.
const requestIDHeader = "Orrery-Request-Id"

var errSlow = errors.New("no answer in time")

// request is one call of the API.
type request struct {
	method, path string
	query        url.Values
	header       http.Header
	// body is encoded as JSON; nil sends none.
	body any
	// open returns a body of size bytes that is sent as it is, instead of body; nil
	// sends none. It is called for each try.
	open func() io.Reader
	size int64
	// wait is how long the node is asked to wait before it answers.
	wait time.Duration
	// repeat means that sending it a second time does no harm. It is implied by
	// GET.
	repeat bool
	// stream means that the answer is read for as long as it lasts.
	stream bool
}

// call does a request and decodes the answer into out, unless that is nil.
func (c *Client) call(ctx context.Context, r request, out any) error {
	resp, err := c.do(ctx, r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if out == nil {
		_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, maxProblem))
		return nil
	}
	data, err := io.ReadAll(resp.Body)
	switch {
	case err == nil:
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Is(err, context.Canceled):
		return unanswered(base(resp), errSlow)
	default:
		return unanswered(base(resp), err)
	}
	if err := json.Unmarshal(data, out); err != nil {
		return &Error{
			Status: resp.StatusCode, Code: CodeBadAnswer, cause: err,
			Detail: fmt.Sprintf("the answer of %s to %s %s cannot be read: %v", base(resp), r.method, r.path, err),
			Hint:   "check that the address is that of an Orrery node, and that its version fits",
		}
	}
	return nil
}

// base is the address of the node that answered.
func base(resp *http.Response) string {
	return resp.Request.URL.Scheme + "://" + resp.Request.URL.Host
}

// do sends a request until a node has answered: to the node that answered last,
// then to the others, and at least a second time when repeating is harmless. The
// caller closes the body of a successful answer.
func (c *Client) do(ctx context.Context, r request) (*http.Response, error) {
	var body []byte
	if r.body != nil {
		var err error
		if body, err = encode(r.body); err != nil {
			return nil, err
		}
	}
	if r.header == nil {
		r.header = http.Header{}
	}
	if r.method != http.MethodGet {
		// The same in every try.
		r.header.Set(requestIDHeader, rand.Text())
	}
	r.repeat = r.repeat || r.method == http.MethodGet

	tries := max(2, len(c.addrs))
	began := time.Now()
	for try := 1; ; try++ {
		at := c.current.Load()
		resp, err := c.send(ctx, c.addrs[at], r, body)
		if err == nil {
			return resp, nil
		}
		e, ok := errors.AsType[*Error](err)
		if !ok {
			return nil, err
		}
		if e.Status == http.StatusTooManyRequests {
			// The cluster asks everybody to be slower: nothing was recorded, and
			// another node would say the same.
			d := crowdPause(e.RetryAfter)
			if time.Since(began)+d > c.timeout {
				return nil, err
			}
			if err := pause(ctx, d); err != nil {
				return nil, err
			}
			try--
			continue
		}
		if try >= tries || !again(e, r.repeat) {
			return nil, err
		}
		c.current.CompareAndSwap(at, (at+1)%int64(len(c.addrs)))
		if len(c.addrs) > 1 && (e.Status == 0 || e.Code == job.ErrClosed.Code) {
			continue
		}
		if err := pause(ctx, min(max(e.RetryAfter, 200*time.Millisecond), 2*time.Second)); err != nil {
			return nil, err
		}
	}
}

// crowdPause is how long to wait when many were asked to come back after the same
// time: up to half as long again, so that they don't all come at once.
func crowdPause(asked time.Duration) time.Duration {
	asked = min(max(asked, 100*time.Millisecond), 10*time.Second)
	return asked + mathrand.N(asked/2)
}

// again reports whether a request that failed like this may be sent once more.
func again(e *Error, harmless bool) bool {
	switch {
	case e.beforeSending():
		return true
	case !harmless:
		return false
	}
	return e.Code == CodeNoAnswer && !errors.Is(e, errSlow) ||
		e.Status == http.StatusServiceUnavailable || e.Code == job.ErrOutcomeUnknown.Code
}

// send does one try. The error is an *Error, or why ctx ended.
func (c *Client) send(ctx context.Context, addr string, r request, body []byte) (*http.Response, error) {
	inner, cancel := context.WithCancelCause(ctx)
	timer := time.AfterFunc(c.timeout+r.wait, func() { cancel(errSlow) })
	stop := func() {
		timer.Stop()
		cancel(nil)
	}
	var from io.Reader = bytes.NewReader(body)
	if r.open != nil {
		from = r.open()
	}
	req, err := http.NewRequestWithContext(inner, r.method, addr+r.path, from)
	if err != nil {
		stop()
		return nil, fmt.Errorf("%s %s: %w", r.method, r.path, err)
	}
	if r.open != nil {
		req.ContentLength = r.size
	}
	req.URL.RawQuery = r.query.Encode()
	maps.Copy(req.Header, r.header)
	req.Header.Set("User-Agent", c.agent)
	if req.Header.Get("Accept") == "" {
		req.Header.Set("Accept", "application/json")
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		stop()
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if errors.Is(context.Cause(inner), errSlow) {
			err = errSlow
		}
		return nil, unanswered(addr, err)
	}
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		defer stop()
		defer resp.Body.Close()
		return nil, refusal(addr, resp)
	}
	if r.stream {
		timer.Stop()
	}
	resp.Body = &releasing{ReadCloser: resp.Body, release: stop}
	return resp, nil
}

// releasing frees the request's timer and context together with the body.
type releasing struct {
	io.ReadCloser
	release func()
}

// Close closes the body.
func (b *releasing) Close() error {
	err := b.ReadCloser.Close()
	b.release()
	return err
}

// encode is json.Marshal without turning <, > and & into escapes, which would
// make payloads longer than the user wrote them.
func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, fmt.Errorf("encode the request: %w", err)
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// pause waits, and returns why ctx ended when it does first.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
