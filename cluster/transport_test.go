package cluster

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
)

// pipes is a network in memory, by address. It runs in virtual time.
type pipes struct {
	mu        sync.Mutex
	listeners map[string]*pipeListener
}

type pipeListener struct {
	addr  string
	conns chan net.Conn
	done  chan struct{}
	close func()
	mu    sync.Mutex
	open  []net.Conn // the ends of those who accept
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}
func (l *pipeListener) Close() error    { l.close(); return nil }
func (l *pipeListener) Addr() net.Addr  { return l }
func (l *pipeListener) Network() string { return "pipe" }
func (l *pipeListener) String() string  { return l.addr }

// reset breaks what was accepted, as the end of a process does.
func (l *pipeListener) reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.open {
		c.Close()
	}
	l.open = nil
}

func (p *pipes) listen(addr string) *pipeListener {
	l := &pipeListener{addr: addr, conns: make(chan net.Conn), done: make(chan struct{})}
	l.close = sync.OnceFunc(func() { close(l.done) })
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.listeners == nil {
		p.listeners = map[string]*pipeListener{}
	}
	p.listeners[addr] = l
	return l
}

func (p *pipes) dial(ctx context.Context, _, addr string) (net.Conn, error) {
	p.mu.Lock()
	l := p.listeners[addr]
	p.mu.Unlock()
	if l == nil {
		return nil, errors.New("nobody is at " + addr)
	}
	mine, other := net.Pipe()
	l.mu.Lock()
	l.open = append(l.open, other)
	l.mu.Unlock()
	select {
	case l.conns <- other:
		return mine, nil
	case <-l.done:
		return nil, errors.New("nobody is at " + addr)
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// transport makes a transport at addr, closed with the test.
func (p *pipes) transport(t *testing.T, addr string, change func(*TransportConfig)) *Transport {
	t.Helper()
	cfg := TransportConfig{Listener: p.listen(addr), Dial: p.dial, Log: testLog(t)}
	if change != nil {
		change(&cfg)
	}
	tr := NewTransport(cfg)
	t.Cleanup(func() { tr.Close() })
	return tr
}

// bubble runs a test in virtual time.
func bubble(t *testing.T, name string, test func(t *testing.T)) {
	t.Helper()
	t.Run(name, func(t *testing.T) { synctest.Test(t, test) })
}

// paced gives n pieces with a pause before each, and then stands still if it is told
// to, until the test is over.
type paced struct {
	n      int
	piece  []byte
	pause  time.Duration
	freeze <-chan struct{}
	rest   []byte
}

func (p *paced) Read(b []byte) (int, error) {
	if len(p.rest) > 0 {
		n := copy(b, p.rest)
		p.rest = p.rest[n:]
		return n, nil
	}
	if p.n == 0 {
		if p.freeze != nil {
			<-p.freeze
		}
		return 0, io.EOF
	}
	p.n--
	time.Sleep(p.pause)
	n := copy(b, p.piece)
	p.rest = p.piece[n:]
	return n, nil
}

func header(id string) raft.RPCHeader {
	return raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(id), Addr: []byte(id)}
}

func installRequest(from string, term uint64, size int64) *raft.InstallSnapshotRequest {
	conf := raft.Configuration{Servers: []raft.Server{
		{Suffrage: raft.Voter, ID: "n1", Address: "n1"},
		{Suffrage: raft.Voter, ID: "n2", Address: "n2"},
		{Suffrage: raft.Voter, ID: "n3", Address: "n3"},
	}}
	return &raft.InstallSnapshotRequest{
		RPCHeader: header(from), SnapshotVersion: raft.SnapshotVersionMax, Term: term, Leader: []byte(from),
		LastLogIndex: 100, LastLogTerm: term, Configuration: raft.EncodeConfiguration(conf), ConfigurationIndex: 1, Size: size,
	}
}

// TestInstallStall lets a leader freeze while it sends its database.
func TestInstallStall(t *testing.T) {
	bubble(t, "the receiver votes again", func(t *testing.T) {
		var p pipes
		receiver := p.transport(t, "n1", nil)
		leader, candidate := p.transport(t, "n2", nil), p.transport(t, "n3", nil)
		// It has met the cluster, but will not campaign itself.
		start(t, Config{ID: "n1", Dir: t.TempDir(), Transport: receiver, HeartbeatTimeout: time.Hour, ElectionTimeout: time.Hour, Founders: []raft.Server{
			{Suffrage: raft.Voter, ID: "n1", Address: "n1"}, {Suffrage: raft.Voter, ID: "n2", Address: "n2"}, {Suffrage: raft.Voter, ID: "n3", Address: "n3"},
		}})
		thaw := make(chan struct{})
		sent := make(chan error, 1)
		go func() {
			data := &paced{n: 10, piece: make([]byte, 100_000), freeze: thaw}
			sent <- leader.InstallSnapshot("n1", "n1", installRequest("n2", 5, 2_000_000), &raft.InstallSnapshotResponse{}, data)
		}()
		synctest.Wait()
		if got := receiver.Receiving(); got == nil || got.Size != 2_000_000 || got.Bytes == 0 || got.Bytes >= got.Size {
			t.Errorf("receiving %+v", got)
		}
		began := time.Now()
		vote := &raft.RequestVoteResponse{}
		err := candidate.RequestVote("n1", "n1", &raft.RequestVoteRequest{RPCHeader: header("n3"), Term: 6, LastLogIndex: 100, LastLogTerm: 5, LeadershipTransfer: true}, vote)
		if err != nil || !vote.Granted || vote.Term != 6 {
			t.Errorf("vote %+v, %v", vote, err)
		}
		if took := time.Since(began); took > 6*time.Second {
			t.Errorf("the vote took %s", took)
		}
		if got := receiver.Receiving(); got != nil {
			t.Errorf("still receiving %+v", got)
		}
		close(thaw)
		if err := <-sent; err == nil {
			t.Error("the leader believes that all has arrived")
		}
	})

	bubble(t, "a slow leader is no frozen one", func(t *testing.T) {
		var p pipes
		receiver, leader := p.transport(t, "n1", nil), p.transport(t, "n2", nil)
		const pieces, length = 60, 256 << 10 // raft sends so much at once
		answered := make(chan error, 1)
		go func() {
			rpc := <-receiver.Consumer()
			n, err := io.Copy(io.Discard, rpc.Reader)
			if err == nil && n != pieces*length {
				err = io.ErrShortWrite
			}
			answered <- err
			time.Sleep(30 * time.Second) // it takes its time for installing
			rpc.Respond(&raft.InstallSnapshotResponse{Success: true}, nil)
		}()
		resp := &raft.InstallSnapshotResponse{}
		err := leader.InstallSnapshot("n1", "n1", installRequest("n2", 5, pieces*length), resp, &paced{n: pieces, piece: make([]byte, length), pause: 4 * time.Second})
		if err != nil || !resp.Success {
			t.Errorf("answer %+v, %v", resp, err)
		}
		if err := <-answered; err != nil {
			t.Error(err)
		}
	})

	bubble(t, "idle connections stay", func(t *testing.T) {
		var p pipes
		receiver, leader := p.transport(t, "n1", nil), p.transport(t, "n2", nil)
		dials := 0
		leader.cfg.Dial = func(ctx context.Context, node, addr string) (net.Conn, error) {
			dials++
			return p.dial(ctx, node, addr)
		}
		go answerAll(receiver)
		for range 3 {
			if err := leader.AppendEntries("n1", "n1", &raft.AppendEntriesRequest{RPCHeader: header("n2"), Term: 1}, &raft.AppendEntriesResponse{}); err != nil {
				t.Fatal(err)
			}
			time.Sleep(time.Hour)
		}
		if dials != 1 {
			t.Errorf("%d connections were made", dials)
		}
	})

	bubble(t, "the sender gives a frozen receiver up", func(t *testing.T) {
		var p pipes
		p.transport(t, "n1", nil) // nobody consumes
		leader := p.transport(t, "n2", nil)
		began := time.Now()
		err := leader.InstallSnapshot("n1", "n1", installRequest("n2", 5, 1<<30), &raft.InstallSnapshotResponse{}, &paced{n: 1 << 10, piece: make([]byte, 1<<15)})
		if !errors.Is(err, os.ErrDeadlineExceeded) || !strings.Contains(err.Error(), "takes nothing more of the database") {
			t.Errorf("got %v", err)
		}
		if took := time.Since(began); took > 20*time.Second {
			t.Errorf("it took %s", took)
		}
	})

	for _, side := range []string{"receiver", "sender"} {
		bubble(t, "the "+side+" is interrupted", func(t *testing.T) {
			var p pipes
			receiver, leader := p.transport(t, "n1", nil), p.transport(t, "n2", nil)
			received, sent := make(chan error, 1), make(chan error, 1)
			thaw := make(chan struct{})
			go func() {
				rpc := <-receiver.Consumer()
				_, err := io.Copy(io.Discard, rpc.Reader)
				received <- err
				rpc.Respond(nil, err)
			}()
			send := func() {
				sent <- leader.InstallSnapshot("n1", "n1", installRequest("n2", 5, 1<<30), &raft.InstallSnapshotResponse{}, &paced{n: 1 << 10, piece: make([]byte, 1<<20), pause: time.Second})
			}
			go send()
			time.Sleep(100 * time.Second)
			if side == "receiver" {
				receiver.Interrupt()
			} else {
				leader.Interrupt()
			}
			synctest.Wait()
			if err := <-sent; err == nil || side == "sender" && !errors.Is(err, errInterrupted) {
				t.Errorf("sending: %v", err)
			}
			if err := <-received; side == "receiver" && !errors.Is(err, errInterrupted) {
				t.Errorf("receiving: %v", err)
			}
			go send()
			if err := <-sent; err == nil {
				t.Error("a database is sent after the interruption")
			}
			close(thaw)
		})
	}
}

// answerAll answers requests until the transport is closed.
func answerAll(t *Transport) {
	for {
		select {
		case <-t.life.Done():
			return
		case rpc := <-t.Consumer():
			switch rpc.Command.(type) {
			case *raft.AppendEntriesRequest:
				rpc.Respond(&raft.AppendEntriesResponse{Success: true}, nil)
			case *raft.RequestVoteRequest:
				rpc.Respond(&raft.RequestVoteResponse{Granted: true}, nil)
			case *raft.RequestPreVoteRequest:
				rpc.Respond(&raft.RequestPreVoteResponse{Granted: true}, nil)
			default:
				rpc.Respond(&raft.TimeoutNowResponse{}, nil)
			}
		}
	}
}

// TestProgress shows what the log tells of a long way.
func TestProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p pipes
		var log bytes.Buffer
		receiver := p.transport(t, "n1", func(cfg *TransportConfig) { cfg.Log = slog.New(slog.NewTextHandler(&log, nil)) })
		leader := p.transport(t, "n2", nil)
		go func() {
			rpc := <-receiver.Consumer()
			_, _ = io.Copy(io.Discard, rpc.Reader)
			rpc.Respond(&raft.InstallSnapshotResponse{Success: true}, nil)
		}()
		const total = 20_000_000
		err := leader.InstallSnapshot("n1", "n1", installRequest("n2", 5, total), &raft.InstallSnapshotResponse{}, &paced{n: 1000, piece: make([]byte, total/1000), pause: 10 * time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if got := receiver.Receiving(); got != nil {
			t.Errorf("still receiving %+v", got)
		}
		for _, want := range []string{`msg="receiving the database" progress="11 MB of 20 MB"`, "the database is here", "bytes=20000000"} {
			if !strings.Contains(log.String(), want) {
				t.Errorf("the log doesn't say %s:\n%s", want, log.String())
			}
		}
		if n := strings.Count(log.String(), "\n"); n > 6 {
			t.Errorf("%d lines about ten seconds:\n%s", n, log.String())
		}
	})
}

