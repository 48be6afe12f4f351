package cluster

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"github.com/orrery-io/orrery/cluster/keyring"
	"github.com/orrery-io/orrery/cluster/port"
)

// ported is three nodes that speak over real cluster ports on loopback.
type ported struct {
	cfg   [3]Config
	files [3]string // of the keys
	rings [3]*keyring.Ring
	nodes [3]*running
	stops [3]func()

	mu    sync.Mutex
	ports [3]*port.Port // the present ones
}

func newPorted(t *testing.T, key string, change func(*Config)) *ported {
	t.Helper()
	c := &ported{}
	var founders []raft.Server
	for i := range c.nodes {
		c.files[i] = filepath.Join(t.TempDir(), "cluster.key")
		c.write(t, i, key)
		var err error
		if c.rings[i], err = keyring.Load(c.files[i]); err != nil {
			t.Fatal(err)
		}
		c.listen(t, i)
		founders = append(founders, raft.Server{Suffrage: raft.Voter, ID: raft.ServerID(c.id(i)), Address: raft.ServerAddress(c.ports[i].Advertise())})
	}
	for i := range c.nodes {
		// Nothing but the test makes leaders: this machine may be slow.
		c.cfg[i] = Config{
			ID: c.id(i), Dir: t.TempDir(), Machine: newFake(nil), Founders: founders,
			HeartbeatTimeout: 6 * time.Second, ElectionTimeout: 6 * time.Second, LeaseTimeout: 4 * time.Second,
		}
		if change != nil {
			change(&c.cfg[i])
		}
		c.start(t, i)
	}
	return c
}

func (c *ported) id(i int) string { return "n" + strconv.Itoa(i+1) }

