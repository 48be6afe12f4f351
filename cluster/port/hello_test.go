package port

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

func TestHello(t *testing.T) {
	want := hello{Node: "n1", Cluster: "c1", Version: "v1.2.3", Refused: refusedBusy}
	var buf bytes.Buffer
	if err := writeHello(&buf, want); err != nil {
		t.Fatal(err)
	}
	buf.WriteString("rest")
	if got, err := readHello(&buf); err != nil || got != want {
		t.Errorf("got %+v, %v", got, err)
	}
	if buf.String() != "rest" {
		t.Errorf("what follows the hello is %q", buf.String())
	}
	if err := writeHello(&buf, hello{Node: strings.Repeat("n", maxHello)}); !errors.Is(err, errHello) {
		t.Errorf("an oversized hello: %v", err)
	}
	if _, err := readHello(bytes.NewReader(frame(`{"node":"n1","later":{"versions":["may","add"]}}`))); err != nil {
		t.Errorf("an unknown field: %v", err)
	}
}

// FuzzHello reads anything as a hello.
func FuzzHello(f *testing.F) {
	f.Add(frame(`{"node":"n1","cluster":"c1","version":"v1"}`))
	f.Add(frame(`{"node":"n1","refused":"busy"}`))
	f.Add([]byte{0xff, 0xff, '{'})
	f.Add(frame("[]"))
	f.Fuzz(func(t *testing.T, data []byte) {
		r := bytes.NewReader(data)
		h, err := readHello(r)
		if read := len(data) - r.Len(); read > 2+maxHello {
			t.Fatalf("read %d bytes", read)
		}
		if err != nil {
			return
		}
		if h.Node == "" || len(h.Node) > maxName || len(h.Cluster) > maxName {
			t.Fatalf("accepted %+v", h)
		}
		var buf bytes.Buffer
		if err := writeHello(&buf, h); err != nil {
			t.Fatalf("%+v can be read, but not written: %v", h, err)
		}
		if again, err := readHello(&buf); err != nil || again != h {
			t.Fatalf("wrote %+v, read %+v, %v", h, again, err)
		}
	})
}
