package server

import (
	"strings"
	"testing"
)

// TestRefusedSettings has settings of a cluster that can't be meant.
func TestRefusedSettings(t *testing.T) {
	key := newKeyFile(t)
	for _, tt := range []struct {
		name string
		cfg  Config
		says string
	}{
		{"no key", Config{BootstrapExpect: 1}, "needs the cluster key"},
		{"a key that is not there", Config{BootstrapExpect: 1, KeyFile: key + "x"}, "key"},
		{"begin and join", Config{BootstrapExpect: 1, Join: []string{"127.0.0.1:7701"}, KeyFile: key}, "one of the two"},
		{"a negative number", Config{BootstrapExpect: -1, KeyFile: key}, "no number of nodes"},
		{"nobody to join", Config{KeyFile: key}, "knows no other"},
		{"an address without a port", Config{Join: []string{"foo"}, KeyFile: key}, `--join "foo" is no address`},
		{"an address without a host", Config{Join: []string{":7701"}, KeyFile: key}, `--join ":7701" is no address`},
		{"no URL to advertise", Config{BootstrapExpect: 1, KeyFile: key, HTTPAdvertise: "10.0.0.5:7700"}, "is no URL"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.cfg.Data, tt.cfg.HTTP, tt.cfg.Cluster = t.TempDir(), "127.0.0.1:0", "127.0.0.1:0"
			s, err := New(tt.cfg)
			if err == nil {
				s.Close()
				t.Fatal("it is taken")
			}
			if !strings.Contains(err.Error(), tt.says) {
				t.Errorf("it says %q", err)
			}
		})
	}
}
