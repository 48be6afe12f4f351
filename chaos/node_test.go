//go:build linux

package chaos

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// node is one server of the cluster under test.
type node struct {
	name string
	disk *disk
	log  string
	// http and cluster are where it listens; viaHTTP and viaCluster where all others
	// reach it.
	http, cluster       string
	viaHTTP, viaCluster string
	forAgents           string   // like viaHTTP, as agents see it
	space               *os.File // its network namespace, nil for none
	clock               string   // file with what the proposer's clock is ahead
	generation          int      // of its data folder: grows when it is replaced

	mu   sync.Mutex
	proc *process
	down bool // by a fault
}

func (n *node) data() string { return filepath.Join(n.disk.dir, "data"+strconv.Itoa(n.generation)) }

// process is the newest one, alive or not.
func (n *node) process() *process {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.proc
}

// cluster is the system under test.
type cluster struct {
	room     string
	net      *network
	nodes    []*node
	binary   string
	lease    time.Duration
	calm     bool   // with the settings of a user
	key      string // file
	token    string // file
	clusters *http.Client
}

// start starts a node's process.
func (c *cluster) start(n *node) error {
	argv := []string{
		c.binary, "server", "--data", n.data(), "--http", n.http, "--lease", c.lease.String(), "--log-level", "info",
		"--token-file", c.token,
	}
	if len(c.nodes) > 1 {
		var join []string
		for _, o := range c.nodes {
			if o != n {
				join = append(join, o.viaCluster)
			}
		}
		argv = append(argv, "--http-advertise", "http://"+n.forAgents, "--cluster", n.cluster, "--advertise", n.viaCluster,
			"--join", strings.Join(join, ","), "--bootstrap-expect", strconv.Itoa(len(c.nodes)), "--cluster-key-file", c.key)
		if !c.calm {
			argv = append(argv, "--snapshot-threshold", "32768") // tiny: logs are cut all the time
		}
	}
	p, err := spawn(n.space, n.name, n.log, []string{"ORRERY_CHAOS_CLOCK=" + n.clock}, argv...)
	if err != nil {
		return err
	}
	n.mu.Lock()
	n.proc, n.down = p, false
	n.mu.Unlock()
	return nil
}

