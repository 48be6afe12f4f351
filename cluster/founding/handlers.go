package founding

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
)

// Methods that new nodes call on each other.
const (
	methodReady   = "founding.ready"
	methodPromise = "founding.promise"
	methodStatus  = "founding.status"
)

// readyQuestion asks whether a node sees the same founders.
type readyQuestion struct {
	Expect  int      `json:"expect"`
	Servers []Server `json:"servers"`
}

// agreement answers readyQuestion and Proposal.
type agreement struct {
	OK  bool   `json:"ok"`
	Why string `json:"why,omitempty"`
}

// statusQuestion asks a proposer what became of its proposal.
type statusQuestion struct {
	Number  uint64 `json:"number"`
	Cluster string `json:"cluster"`
}

type statusAnswer struct {
	Fate fate `json:"fate"`
}

// call asks a node, for at most askLimit.
func call[A any](ctx context.Context, f *Founding, node, method string, question any) (answer A, err error) {
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	body, err := json.Marshal(question)
	if err != nil {
		return answer, err
	}
	b, err := f.cfg.Call(ctx, node, method, body)
	if err == nil {
		err = json.Unmarshal(b, &answer)
	}
	return answer, err
}

// Handlers returns what answers the calls of other nodes, by method. They answer as
// long as the node runs, not only while Found does.
func (f *Founding) Handlers() map[string]func(ctx context.Context, from string, body []byte) ([]byte, error) {
	return map[string]func(context.Context, string, []byte) ([]byte, error){
		methodReady:   handler(f.ready),
		methodPromise: handler(f.promise),
		methodStatus:  handler(f.status),
	}
}

func handler[Q, A any](answer func(from string, q Q) (A, error)) func(context.Context, string, []byte) ([]byte, error) {
	return func(_ context.Context, from string, body []byte) ([]byte, error) {
		var q Q
		if err := json.Unmarshal(body, &q); err != nil {
			return nil, fmt.Errorf("founding: decode a question: %w", err)
		}
		a, err := answer(from, q)
		if err != nil {
			return nil, err
		}
		return json.Marshal(a)
	}
}

func no(why string) agreement { return agreement{Why: why} }

// idle says why this node takes no part now, "" when it does. The caller holds mu.
func (f *Founding) idle() string {
	switch {
	case f.cfg.Cluster() != "" || f.rec.decided():
		return "it belongs to a cluster already"
	case f.broken != nil:
		return "its disk failed"
	case !f.active:
		return "it has not started yet"
	}
	return ""
}

// ready says whether this node would promise the list, and promises nothing.
func (f *Founding) ready(from string, q readyQuestion) (agreement, error) {
	v := look(f.cfg, f.cfg.Peers())
	f.mu.Lock()
	defer f.mu.Unlock()
	if why := f.idle(); why != "" {
		return no(why), nil
	}
	if held := f.rec.Promised; held != nil && held.Proposer != from {
		f.wake() // to ask whether that is still so
		return no("it has promised to begin a cluster with " + held.String()), nil
	}
	switch {
	case f.cfg.Expect != q.Expect:
		return no(fmt.Sprintf("it was started with --bootstrap-expect %d, and %s with %d: start all of them with the same number", f.cfg.Expect, from, q.Expect)), nil
	case len(v.clusters) > 0:
		return no("it sees a cluster that is there already"), nil
	case !slices.Equal(ids(v.founders), ids(q.Servers)):
		return no("it sees " + v.names(f.cfg.Node)), nil
	}
	return agreement{OK: true}, nil
}

// promise binds this node.
func (f *Founding) promise(from string, p Proposal) (agreement, error) {
	if err := p.check(from, f.cfg.Node, f.cfg.Expect); err != nil {
		return no(err.Error()), nil //nolint:nilerr // the answer says it
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if why := f.idle(); why != "" {
		return no(why), nil
	}
	r, err := f.rec.promise(p)
	if err != nil {
		return no(err.Error()), nil //nolint:nilerr // the answer says it
	}
	if err := f.change(r, nil); err != nil {
		return agreement{}, err
	}
	f.wake()
	return agreement{OK: true}, nil
}

// status says what became of a proposal of this node.
func (f *Founding) status(_ string, q statusQuestion) (statusAnswer, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.broken != nil {
		return statusAnswer{}, f.broken
	}
	if q.Cluster != "" && f.cfg.Cluster() == q.Cluster {
		return statusAnswer{Fate: begun}, nil
	}
	return statusAnswer{Fate: f.rec.fate(f.cfg.Node, q.Number)}, nil
}
