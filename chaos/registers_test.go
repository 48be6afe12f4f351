//go:build linux

package chaos

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	mrand "math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// A register is a job that no agent takes, so that only clients change it: cancel
// and retry in turn, each of which makes a new revision. Its history says whether
// writes happen exactly once and reads are linearizable.
type registers struct {
	addrs []string
	http  *http.Client
	found *findings

	mu     sync.Mutex
	all    []*register
	ops    atomic.Int64
	unsure atomic.Int64
}

// register is one job and its history.
type register struct {
	token string
	id    int64

	mu      sync.Mutex
	ops     []op
	unknown int // writes with an open outcome
	index   uint64
}

// What an op is.
const (
	opRead = iota
	opCancel
	opRetry
)

// op is one operation on a register. Times are nanoseconds of the run.
type op struct {
	Client int    `json:"c"`
	Kind   int    `json:"k"`
	Call   int64  `json:"b"`
	Return int64  `json:"e"`    // 0: never
	OK     bool   `json:"ok"`   // a write was done
	Open   bool   `json:"open"` // whether a write was done is not known
	Rev    uint64 `json:"rev,omitempty"`
	State  string `json:"st,omitempty"`
	Node   int    `json:"n"`
	Note   string `json:"note,omitempty"`
}

func newRegisters(addrs []string, f *findings) *registers {
	return &registers{
		addrs: addrs, found: f,
		http: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 32, DialContext: (&net.Dialer{Timeout: 2 * time.Second}).DialContext}},
	}
}

// answer is what came of one try of a request.
type answer struct {
	status int
	code   string
	index  uint64
	job    struct {
		ID    int64  `json:"id"`
		State string `json:"state"`
		Rev   uint64 `json:"revision"`
	}
	err error
}

// done: it happened. refused: the state machine said no. nothing: it certainly did
// not happen. What is none of the three is unknown.
func (a answer) done() bool    { return a.err == nil && a.status/100 == 2 }
func (a answer) refused() bool { return a.err == nil && a.status == http.StatusConflict }
func (a answer) nothing() bool {
	if a.err != nil {
		return errors.Is(a.err, syscall.ECONNREFUSED)
	}
	return a.status == http.StatusServiceUnavailable || a.status == http.StatusTooManyRequests
}

// try sends a request to one node, once.
func (g *registers) try(ctx context.Context, node int, method, path, request string, body any) answer {
	limit, cancel := context.WithTimeout(ctx, 8*time.Second)
	defer cancel()
	var text []byte
	if body != nil {
		var err error
		if text, err = json.Marshal(body); err != nil {
			panic(err)
		}
	}
	req, err := http.NewRequestWithContext(limit, method, g.addrs[node]+path, bytes.NewReader(text))
	if err != nil {
		panic(err)
	}
	req.GetBody = nil // net/http must not repeat it by itself
	if method != http.MethodGet {
		req.Header.Set("Orrery-Request-Id", request)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := g.http.Do(req)
	if err != nil {
		return answer{err: err}
	}
	defer resp.Body.Close()
	a := answer{status: resp.StatusCode}
	a.index, _ = strconv.ParseUint(resp.Header.Get("Orrery-Index"), 10, 64)
	text, err = io.ReadAll(resp.Body)
	if err != nil {
		return answer{err: err}
	}
	if a.done() {
		a.err = json.Unmarshal(text, &a.job)
	} else {
		var p struct {
			Code string `json:"code"`
		}
		_ = json.Unmarshal(text, &p)
		a.code = p.Code
	}
	return a
}

// twice sends a write, and once more to another node when no answer has come, with
// the same request id.
func (g *registers) twice(ctx context.Context, r *mrand.Rand, method, path string, body any) (a answer, open bool, node int) {
	request := rand.Text()
	node = r.IntN(len(g.addrs))
	for try := range 2 {
		a = g.try(ctx, node, method, path, request, body)
		switch {
		case a.done(), a.refused():
			return a, false, node
		case !a.nothing():
			open = true
		}
		if try == 0 {
			node = (node + 1) % len(g.addrs)
			pauseFor(ctx, 50*time.Millisecond)
		}
	}
	return a, open, node
}

// create makes a new register.
func (g *registers) create(ctx context.Context, r *mrand.Rand) (*register, error) {
	token := rand.Text()
	body := map[string]any{"type": "register", "queue": "registers", "idempotency_key": token, "metadata": map[string]string{"token": token}}
	for range 200 {
		a, _, _ := g.twice(ctx, r, http.MethodPost, "/v1/jobs", body)
		if a.done() {
			x := &register{token: token, id: a.job.ID, index: a.index}
			g.mu.Lock()
			g.all = append(g.all, x)
			g.mu.Unlock()
			return x, nil
		}
		if !pauseFor(ctx, 100*time.Millisecond) {
			return nil, context.Cause(ctx)
		}
	}
	return nil, errors.New("no register could be made")
}

// Bounds on a history, so that the checker can decide about it.
const (
	maxRegisterOps     = 400
	maxRegisterUnknown = 4
)

// use runs writers and readers on one slot until ctx ends, each register until its
// history is long enough.
func (g *registers) use(ctx context.Context, seed uint64, slot int, pace time.Duration) {
	r := mrand.New(mrand.NewPCG(seed, 5000+uint64(slot)))
	for ctx.Err() == nil {
		x, err := g.create(ctx, r)
		if err != nil {
			continue
		}
		some, cancel := context.WithCancel(ctx)
		var wg sync.WaitGroup
		for who := range 4 {
			rr := mrand.New(mrand.NewPCG(r.Uint64(), uint64(who)))
			wg.Go(func() {
				for pauseFor(some, time.Duration(rr.Int64N(int64(2*pace)))) {
					if who == 0 || who == 1 && rr.IntN(4) == 0 {
						g.write(ctx, x, rr, who)
					} else {
						g.read(ctx, x, rr, who)
					}
					x.mu.Lock()
					if len(x.ops) >= maxRegisterOps || x.unknown >= maxRegisterUnknown {
						cancel()
					}
					x.mu.Unlock()
				}
			})
		}
		wg.Wait()
		cancel()
	}
}

func (x *register) path() string { return "/v1/jobs/" + strconv.FormatInt(x.id, 10) }

func (x *register) note(o op) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if o.Open {
		x.unknown++
	}
	x.ops = append(x.ops, o)
}

