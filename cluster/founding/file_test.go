package founding

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/orrery-io/orrery/cluster/gossip"
)

func TestFileKeepsTheOldOrTheNew(t *testing.T) {
	path := filepath.Join(t.TempDir(), "founding.json")
	f := file{path: path}
	if r, err := f.load(); err != nil || !reflect.DeepEqual(r, record{}) {
		t.Fatalf("nothing loads as %+v, %v", r, err)
	}
	first, err := record{}.promise(Proposal{Proposer: "n-b", Number: 3, Cluster: "c", Servers: []Server{{"n-a", "a:1"}, {"n-b", "b:1"}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := f.save(first); err != nil {
		t.Fatal(err)
	}
	first.Layout = layout
	second := record{Layout: layout, Number: 7}
	died := errors.New("died")
	steps := []struct {
		name string
		want record
	}{
		{"written", first},
		{"synced", first},
		{"renamed", second},
		{"", second},
	}
	for _, s := range steps {
		t.Run("dies when "+s.name, func(t *testing.T) {
			if err := f.save(first); err != nil {
				t.Fatal(err)
			}
			dying := file{path: path, step: func(name string) error {
				if name == s.name {
					return died
				}
				return nil
			}}
			if err := dying.save(second); s.name != "" && !errors.Is(err, died) || s.name == "" && err != nil {
				t.Errorf("save = %v", err)
			}
			// What a process that died has left behind must not be in the way.
			if r, err := f.load(); err != nil || !reflect.DeepEqual(r, s.want) {
				t.Errorf("loads %+v, %v, want %+v", r, err, s.want)
			}
		})
	}
}

func TestFileRefuses(t *testing.T) {
	tests := []struct {
		name, content, want string
	}{
		{"an empty file", "", "is damaged"},
		{"half a file", `{"layout": 1, "promi`, "is damaged"},
		{"another file", `{}`, "is damaged"},
		{"a newer version", `{"layout": 2}`, "newer version"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "founding.json")
			if err := os.WriteFile(path, []byte(tt.content), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := New(Config{Node: "n-a", Address: "a:1", File: path, Peers: func() []gossip.Peer { return nil }, Call: nowhere})
			if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), path) {
				t.Errorf("New = %v", err)
			}
		})
	}
}