func TestTransport(t *testing.T) {
	bubble(t, "a vote survives that the other node was started again", func(t *testing.T) {
		var p pipes
		other, candidate := p.transport(t, "n1", nil), p.transport(t, "n2", nil)
		go answerAll(other)
		// Fill the pool with connections.
		var wg sync.WaitGroup
		for range 2 * maxPool {
			wg.Go(func() {
				_ = candidate.AppendEntries("n1", "n1", &raft.AppendEntriesRequest{RPCHeader: header("n2"), Term: 1}, &raft.AppendEntriesResponse{})
			})
		}
		wg.Wait()
		p.listeners["n1"].reset()
		vote := &raft.RequestVoteResponse{}
		if err := candidate.RequestVote("n1", "n1", &raft.RequestVoteRequest{RPCHeader: header("n2")}, vote); err != nil || !vote.Granted {
			t.Errorf("vote %+v, %v", vote, err)
		}
		p.listeners["n1"].reset()
		pre := &raft.RequestPreVoteResponse{}
		if err := candidate.RequestPreVote("n1", "n1", &raft.RequestPreVoteRequest{RPCHeader: header("n2")}, pre); err != nil || !pre.Granted {
			t.Errorf("pre-vote %+v, %v", pre, err)
		}
		p.listeners["n1"].reset()
		if err := candidate.TimeoutNow("n1", "n1", &raft.TimeoutNowRequest{RPCHeader: header("n2")}, &raft.TimeoutNowResponse{}); err != nil {
			t.Errorf("timeout now: %v", err)
		}
		if err := other.Close(); err != nil {
			t.Error(err)
		}
		if err := candidate.RequestVote("n1", "n1", &raft.RequestVoteRequest{RPCHeader: header("n2")}, vote); err == nil {
			t.Error("a vote of nobody")
		}
	})

	bubble(t, "a node is found where it is now", func(t *testing.T) {
		var p pipes
		var mu sync.Mutex
		at := map[string]string{}
		move := func(to string) {
			mu.Lock()
			defer mu.Unlock()
			at["n1"] = to
		}
		go answerAll(p.transport(t, "old", nil))
		go answerAll(p.transport(t, "new", nil))
		var dialed []string
		caller := p.transport(t, "n2", func(cfg *TransportConfig) {
			cfg.Address = func(node string) string { mu.Lock(); defer mu.Unlock(); return at[node] }
			cfg.Dial = func(ctx context.Context, node, addr string) (net.Conn, error) {
				dialed = append(dialed, node+"@"+addr)
				return p.dial(ctx, node, addr)
			}
		})
		call := func() {
			t.Helper()
			if err := caller.AppendEntries("n1", "old", &raft.AppendEntriesRequest{RPCHeader: header("n2"), Term: 1}, &raft.AppendEntriesResponse{}); err != nil {
				t.Fatal(err)
			}
		}
		call() // by the configuration
		move("old")
		call()
		move("new")
		call()
		call()
		if got := strings.Join(dialed, " "); got != "n1@old n1@new" {
			t.Errorf("dialed %s", got)
		}
		caller.mu.Lock()
		open := len(caller.conns)
		caller.mu.Unlock()
		if open != 1 {
			t.Errorf("%d connections are open, the one to the old address should be closed", open)
		}
		if got := string(caller.EncodePeer("n1", "old")); got != "new" {
			t.Errorf("the address on the wire is %q", got)
		}
		if got := caller.LocalAddr(); got != "n2" {
			t.Errorf("its own address is %q", got)
		}
	})

	bubble(t, "entries wait for a node until it is reached", func(t *testing.T) {
		var p pipes
		leader := p.transport(t, "n2", nil)
		entries := &raft.AppendEntriesRequest{RPCHeader: header("n2"), Term: 1, LeaderCommitIndex: 1}
		heartbeat := &raft.AppendEntriesRequest{RPCHeader: header("n2"), Term: 1}
		began := time.Now()
		if err := leader.AppendEntries("n1", "n1", entries, &raft.AppendEntriesResponse{}); err == nil || time.Since(began) != awaitLimit {
			t.Errorf("after %s: %v", time.Since(began), err)
		}
		sent := make(chan error, 1)
		send := func() { sent <- leader.AppendEntries("n1", "n1", entries, &raft.AppendEntriesResponse{}) }
		began = time.Now()
		go send()
		synctest.Wait()
		if err := leader.AppendEntries("n1", "n1", heartbeat, &raft.AppendEntriesResponse{}); err == nil {
			t.Error("a heartbeat has reached nobody")
		}
		go answerAll(p.transport(t, "n1", nil))
		if err := leader.AppendEntries("n1", "n1", heartbeat, &raft.AppendEntriesResponse{}); err != nil {
			t.Error(err)
		}
		if err := <-sent; err != nil || time.Since(began) != 0 {
			t.Errorf("after %s: %v", time.Since(began), err)
		}
		go func() { sent <- leader.AppendEntries("n3", "n3", entries, &raft.AppendEntriesResponse{}) }()
		synctest.Wait()
		leader.Interrupt()
		leader.Interrupt()
		if err := <-sent; err == nil || time.Since(began) != 0 {
			t.Errorf("interrupted after %s: %v", time.Since(began), err)
		}
	})

	bubble(t, "a node that is back catches up at once", func(t *testing.T) {
		var p pipes
		var founders []raft.Server
		ids := []string{"n1", "n2", "n3"}
		for _, id := range ids {
			founders = append(founders, raft.Server{Suffrage: raft.Voter, ID: raft.ServerID(id), Address: raft.ServerAddress(id)})
		}
		nodes := map[string]*running{}
		for _, id := range ids {
			nodes[id] = start(t, Config{ID: id, Dir: t.TempDir(), Machine: newFake(nil), Founders: founders, Transport: p.transport(t, id, nil)})
		}
		leader := ""
		for leader == "" {
			time.Sleep(time.Millisecond)
			for id, n := range nodes {
				if n.IsLeader() {
					leader = id
				}
			}
		}
		away := ids[(slices.Index(ids, leader)+1)%3]
		if err := nodes[away].stop(); err != nil {
			t.Fatal(err)
		}
		if _, err := nodes[leader].Propose(t.Context(), submit("1")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * time.Minute)
		cfg := nodes[away].cfg
		cfg.Transport = p.transport(t, away, nil)
		back := start(t, cfg)
		began := time.Now()
		if err := back.machine.WaitApplied(t.Context(), nodes[leader].adapter.lastCommand.Load()); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took > time.Second {
			t.Errorf("it took %s of virtual time", took)
		}
	})

	bubble(t, "nonsense on a connection harms nobody", func(t *testing.T) {
		var p pipes
		receiver := p.transport(t, "n1", nil)
		go answerAll(receiver)
		for _, say := range []string{"", "x", "d", "d\xff\xff\xff\xff\xff\xff\xff\xff", "r\xff", "r\x00\xff\xff\xff", "d\x00\x00\x00\x00\x00\x00\x00\x01\x07"} {
			c, err := p.dial(t.Context(), "n1", "n1")
			if err != nil {
				t.Fatal(err)
			}
			_, _ = io.WriteString(c, say)
			c.Close()
		}
		synctest.Wait()
		caller := p.transport(t, "n2", nil)
		if err := caller.AppendEntries("n1", "n1", &raft.AppendEntriesRequest{RPCHeader: header("n2"), Term: 1}, &raft.AppendEntriesResponse{}); err != nil {
			t.Error(err)
		}
		if receiver.Receiving() != nil {
			t.Errorf("receiving %+v", receiver.Receiving())
		}
	})

	bubble(t, "close ends everything", func(t *testing.T) {
		var p pipes
		a, b := p.transport(t, "n1", nil), p.transport(t, "n2", nil)
		go answerAll(a)
		pipe, err := b.AppendEntriesPipeline("n1", "n1")
		if err != nil {
			t.Fatal(err)
		}
		future, err := pipe.AppendEntries(&raft.AppendEntriesRequest{RPCHeader: header("n2"), Term: 1}, &raft.AppendEntriesResponse{})
		if err != nil {
			t.Fatal(err)
		}
		if ready := <-pipe.Consumer(); ready != future || !ready.Response().Success {
			t.Errorf("response %+v", ready.Response())
		}
		pipe.Close()
		if err := errors.Join(a.Close(), a.Close()); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if _, err := b.AppendEntriesPipeline("n1", "n1"); err == nil {
			t.Error("a closed transport is reached")
		}
		if err := b.Close(); err != nil {
			t.Error(err)
		}
		if err := b.AppendEntries("n1", "n1", &raft.AppendEntriesRequest{RPCHeader: header("n2")}, &raft.AppendEntriesResponse{}); err == nil {
			t.Error("a closed transport sends")
		}
	})
}
