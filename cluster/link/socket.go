package link

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/coder/websocket"
	"github.com/orrery-io/orrery/internal/obs"
)

// How the two sides of a connection agree that they speak this.
const (
	path        = "/link"
	subprotocol = "orrery.link.v1"
	// epochHeader has the epoch of a connection.
	epochHeader = "Orrery-Link"
)

// epoch tells which of two connections of a node is newer: of one process, the one
// with the higher count.
type epoch struct {
	process string
	count   uint64
}

// epochs counts the connections that this process makes.
type epochs struct {
	process string
	count   atomic.Uint64
}

func newEpochs() *epochs { return &epochs{process: rand.Text()} }

func (e *epochs) next() epoch { return epoch{e.process, e.count.Add(1)} }

func (e epoch) String() string { return e.process + "-" + strconv.FormatUint(e.count, 10) }

func parseEpoch(s string) (epoch, error) {
	process, count, ok := strings.Cut(s, "-")
	n, err := strconv.ParseUint(count, 10, 64)
	if !ok || err != nil || process == "" || len(process) > 64 {
		return epoch{}, errors.New("the header " + epochHeader + " is missing or malformed")
	}
	return epoch{process, n}, nil
}

// before reports whether e is older than o. Of two processes nobody can tell; the one
// that comes later is the newer then.
func (e epoch) before(o epoch) bool { return e.process == o.process && e.count < o.count }

// dial connects to a node.
func (m *Mesh) dial(ctx context.Context, node string, e epoch) (*conn, error) {
	if m.cfg.Dial == nil {
		return nil, errors.New("this node does not connect to others")
	}
	ctx, cancel := context.WithTimeout(ctx, m.cfg.DialTimeout)
	defer cancel()
	nc, err := m.cfg.Dial(ctx, node)
	if err != nil {
		return nil, err
	}
	ws, resp, err := websocket.Dial(ctx, "http://node"+path, &websocket.DialOptions{
		HTTPClient:      &http.Client{Transport: oneConn{nc}},
		HTTPHeader:      http.Header{epochHeader: {e.String()}},
		Subprotocols:    []string{subprotocol},
		CompressionMode: websocket.CompressionDisabled,
	})
	if err != nil {
		_ = nc.Close()
		return nil, explain(resp, err)
	}
	if ws.Subprotocol() != subprotocol {
		_ = ws.CloseNow()
		_ = nc.Close()
		return nil, fmt.Errorf("the node does not speak %s", subprotocol)
	}
	ws.SetReadLimit(-1) // readFrame has the limit
	return newConn(m, node, ws, nc, true), nil
}

// explain finds the other side's words in a refused handshake.
func explain(resp *http.Response, err error) error {
	if resp == nil || resp.Body == nil || resp.StatusCode == http.StatusSwitchingProtocols {
		return err
	}
	said, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
	return fmt.Errorf("the node refused the connection: %s: %s", resp.Status, strings.TrimSpace(string(said)))
}

// oneConn is an http.RoundTripper for one request over a connection that is there
// already. When the answer is to switch protocols, the connection is the body.
type oneConn struct{ conn net.Conn }

// RoundTrip implements http.RoundTripper.
func (t oneConn) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx := req.Context()
	stop := context.AfterFunc(ctx, func() { _ = t.conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if err := req.Write(t.conn); err != nil {
		return nil, err
	}
	br := bufio.NewReader(t.conn)
	resp, err := http.ReadResponse(br, req)
	if err != nil {
		return nil, err
	}
	if !stop() {
		_ = resp.Body.Close()
		return nil, context.Cause(ctx)
	}
	if resp.StatusCode == http.StatusSwitchingProtocols {
		resp.Body = &upgraded{Conn: t.conn, early: br}
	}
	return resp, nil
}

// upgraded is a connection of which a little was read already.
type upgraded struct {
	net.Conn

	early *bufio.Reader
}

// Read implements io.Reader.
func (u *upgraded) Read(p []byte) (int, error) {
	if u.early != nil {
		if n := u.early.Buffered(); n > 0 {
			return u.early.Read(p[:min(n, len(p))])
		}
		u.early = nil
	}
	return u.Conn.Read(p)
}

// accept takes the connections of other nodes until ctx ends.
func (m *Mesh) accept(ctx context.Context) error {
	var open group
	defer open.wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type netConn struct{}
	srv := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			nc, _ := r.Context().Value(netConn{}).(net.Conn)
			if c := m.upgrade(w, r, nc); c != nil && !open.start(func() { m.serve(ctx, c) }) {
				_ = nc.Close()
			}
		}),
		ReadHeaderTimeout: 5 * time.Second,
		MaxHeaderBytes:    4 << 10,
		ErrorLog:          slog.NewLogLogger(m.log.Handler(), slog.LevelDebug),
		ConnContext:       func(ctx context.Context, c net.Conn) context.Context { return context.WithValue(ctx, netConn{}, c) },
	}
	failed := make(chan error, 1)
	go func() { failed <- srv.Serve(m.cfg.Listener) }()
	select {
	case <-ctx.Done():
		_ = srv.Close()
		<-failed //nolint:errcheck // it says that it was closed
		return nil
	case err := <-failed:
		_ = srv.Close()
		if ctx.Err() != nil {
			return nil
		}
		return fmt.Errorf("accept links: %w", err)
	}
}

// upgrade makes a WebSocket of a request; nil when it was refused.
func (m *Mesh) upgrade(w http.ResponseWriter, r *http.Request, nc net.Conn) *accepted {
	refuse := func(status int, word, sentence string) *accepted {
		m.metrics.refused.WithLabelValues(word).Inc()
		http.Error(w, sentence, status)
		return nil
	}
	if r.URL.Path != path {
		return refuse(http.StatusNotFound, "path", "there is nothing here but "+path)
	}
	e, err := parseEpoch(r.Header.Get(epochHeader))
	if err != nil {
		return refuse(http.StatusBadRequest, "handshake", err.Error())
	}
	node := m.cfg.From(nc)
	if node == "" {
		return refuse(http.StatusForbidden, "stranger", "it is not known which node this is")
	}
	ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{
		Subprotocols:    []string{subprotocol},
		CompressionMode: websocket.CompressionDisabled,
	})
	if err != nil {
		m.metrics.refused.WithLabelValues("handshake").Inc()
		m.log.DebugContext(r.Context(), "link refused", obs.Node(node), obs.Err(err))
		return nil
	}
	if ws.Subprotocol() != subprotocol {
		m.metrics.refused.WithLabelValues("handshake").Inc()
		_ = ws.Close(websocket.StatusPolicyViolation, "this node speaks "+subprotocol)
		return nil
	}
	ws.SetReadLimit(-1) // readFrame has the limit
	return &accepted{newConn(m, node, ws, nc, false), e}
}

// group is a WaitGroup that takes nothing more once somebody waits.
type group struct {
	mu   sync.Mutex
	over bool
	wg   sync.WaitGroup
}

func (g *group) start(f func()) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.over {
		g.wg.Go(f)
	}
	return !g.over
}

func (g *group) wait() {
	g.mu.Lock()
	g.over = true
	g.mu.Unlock()
	g.wg.Wait()
}
