package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/coder/websocket"

	"github.com/orrery-io/orrery/wire"
)

// conn is one connection to a node, which carries frames.
type conn interface {
	// read returns the next frame, which is valid until the next call.
	read() ([]byte, error)
	// write sends one frame. Only one goroutine calls it.
	write(frame []byte) error
	// format is how the frames are written.
	format() wire.Format
	// leave closes in good order, within a second.
	leave()
	// cut closes at once. It may be called at any time and more than once.
	cut()
}

// dialTimeout bounds the handshake, shortDial when there are other nodes to try: the
// lease of what the agent executes runs.
const (
	dialTimeout = 10 * time.Second
	shortDial   = 3 * time.Second
)

// webSocket is a conn over the network.
type webSocket struct {
	ws  *websocket.Conn
	fmt wire.Format
	buf []byte
}

// dial connects to the node at addr. An error that wraps *RefusedError means that
// the node doesn't want this agent.
func (a *Agent) dialWebSocket(ctx context.Context, addr string) (conn, error) {
	timeout := dialTimeout
	if a.nodes.count() > 1 {
		timeout = shortDial
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	header := http.Header{}
	if a.cfg.Token != "" {
		header.Set("Authorization", "Bearer "+a.cfg.Token)
	}
	ws, resp, err := websocket.Dial(ctx, addr+wire.Path, &websocket.DialOptions{
		HTTPClient:      a.cfg.HTTP,
		HTTPHeader:      header,
		Subprotocols:    []string{a.cfg.Format.Subprotocol()},
		CompressionMode: websocket.CompressionDisabled,
	})
	if err != nil {
		return nil, explainHandshake(addr, resp, err)
	}
	format, ok := wire.FormatOf(ws.Subprotocol())
	if !ok {
		_ = ws.CloseNow()
		return nil, fmt.Errorf("connect to %s: it speaks none of the subprotocols of Orrery", addr)
	}
	ws.SetReadLimit(wire.MaxFrame)
	return &webSocket{ws: ws, fmt: format}, nil
}

// explainHandshake finds the node's own words in a refused handshake.
func explainHandshake(addr string, resp *http.Response, err error) error {
	if resp == nil || resp.StatusCode == http.StatusSwitchingProtocols {
		return fmt.Errorf("connect to %s: %w", addr, err)
	}
	var problem struct {
		Code   string `json:"code"`
		Title  string `json:"title"`
		Detail string `json:"detail"`
		Hint   string `json:"hint"`
	}
	said := resp.Status
	if resp.Body != nil {
		body, _ := io.ReadAll(io.LimitReader(resp.Body, 4<<10))
		if json.Unmarshal(body, &problem) == nil && problem.Title+problem.Detail != "" {
			said = strings.Trim(problem.Title+": "+problem.Detail, ": ")
			if problem.Hint != "" {
				said += "; " + problem.Hint
			}
		}
	}
	said = clip(said, maxMessage)
	switch resp.StatusCode {
	case http.StatusUnauthorized, http.StatusForbidden:
		code := problem.Code
		if code == "" {
			code = strings.ToLower(strings.ReplaceAll(http.StatusText(resp.StatusCode), " ", "_"))
		}
		return &RefusedError{Addr: addr, Code: code, Message: said}
	case http.StatusServiceUnavailable:
		return elsewhere{fmt.Errorf("connect to %s: the answer is %d, %s", addr, resp.StatusCode, said)}
	default:
		return fmt.Errorf("connect to %s: the answer is %d, %s", addr, resp.StatusCode, said)
	}
}

func (c *webSocket) format() wire.Format { return c.fmt }

// read uses a context without end: one that ends would close the connection at a
// moment nobody chose. cut ends a read.
func (c *webSocket) read() ([]byte, error) {
	_, r, err := c.ws.Reader(context.Background())
	if err != nil {
		return nil, err
	}
	if cap(c.buf) > 4*wire.SoftFrame {
		c.buf = nil // don't keep what one large payload needed
	}
	c.buf, err = appendAll(c.buf[:0], r)
	return c.buf, err
}

func (c *webSocket) write(frame []byte) error {
	typ := websocket.MessageText
	if c.fmt.Binary() {
		typ = websocket.MessageBinary
	}
	return c.ws.Write(context.Background(), typ, frame)
}

func (c *webSocket) leave() {
	t := time.AfterFunc(time.Second, c.cut)
	defer t.Stop()
	_ = c.ws.Close(websocket.StatusNormalClosure, "bye")
}

func (c *webSocket) cut() { _ = c.ws.CloseNow() }

// appendAll reads r to its end.
func appendAll(b []byte, r io.Reader) ([]byte, error) {
	for {
		if len(b) == cap(b) {
			b = append(b, 0)[:len(b)]
		}
		n, err := r.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		if err == io.EOF { //nolint:errorlint // an io.Reader returns io.EOF itself
			return b, nil
		}
		if err != nil {
			return b, err
		}
	}
}
