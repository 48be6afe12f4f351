package founding

import (
	"context"
	"testing"

	"github.com/orrery-io/orrery/cluster/gossip"
)

func nowhere(context.Context, string, string, []byte) ([]byte, error) { return nil, errLost }

func TestRecord(t *testing.T) {
	list := []Server{{"n-a", "a:1"}, {"n-b", "b:1"}}
	p := Proposal{Proposer: "n-b", Number: 2, Cluster: "c", Servers: list}
	bound, err := record{}.promise(p)
	if err != nil {
		t.Fatal(err)
	}
	earlier, later, other := p, p, p
	earlier.Number, later.Number, other.Proposer = 1, 3, "n-c"
	mine, err := record{}.propose("n-a", "mine", list)
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name string
		do   func() error
		ok   bool
	}{
		{"a promise may be repeated", func() error { _, err := bound.promise(p); return err }, true},
		{"a later proposal of the same node replaces it", func() error { _, err := bound.promise(later); return err }, true},
		{"an earlier one doesn't", func() error { _, err := bound.promise(earlier); return err }, false},
		{"one of another node doesn't", func() error { _, err := bound.promise(other); return err }, false},
		{"who has promised doesn't propose", func() error { _, err := bound.propose("n-a", "x", list); return err }, false},
		{"who has promised joins that cluster only", func() error { _, err := bound.join("x"); return err }, false},
		{"who has promised joins that cluster", func() error { _, err := bound.join("c"); return err }, true},
		{"who proposes promises nobody", func() error { _, err := mine.promise(p); return err }, false},
		{"what was given up doesn't begin", func() error {
			r, err := mine.giveUp("n-a")
			if err != nil {
				return err
			}
			_, err = r.begin("n-a", 1)
			return err
		}, false},
		{"what has begun isn't given up", func() error {
			r, err := mine.begin("n-a", 1)
			if err != nil {
				t.Error(err)
			}
			_, err = r.giveUp("n-a")
			return err
		}, false},
		{"another's proposal isn't begun", func() error { _, err := bound.begin("n-a", 2); return err }, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if err := tt.do(); (err == nil) != tt.ok {
				t.Error(err)
			}
		})
	}
	if r := bound.free(later); r.Promised == nil {
		t.Error("a promise is gone because of another proposal")
	}
	if r := bound.free(p); r.Promised != nil {
		t.Error("a promise stays although it was given up")
	}
	gone, _ := mine.giveUp("n-a")
	again, err := gone.propose("n-a", "again", list)
	if err != nil || again.Promised.Number != 2 || again.fate("n-a", 1) != givenUp || again.fate("n-a", 2) != open {
		t.Errorf("%+v, %v", again, err)
	}
}

func FuzzHandlers(f *testing.F) {
	f.Add(methodPromise, []byte(`{"proposer":"n-b","number":1,"cluster":"c","servers":[{"id":"n-a","address":"a:1"},{"id":"n-b","address":"b:1"}]}`))
	f.Add(methodPromise, []byte(`{"proposer":"n-b","number":1,"cluster":"c","servers":[{"id":"n-b"},{"id":"n-b"}]}`))
	f.Add(methodReady, []byte(`{"expect":2,"servers":null}`))
	f.Add(methodStatus, []byte(`[]`))
	f.Fuzz(func(t *testing.T, method string, body []byte) {
		d := &disk{tear: func() (bool, bool) { return false, false }}
		fo, err := newFounding(Config{Node: "n-a", Address: "a:1", Expect: 2, Peers: func() []gossip.Peer { return nil }, Call: nowhere}, d)
		if err != nil {
			t.Fatal(err)
		}
		fo.active = true
		h := fo.Handlers()[method]
		if h == nil {
			return
		}
		_, _ = h(t.Context(), "n-b", body)
		if p := d.rec.Promised; p != nil && (p.check("n-b", "n-a", 2) != nil) {
			t.Errorf("promised %+v", p)
		}
	})
}