func (c *ported) write(t *testing.T, i int, keys ...string) {
	t.Helper()
	if err := os.WriteFile(c.files[i], []byte(strings.Join(keys, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
}

// keys changes the key file of node i, and has it read.
func (c *ported) keys(t *testing.T, i int, keys ...string) {
	t.Helper()
	c.write(t, i, keys...)
	if changed, err := c.rings[i].Reload(); err != nil || !changed {
		t.Fatalf("changed %v, %v", changed, err)
	}
}

// listen opens a port for node i, always a new one.
func (c *ported) listen(t *testing.T, i int) {
	t.Helper()
	p, err := port.Listen(port.Config{
		Listen: "127.0.0.1:0", Node: c.id(i), Ring: c.rings[i], Log: testLog(t),
		Cluster: func() string { return "c1" },
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()
	c.stops[i] = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("port: %v", err)
		}
	})
	t.Cleanup(c.stops[i])
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ports[i] = p
}

// address is where a node is now.
func (c *ported) address(node string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ports[node[1]-'1'].Advertise()
}

func (c *ported) start(t *testing.T, i int) {
	t.Helper()
	c.mu.Lock()
	p := c.ports[i]
	c.mu.Unlock()
	c.cfg[i].Transport = NewTransport(TransportConfig{
		Listener: p.Listener(port.Raft), Address: c.address, Log: testLog(t),
		Dial: func(ctx context.Context, node, addr string) (net.Conn, error) {
			return p.Dial(ctx, port.Raft, addr, node)
		},
	})
	c.nodes[i] = start(t, c.cfg[i])
}

// elect makes node i the leader, as one that resigns would. A node that lacks the newest
// entry loses the election, and is asked again.
func (c *ported) elect(t *testing.T, i int) {
	t.Helper()
	from := c.cfg[(i+1)%3].Transport
	req := &raft.TimeoutNowRequest{RPCHeader: header(c.id((i + 1) % 3))}
	limit := time.After(2 * time.Minute)
	for {
		pause := 10 * time.Millisecond
		err := from.TimeoutNow(raft.ServerID(c.id(i)), "", req, &raft.TimeoutNowResponse{})
		if err == nil {
			pause = 3 * time.Second // what an election takes at most, unless it is lost
		}
		select {
		case <-c.nodes[i].leads:
			return
		case <-time.After(pause):
		case <-limit:
			t.Fatalf("%s doesn't lead (%v)", c.id(i), err)
		}
	}
}

// agree waits until node i has applied what node j has.
func (c *ported) agree(t *testing.T, i, j int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := c.nodes[i].machine.WaitApplied(ctx, c.nodes[j].adapter.lastCommand.Load()); err != nil {
		t.Fatalf("%s has not caught up with %s: %v", c.id(i), c.id(j), err)
	}
}

// TestPorts lets three nodes elect, agree, fall behind and move over real ports.
func TestPorts(t *testing.T) {
	c := newPorted(t, keyring.Generate(), func(cfg *Config) {
		cfg.TrailingLogs, cfg.SnapshotThreshold, cfg.PinGrace = 1, 1<<40, time.Hour
	})
	record := func(l, from, to int) {
		t.Helper()
		for _, p := range payloads(from, to) {
			if _, err := c.nodes[l].Propose(t.Context(), submit(p)); err != nil {
				t.Fatal(err)
			}
		}
	}
	c.elect(t, 0)
	record(0, 1, 20)
	c.elect(t, 1)
	record(1, 21, 40)
	for i := range 3 {
		c.agree(t, i, 1)
	}

	// One is away while the log is cut, and comes back at another address.
	if err := c.nodes[2].stop(); err != nil {
		t.Fatal(err)
	}
	c.stops[2]()
	before := c.address("n3")
	record(1, 41, 200)
	for i := range 2 {
		c.agree(t, i, 1)
		c.nodes[i].machine.flush()
		if err := c.nodes[i].snapshot(c.nodes[i].raft.Load()); err != nil {
			t.Fatal(err)
		}
	}
	c.listen(t, 2)
	if c.address("n3") == before {
		t.Fatal("it has the same address as before")
	}
	c.start(t, 2)
	c.agree(t, 2, 1)
	if marker, ok := c.nodes[2].machine.Marker(); !ok || marker.Index < 200 {
		t.Errorf("it did not get the database: marker %+v, %v", marker, ok)
	}
	record(1, 201, 220)
	c.agree(t, 2, 1)
	if got := len(c.nodes[2].machine.jobs()); got != 220 {
		t.Errorf("%d jobs", got)
	}
	c.elect(t, 2)
	record(2, 221, 222)
}

// TestRotation changes the cluster key twice while jobs are recorded. None fails, and
// the leader stays.
func TestRotation(t *testing.T) {
	keys := []string{keyring.Generate(), keyring.Generate(), keyring.Generate()}
	c := newPorted(t, keys[0], nil)
	c.elect(t, 0)
	term := c.nodes[0].Status().Term

	var recorded atomic.Int64
	stop := make(chan struct{})
	var clients sync.WaitGroup
	for client := range 4 {
		clients.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				if _, err := c.nodes[0].Propose(t.Context(), submit(strconv.Itoa(client*1e6+i))); err != nil {
					t.Errorf("a commit failed: %v", err)
					return
				}
				recorded.Add(1)
			}
		})
	}
	// step changes one node's keys, and waits until there is traffic again and every
	// node has it.
	step := func(i int, keys ...string) {
		t.Helper()
		c.keys(t, i, keys...)
		for want, until := recorded.Load()+50, time.Now().Add(time.Minute); recorded.Load() < want; time.Sleep(time.Millisecond) {
			if time.Now().After(until) {
				t.Fatalf("nothing is recorded any more after %s has keys %q", c.id(i), c.rings[i].Keys())
			}
		}
		for j := range 3 {
			c.agree(t, j, 0)
		}
		// New connections are possible between all of them.
		for a, from := range c.ports {
			for b, to := range c.ports {
				conn, err := from.Dial(t.Context(), port.Link, to.Advertise(), c.id(b))
				if err != nil {
					t.Fatalf("%s → %s: %v", c.id(a), c.id(b), err)
				}
				conn.Close()
				if accepted, err := to.Listener(port.Link).Accept(); err == nil {
					accepted.Close()
				}
			}
		}
	}
	for n := range 2 {
		old, fresh := keys[n], keys[n+1]
		for i := range 3 {
			step(i, old, fresh)
		}
		for i := range 3 {
			step(i, fresh, old)
		}
		for i := range 3 {
			step(i, fresh)
		}
	}
	close(stop)
	clients.Wait()
	for i := range 3 {
		c.agree(t, i, 0)
		if got := int64(len(c.nodes[i].machine.jobs())); got != recorded.Load() {
			t.Errorf("%s has %d jobs of %d", c.id(i), got, recorded.Load())
		}
	}
	if now := c.nodes[0].Status(); now.Term != term || now.State != "leader" {
		t.Errorf("the leader of term %d is %s in term %d", term, now.State, now.Term)
	}

	// A node that kept the old key is out.
	outside, err := keyring.New(keys[0])
	if err != nil {
		t.Fatal(err)
	}
	stranger, err := port.Listen(port.Config{Listen: "127.0.0.1:0", Node: "n4", Ring: outside})
	if err != nil {
		t.Fatal(err)
	}
	defer stranger.Close()
	if _, err := stranger.Dial(t.Context(), port.Raft, c.address("n1"), "n1"); !errors.Is(err, port.ErrWrongKey) {
		t.Errorf("with the first key: %v", err)
	}
}