func (g *registers) write(ctx context.Context, x *register, r *mrand.Rand, who int) {
	kind, verb := opCancel, "/cancel"
	if r.IntN(2) == 0 {
		kind, verb = opRetry, "/retry"
	}
	call := since()
	a, open, node := g.twice(ctx, r, http.MethodPost, x.path()+verb, nil)
	end := since()
	g.ops.Add(1)
	switch {
	case a.done(), a.refused():
		x.note(op{Client: who, Kind: kind, Call: call, Return: end, OK: a.done(), Node: node})
		if a.done() {
			x.mu.Lock()
			x.index = max(x.index, a.index)
			x.mu.Unlock()
			g.own(ctx, x, r, a)
		}
	case open:
		g.unsure.Add(1)
		x.note(op{Client: who, Kind: kind, Call: call, Open: true, Node: node, Note: a.text()})
	}
}

func (a answer) text() string {
	if a.err != nil {
		return a.err.Error()
	}
	return fmt.Sprintf("%d %s", a.status, a.code)
}

// own reads one's own write on another node, with min_index.
func (g *registers) own(ctx context.Context, x *register, r *mrand.Rand, w answer) {
	if w.index == 0 || r.IntN(4) > 0 {
		return
	}
	node := r.IntN(len(g.addrs))
	a := g.try(ctx, node, http.MethodGet, x.path()+"?min_index="+strconv.FormatUint(w.index, 10), "", nil)
	// What the answer to the write has shown is included too, though it may be newer.
	if a.done() && (a.index < w.index || a.job.Rev < w.job.Rev) {
		g.found.violated(5, "register %d: after revision %d at index %d, node %d answered min_index=%d with revision %d at %d",
			x.id, w.job.Rev, w.index, node+1, w.index, a.job.Rev, a.index)
	}
}

func (g *registers) read(ctx context.Context, x *register, r *mrand.Rand, who int) {
	node := r.IntN(len(g.addrs))
	g.readAt(ctx, x, node, who)
}

// readAt is a linearizable read of one node.
func (g *registers) readAt(ctx context.Context, x *register, node, who int) {
	call := since()
	a := g.try(ctx, node, http.MethodGet, x.path()+"?consistency=linearizable", "", nil)
	end := since()
	g.ops.Add(1)
	if a.done() {
		x.note(op{Client: who, Kind: opRead, Call: call, Return: end, OK: true, Rev: a.job.Rev, State: a.job.State, Node: node})
	} else if a.err == nil && a.status == http.StatusNotFound {
		x.note(op{Client: who, Kind: opRead, Call: call, Return: end, OK: true, State: "missing", Node: node})
	}
}
