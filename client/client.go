package client

import (
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// DefaultAddr is where a node listens unless told otherwise.
const DefaultAddr = "http://127.0.0.1:7700"

// Config says which cluster to speak with, and how.
type Config struct {
	// Addr is the address of a node: http(s)://host:port, or host:port for http.
	// It comes before Addrs; both empty mean DefaultAddr.
	Addr string
	// Addrs are more nodes of the same cluster.
	Addrs []string
	// Token is sent as a bearer token; empty sends none.
	Token string
	// HTTP does the requests; nil means a client of our own. It must not have a
	// Timeout: waiting and following take as long as they take.
	HTTP *http.Client
	// Timeout bounds one request, beyond the time for which it asks the node to
	// wait. For a stream it bounds the time until the answer begins. For so long a
	// request is also sent again while the cluster answers that it is overloaded.
	// Zero means 30 s.
	Timeout time.Duration
	// UserAgent names the program; empty means "orrery-client".
	UserAgent string
}

// Client speaks with the nodes of one cluster.
type Client struct {
	addrs   []string
	token   string
	http    *http.Client
	timeout time.Duration
	agent   string
	// current is the index in addrs of the node that answered last.
	current atomic.Int64
}

// New checks the configuration. It does not connect.
func New(cfg Config) (*Client, error) {
	c := &Client{token: cfg.Token, http: cfg.HTTP, timeout: cfg.Timeout, agent: cfg.UserAgent}
	for _, a := range slices.Concat([]string{cfg.Addr}, cfg.Addrs) {
		if a == "" {
			continue
		}
		base, err := baseURL(a)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(c.addrs, base) {
			c.addrs = append(c.addrs, base)
		}
	}
	if len(c.addrs) == 0 {
		c.addrs = []string{DefaultAddr}
	}
	if strings.ContainsFunc(cfg.Token, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
		return nil, fmt.Errorf("the token holds a space or an unprintable character; it must be one word")
	}
	if c.timeout <= 0 {
		c.timeout = 30 * time.Second
	}
	if c.agent == "" {
		c.agent = "orrery-client"
	}
	if c.http == nil {
		c.http = newHTTP()
	}
	return c, nil
}

// Addrs returns the addresses of the nodes, normalized.
func (c *Client) Addrs() []string { return slices.Clone(c.addrs) }

func newHTTP() *http.Client {
	dialer := &net.Dialer{Timeout: 5 * time.Second, KeepAlive: 15 * time.Second}
	return &http.Client{
		Transport: &http.Transport{
			Proxy:               http.ProxyFromEnvironment,
			DialContext:         dialer.DialContext,
			MaxIdleConns:        256,
			MaxIdleConnsPerHost: 128,
			IdleConnTimeout:     90 * time.Second,
			TLSHandshakeTimeout: 10 * time.Second,
			ForceAttemptHTTP2:   true,
			// For large bodies: how long a node gets to refuse one before it is sent.
			ExpectContinueTimeout: 2 * time.Second,
		},
		// Nodes never redirect; whoever does must not get the token.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// baseURL turns what a user writes into scheme://host[:port][/prefix].
func baseURL(addr string) (string, error) {
	text := strings.TrimSpace(addr)
	if !strings.Contains(text, "://") {
		text = "http://" + text
	}
	u, err := url.Parse(text)
	switch {
	case err != nil, u.Host == "", u.Hostname() == "":
		return "", fmt.Errorf("%q is not the address of a node, such as %s", addr, DefaultAddr)
	case u.Scheme != "http" && u.Scheme != "https":
		return "", fmt.Errorf("%q: a node speaks http or https, not %q", addr, u.Scheme)
	case u.User != nil:
		return "", fmt.Errorf("the address of a node carries no user and password; give a token instead")
	case u.RawQuery != "" || u.Fragment != "":
		return "", fmt.Errorf("%q: the address of a node has no query and no fragment", addr)
	}
	return u.Scheme + "://" + u.Host + strings.TrimRight(u.EscapedPath(), "/"), nil
}
