package agentconn

import (
	"bufio"
	"context"
	"encoding/json"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/coder/websocket"
	"github.com/orrery-io/orrery/internal/obs"
	"github.com/orrery-io/orrery/wire"
)

// ServeHTTP upgrades a request to a WebSocket and returns; the session goes on
// until it ends by itself or with Run. Whoever asks has been authenticated before.
// Requests of web pages from elsewhere are refused.
func (h *Hub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if code, reason := h.room(); code != "" {
		w.Header().Set("Retry-After", "2")
		h.refuse(w, http.StatusServiceUnavailable, code, reason)
		return
	}
	if !strings.EqualFold(r.Header.Get("Upgrade"), "websocket") {
		w.Header().Set("Connection", "Upgrade")
		w.Header().Set("Upgrade", "websocket")
		h.refuse(w, http.StatusUpgradeRequired, "websocket_required",
			"this address speaks WebSocket with the subprotocol "+strings.Join(wire.Subprotocols(), " or "))
		return
	}
	if !offers(r) {
		h.refuse(w, http.StatusBadRequest, "subprotocol_required",
			"offer the subprotocol "+strings.Join(wire.Subprotocols(), " or ")+" in Sec-WebSocket-Protocol")
		return
	}
	s := &session{
		hub:     h,
		remote:  r.RemoteAddr,
		wake:    make(chan struct{}, 1),
		written: make(chan struct{}),
		unread:  make(chan struct{}),
		silence: welcomeTimeout,
	}
	grab := &hijacked{ResponseWriter: w}
	conn, err := websocket.Accept(grab, r, &websocket.AcceptOptions{
		Subprotocols:    wire.Subprotocols(),
		CompressionMode: websocket.CompressionDisabled,
		OnPingReceived: func(context.Context, []byte) bool {
			s.armWrite()
			return true
		},
	})
	if err != nil {
		h.metrics.refused.WithLabelValues("handshake").Inc()
		h.log.DebugContext(r.Context(), "agent refused", obs.Addr(r.RemoteAddr), obs.Err(err))
		return
	}
	conn.SetReadLimit(-1) // readFrame has the limit, and says so to the agent
	s.conn, s.net = conn, grab.conn
	s.format, _ = wire.FormatOf(conn.Subprotocol())
	keepAlive(s.net)
	_ = s.net.SetReadDeadline(time.Now().Add(h.cfg.HelloTimeout))
	h.metrics.connected.Inc()
	// The session outlives the request, and its reads are ended by deadlines: a
	// context that can end would cost the library a timer for each read.
	if !h.start(context.Background(), s) {
		_ = conn.Close(websocket.StatusGoingAway, "the node takes no agents at the moment")
	}
}

// refuse answers a request that is not upgraded with a problem (RFC 9457).
func (h *Hub) refuse(w http.ResponseWriter, status int, code, detail string) {
	h.metrics.refused.WithLabelValues(code).Inc()
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(struct {
		Title  string `json:"title"`
		Status int    `json:"status"`
		Code   string `json:"code"`
		Detail string `json:"detail"`
	}{http.StatusText(status), status, code, detail})
}

// offers reports whether the request offers a subprotocol that we speak.
func offers(r *http.Request) bool {
	for _, v := range r.Header.Values("Sec-WebSocket-Protocol") {
		for p := range strings.SplitSeq(v, ",") {
			if _, ok := wire.FormatOf(strings.TrimSpace(p)); ok {
				return true
			}
		}
	}
	return false
}

// hijacked keeps the connection that the WebSocket library takes over, for its
// deadlines.
type hijacked struct {
	http.ResponseWriter
	conn net.Conn
}

// Hijack implements http.Hijacker.
func (w *hijacked) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(w.ResponseWriter).Hijack()
	w.conn = conn
	return conn, rw, err
}

// keepAlive lets the system notice a peer that vanished without a word even before
// the heartbeats do.
func keepAlive(c net.Conn) {
	if t, ok := c.(interface{ NetConn() net.Conn }); ok { // TLS
		c = t.NetConn()
	}
	if t, ok := c.(*net.TCPConn); ok {
		_ = t.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: 15 * time.Second, Interval: 5 * time.Second, Count: 3})
	}
}