// newCluster prepares n nodes. None is started.
func newCluster(ctx context.Context, room, binary string, n int, lease time.Duration, s *spaces) (*cluster, error) {
	c := &cluster{room: room, net: newNetwork(), binary: binary, lease: lease, key: filepath.Join(room, "cluster.key"), token: filepath.Join(room, "token")}
	c.net.spaces = s
	c.clusters = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 4}, Timeout: 3 * time.Second}
	if err := os.WriteFile(c.token, []byte(token+"\n"), 0o600); err != nil {
		return nil, err
	}
	for i := range n {
		name := "n" + strconv.Itoa(i+1)
		d, err := newDisk(room, name)
		if err != nil {
			return nil, err
		}
		x := &node{name: name, disk: d, log: filepath.Join(room, name+".log"), clock: filepath.Join(room, name+".clock")}
		if err := c.connect(x); err != nil {
			return nil, err
		}
		c.nodes = append(c.nodes, x)
	}
	if n > 1 {
		if err := c.makeKey(ctx); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// connect gives a node its place in the network.
func (c *cluster) connect(x *node) (err error) {
	if s := c.net.spaces; s != nil {
		if err := s.add(x.name); err != nil {
			return err
		}
		x.space = s.fds[x.name]
		x.http, x.cluster = addressOf(x.name)+":7700", addressOf(x.name)+":7701"
		x.forAgents, x.viaCluster = x.http, x.cluster
		x.viaHTTP, err = c.net.serve(x.name, x.http)
		return err
	}
	hp, err := freePort()
	if err != nil {
		return err
	}
	cp, err := freePort()
	if err != nil {
		return err
	}
	x.http, x.cluster = loopback(hp), loopback(cp)
	c.net.owns(cp, x.name)
	if x.viaHTTP, err = c.net.serve(x.name, x.http); err != nil {
		return err
	}
	x.forAgents = x.viaHTTP
	x.viaCluster, err = c.net.serveBoth(x.name, x.cluster)
	return err
}

// token is what all requests carry: a node that is not on loopback wants one.
const token = "a-word-for-the-chaos-suite"

func (c *cluster) makeKey(ctx context.Context) error {
	p, err := spawn(nil, "key", c.key, nil, c.binary, "cluster", "key")
	if err != nil {
		return err
	}
	select {
	case <-p.exited:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if p.err != nil {
		return fmt.Errorf("orrery cluster key: %w", p.err)
	}
	// The first line is spawn's own; the key file knows comments.
	text, err := os.ReadFile(c.key)
	if err != nil {
		return err
	}
	return os.WriteFile(c.key, []byte("# "+string(text)), 0o600)
}

// status is what a node says of the cluster.
type status struct {
	ClusterID string `json:"cluster_id"`
	Node      string `json:"node"`
	Leader    string `json:"leader"`
	State     string `json:"state"`
	Term      uint64 `json:"term"`
	Commit    uint64 `json:"commit"`
	Applied   uint64 `json:"applied"`
	Snapshot  uint64 `json:"snapshot"`
	Servers   []struct {
		ID    string `json:"id"`
		Voter bool   `json:"voter"`
	} `json:"servers"`
}

// status asks a node directly, past the proxies.
func (c *cluster) status(ctx context.Context, n *node) (status, error) {
	var st status
	err := c.direct(ctx, n, http.MethodGet, "/v1/cluster", &st)
	return st, err
}

// direct sends a request past the proxies.
func (c *cluster) direct(ctx context.Context, n *node, method, path string, out any) error {
	req, err := http.NewRequestWithContext(ctx, method, "http://"+n.http+path, nil)
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := c.clusters.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s %s of %s: %s: %s", method, path, n.name, resp.Status, body)
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(body, out)
}

// leader returns the node that leads with the highest term, nil when none says so.
func (c *cluster) leader(ctx context.Context) *node {
	type claim struct {
		n  *node
		st status
	}
	claims := make(chan claim, len(c.nodes))
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	for _, n := range c.nodes {
		go func() {
			var st status
			if n.process().alive() {
				st, _ = c.status(ctx, n)
			}
			claims <- claim{n, st}
		}()
	}
	var best claim
	var limit <-chan time.Time
	for range c.nodes {
		select {
		case x := <-claims:
			if x.st.State == "leader" && x.st.Term >= best.st.Term {
				best = x
				// One that was cut off may say so too: the others get a moment.
				limit = time.After(200 * time.Millisecond)
			}
		case <-limit:
			return best.n
		}
	}
	return best.n
}

// awaitLeader waits until a node leads.
func (c *cluster) awaitLeader(ctx context.Context, limit time.Duration) (*node, error) {
	end := time.Now().Add(limit)
	for time.Now().Before(end) && ctx.Err() == nil {
		if n := c.leader(ctx); n != nil {
			return n, nil
		}
		time.Sleep(20 * time.Millisecond)
	}
	return nil, fmt.Errorf("no node leads after %s", limit)
}

// ready waits until a node answers that it is.
func (c *cluster) ready(ctx context.Context, n *node, limit time.Duration) error {
	end := time.Now().Add(limit)
	var last error
	for time.Now().Before(end) && ctx.Err() == nil {
		if !n.process().alive() {
			return fmt.Errorf("%s ended: %w", n.name, n.process().err)
		}
		quick, cancel := context.WithTimeout(ctx, time.Second)
		last = c.direct(quick, n, http.MethodGet, "/readyz", nil)
		cancel()
		if last == nil {
			return nil
		}
		time.Sleep(20 * time.Millisecond)
	}
	return fmt.Errorf("%s is not ready after %s: %w", n.name, limit, last)
}