// TestPorts_stall lets a leader freeze in the middle of its database, over a real port:
// the receiver gives up, and votes for another node.
func TestPorts_stall(t *testing.T) {
	ring, err := keyring.New(keyring.Generate())
	if err != nil {
		t.Fatal(err)
	}
	open := func(id string) (*port.Port, *Transport) {
		p, err := port.Listen(port.Config{Listen: "127.0.0.1:0", Node: id, Ring: ring})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
		done := make(chan error, 1)
		go func() { done <- p.Run(ctx) }()
		t.Cleanup(func() { cancel(); <-done })
		tr := NewTransport(TransportConfig{
			Listener: p.Listener(port.Raft), ReceiveStall: 100 * time.Millisecond, Log: testLog(t),
			Dial: func(ctx context.Context, node, addr string) (net.Conn, error) {
				return p.Dial(ctx, port.Raft, addr, node)
			},
		})
		t.Cleanup(func() { tr.Close() })
		return p, tr
	}
	at, receiver := open("n1")
	_, leader := open("n2")
	_, candidate := open("n3")
	addr := raft.ServerAddress(at.Advertise())
	start(t, Config{ID: "n1", Dir: t.TempDir(), Transport: receiver, HeartbeatTimeout: time.Hour, ElectionTimeout: time.Hour, Founders: []raft.Server{
		{Suffrage: raft.Voter, ID: "n1", Address: addr}, {Suffrage: raft.Voter, ID: "n2", Address: "n2"}, {Suffrage: raft.Voter, ID: "n3", Address: "n3"},
	}})
	thaw, sent := make(chan struct{}), make(chan error, 1)
	go func() {
		data := &paced{n: 10, piece: make([]byte, 1<<20), freeze: thaw}
		sent <- leader.InstallSnapshot("n1", addr, installRequest("n2", 5, 20<<20), &raft.InstallSnapshotResponse{}, data)
	}()
	for receiver.Receiving() == nil {
		time.Sleep(time.Millisecond)
	}
	vote := &raft.RequestVoteResponse{}
	err = candidate.RequestVote("n1", addr, &raft.RequestVoteRequest{RPCHeader: header("n3"), Term: 6, LastLogIndex: 100, LastLogTerm: 5, LeadershipTransfer: true}, vote)
	if err != nil || !vote.Granted {
		t.Errorf("vote %+v, %v", vote, err)
	}
	close(thaw)
	if err := <-sent; err == nil {
		t.Error("the leader believes that all has arrived")
	}
}
