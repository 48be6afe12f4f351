package httpapi

import (
	"crypto/sha256"
	"crypto/subtle"
	"net"
	"net/http"
	"net/netip"
	"strings"

	"github.com/orrery-io/orrery/job"
	"github.com/orrery-io/orrery/wire"
)

// guard decides who may speak with the node at all.
//
// A node with a token wants it in every request but those for health and
// documentation. A node without one listens on loopback, where the danger is a web
// page elsewhere that makes the browser on this machine speak with it: directly,
// which the browser's own headers show (cross-origin protection), or under a name
// that was made to point here (DNS rebinding), which the Host header shows.
type guard struct {
	// token is the SHA-256 of the token; nil means none.
	token []byte
	// hosts are names that a node without a token answers to besides loopback.
	hosts  []string
	origin http.CrossOriginProtection
}

func newGuard(token string, hosts []string) *guard {
	g := &guard{hosts: hosts}
	if token != "" {
		sum := sha256.Sum256([]byte(token))
		g.token = sum[:]
	}
	return g
}

// admit returns why the request is refused, nil when it is not. open means that
// the route needs no token.
func (g *guard) admit(r *http.Request, open bool) error {
	if g.token == nil && !g.ours(r.Host) {
		return &fault{public: job.Errorf(job.Forbidden, "foreign_host", "this node does not answer to the name %q", clip(r.Host)).
			WithHint("use 127.0.0.1 or localhost; for other names, start the node with a token")}
	}
	if err := g.sameOrigin(r); err != nil {
		return &fault{public: job.Errorf(job.Forbidden, "cross_origin", "a page of another origin may not do this").
			WithHint("send the request from a program, or from a page that this node serves")}
	}
	if g.token == nil || open {
		return nil
	}
	return g.authorize(r.Header.Get("Authorization"))
}

func (g *guard) sameOrigin(r *http.Request) error {
	if r.URL.Path == wire.Path && r.Method == http.MethodGet {
		// An upgrade changes things although it is a GET, and browsers allow it
		// across origins.
		c := *r
		c.Method = http.MethodPost
		return g.origin.Check(&c)
	}
	return g.origin.Check(r)
}

func (g *guard) authorize(header string) error {
	scheme, given, _ := strings.Cut(header, " ")
	if !strings.EqualFold(scheme, "Bearer") || given == "" {
		return &fault{public: job.Errorf(job.Unauthorized, "no_token", "this node wants a token").
			WithHint("send it as \"Authorization: Bearer …\"; it is in the file that the node was started with")}
	}
	sum := sha256.Sum256([]byte(strings.TrimSpace(given)))
	if subtle.ConstantTimeCompare(sum[:], g.token) != 1 {
		return &fault{public: job.Errorf(job.Unauthorized, "wrong_token", "this is not the token of this node").
			WithHint("it is in the file that the node was started with")}
	}
	return nil
}

// ours reports whether a Host header names this machine's loopback, or a host that
// was allowed.
func (g *guard) ours(hostport string) bool {
	host := hostport
	if h, _, err := net.SplitHostPort(hostport); err == nil {
		host = h
	}
	host = strings.TrimSuffix(strings.TrimSuffix(strings.TrimPrefix(host, "["), "]"), ".")
	if addr, err := netip.ParseAddr(host); err == nil {
		return addr.Unmap().IsLoopback() || g.allowed(host)
	}
	host = strings.ToLower(host)
	return host == "localhost" || strings.HasSuffix(host, ".localhost") || g.allowed(host)
}

func (g *guard) allowed(host string) bool {
	for _, h := range g.hosts {
		if strings.EqualFold(h, host) {
			return true
		}
	}
	return false
}
