package gossip

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"
)

func (*node) dialNowhere(context.Context, string, string) (net.Conn, error) {
	return nil, net.ErrClosed
}

func FuzzDecodeCard(f *testing.F) {
	b, err := card{Meta: Meta{Cluster: "c", HTTP: "http://h", Version: "v", Expect: 3, Fresh: true}, Address: "h:1"}.encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte{})
	f.Add([]byte{0xdf, 0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := decodeCard(b)
		if err != nil {
			return
		}
		if again, err := c.encode(); err == nil {
			if back, err := decodeCard(again); err != nil || back != c {
				t.Errorf("%+v comes back as %+v, %v", c, back, err)
			}
		}
	})
}

func FuzzOpen(f *testing.F) {
	packet, err := seal([][]byte{key('a')}, []byte("hello"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(packet)
	f.Add([]byte{sealVersion})
	f.Fuzz(func(t *testing.T, b []byte) {
		plain, err := open([][]byte{key('b'), key('a')}, b)
		if err == nil && string(plain) != "hello" {
			t.Errorf("a packet that nobody sealed opens as %q", plain)
		}
	})
}

func TestCardSkipsWhatItDoesNotKnow(t *testing.T) {
	// {"m": {"c": "x", "new": [1, {"a": 2}]}, "also": 1}
	b := []byte("\x82\xa1m\x82\xa1c\xa1x\xa3new\x92\x01\x81\xa1a\x02\xa4also\x01")
	c, err := decodeCard(b)
	if err != nil || c.Meta.Cluster != "x" {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestOfSeveralStartsTheNewestThatLivesCounts(t *testing.T) {
	r := &registry{starts: make(map[string]*sighting)}
	put := func(at int64, version string, alive bool) {
		b, err := card{Meta: Meta{Version: version}}.encode()
		if err != nil {
			t.Fatal(err)
		}
		r.put(&memberlist.Node{Name: startName("n-b", time.Unix(at, 0)), Addr: net.IPv4(127, 0, 0, 1), Port: 1, Meta: b}, alive)
	}
	want := func(version string, alive bool) {
		t.Helper()
		peers := r.peers("n-a", "")
		if len(peers) != 1 || peers[0].Version != version || peers[0].Alive != alive {
			t.Errorf("got %+v, want version %s", peers, version)
		}
	}
	put(2, "second", true)
	want("second", true)
	put(1, "first", true)
	want("second", true)
	put(3, "third", true)
	want("third", true)
	put(3, "third", false)
	want("second", true)
	put(2, "second", false)
	put(1, "first", false)
	want("third", false)
	if p := r.peers("n-b", ""); len(p) != 0 {
		t.Errorf("a node is its own peer: %+v", p)
	}
}
