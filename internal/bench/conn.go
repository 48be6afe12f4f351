package bench

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// target is one node.
type target struct {
	// base is scheme://host:port[/prefix].
	base string
	url  *url.URL
}

func newTarget(base string) (target, error) {
	u, err := url.Parse(base)
	if err != nil {
		return target{}, fmt.Errorf("%q is not the address of a node: %w", base, err)
	}
	return target{base: base, url: u}, nil
}

// port is where the node listens.
func (t target) port() string {
	if p := t.url.Port(); p != "" {
		return p
	}
	if t.url.Scheme == "https" {
		return "443"
	}
	return "80"
}

// conn is one HTTP/1.1 connection. One goroutine uses it: it writes a request and
// reads the answer itself, without the goroutines and channels of an http.Transport.
type conn struct {
	to   target
	dial func(context.Context, target) (net.Conn, error)
	nc   net.Conn
	r    *bufio.Reader
	body []byte
}

// reply is the answer to a request. Body is valid until the next one.
type reply struct {
	status     int
	retryAfter time.Duration
	body       []byte
}

const (
	dialTimeout   = 5 * time.Second
	answerTimeout = 30 * time.Second
)

// do sends a request and reads the answer. After an error the connection is closed,
// and the next request opens another.
func (c *conn) do(ctx context.Context, raw []byte) (reply, error) {
	if c.nc == nil {
		if err := c.open(ctx); err != nil {
			return reply{}, err
		}
	}
	rep, keep, err := c.exchange(raw)
	if err != nil || !keep {
		c.close()
	}
	return rep, err
}

func (c *conn) open(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	nc, err := c.dial(ctx, c.to)
	if err != nil {
		return &dialError{err}
	}
	c.nc = nc
	if c.r == nil {
		c.r = bufio.NewReaderSize(nil, 16<<10)
	}
	c.r.Reset(nc)
	return nil
}

// dial connects to a node.
func dial(ctx context.Context, to target) (net.Conn, error) {
	addr := net.JoinHostPort(to.url.Hostname(), to.port())
	if to.url.Scheme == "https" {
		d := &tls.Dialer{Config: &tls.Config{ServerName: to.url.Hostname(), NextProtos: []string{"http/1.1"}, MinVersion: tls.VersionTLS12}}
		return d.DialContext(ctx, "tcp", addr)
	}
	return new(net.Dialer).DialContext(ctx, "tcp", addr)
}

// dialError means that the request reached nobody.
type dialError struct{ error }

func (e *dialError) Unwrap() error { return e.error }

func (c *conn) exchange(raw []byte) (rep reply, keep bool, err error) {
	if err := c.nc.SetDeadline(time.Now().Add(answerTimeout)); err != nil {
		return reply{}, false, err
	}
	if _, err := c.nc.Write(raw); err != nil {
		return reply{}, false, err
	}
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil {
		return reply{}, false, err
	}
	defer resp.Body.Close()
	if c.body, err = readAll(c.body[:0], resp.Body); err != nil {
		return reply{}, false, err
	}
	rep = reply{status: resp.StatusCode, body: c.body}
	if s, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && s >= 0 {
		rep.retryAfter = min(time.Duration(s)*time.Second, time.Minute)
	}
	return rep, !resp.Close, nil
}

func (c *conn) close() {
	if c.nc != nil {
		_ = c.nc.Close()
		c.nc = nil
	}
}

// readAll reads r to its end, into b.
func readAll(b []byte, r io.Reader) ([]byte, error) {
	for {
		if len(b) == cap(b) {
			b = append(b, 0)[:len(b)]
		}
		n, err := r.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		switch {
		case errors.Is(err, io.EOF):
			return b, nil
		case err != nil:
			return b, err
		}
	}
}
