package server

import (
	"path/filepath"
	"strings"
	"testing"
)

func TestListen(t *testing.T) {
	t.Parallel()
	first, err := listen(t.Context(), "127.0.0.1:0", false)
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	tests := []struct {
		name, addr string
		token      bool
		want       string // in the error; "" means that it listens
	}{
		{"every interface without a token", ":0", false, "--token-file"},
		{"a reachable address without a token", "0.0.0.0:0", false, "--token-file"},
		{"a name that others resolve", "example.org:0", false, "--token-file"},
		{"every interface with a token", "0.0.0.0:0", true, ""},
		{"localhost", "localhost:0", false, ""},
		{"an address in use", first.Addr().String(), false, "is in use"},
		{"an address of another machine", "192.0.2.1:0", true, "no address"},
		{"no port", "127.0.0.1", false, "not an address"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l, err := listen(t.Context(), tt.addr, tt.token)
			if tt.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				_ = l.Close()
				return
			}
			if err == nil {
				_ = l.Close()
				t.Fatalf("it listens on %s", l.Addr())
			}
			if !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") {
				t.Fatalf("error %q, want one line with %q", err, tt.want)
			}
		})
	}
}

func TestReadToken(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "token")
	write(t, file, "  0123456789abcdef\n")
	if got, err := ReadToken(file); err != nil || got != "0123456789abcdef" {
		t.Fatalf("got %q, %v", got, err)
	}
	for _, bad := range []string{"", "short", "two words that are long"} {
		write(t, file, bad)
		if got, err := ReadToken(file); err == nil {
			t.Errorf("%q was taken as %q", bad, got)
		}
	}
	if _, err := ReadToken(file + "x"); err == nil {
		t.Error("a missing file was taken")
	}
}
