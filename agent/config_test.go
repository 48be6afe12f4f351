package agent

import (
	"context"
	"strings"
	"testing"

	"github.com/orrery-io/orrery/job"
	"github.com/orrery-io/orrery/wire"
)

func TestNew(t *testing.T) {
	t.Run("defaults", func(t *testing.T) {
		a, err := New(Config{Addrs: []string{" localhost:7700 "}})
		if err != nil {
			t.Fatal(err)
		}
		b, _ := New(Config{Addrs: []string{"http://x"}})
		expectAll(t, "addresses", a.cfg.Addrs, "http://localhost:7700")
		expectAll(t, "queues", a.cfg.Queues, "default")
		expect(t, "drain", a.cfg.DrainTimeout, defaultDrain)
		if a.cfg.Slots < 1 || a.ID() == b.ID() || !strings.HasPrefix(a.ID(), a.cfg.Name+"-") || job.CheckName(a.ID()) != "" {
			t.Errorf("slots %d, ids %s and %s", a.cfg.Slots, a.ID(), b.ID())
		}
	})
	for _, tt := range []struct {
		name string
		cfg  Config
		want string
	}{
		{"no address", Config{}, "Addrs is empty; name at least one node, such as http://127.0.0.1:7700"},
		{"an empty address", Config{Addrs: []string{"x", " "}}, "Addrs[1] is empty"},
		{"another scheme", Config{Addrs: []string{"ftp://x"}}, `Addrs[0] "ftp://x" has the scheme ftp; it must be http or https`},
		{"no address at all", Config{Addrs: []string{"http://"}}, `"http://" is not an address`},
		{"a password", Config{Addrs: []string{"http://a:secret@x"}}, `"http://a:xxxxx@x" must be only scheme, host, port and path`},
		{"a bad id", Config{Addrs: []string{"x"}, ID: "a b"}, `ID "a b" has the character ' '`},
		{"a bad queue", Config{Addrs: []string{"x"}, Queues: []string{"a", ""}}, `Queues[1] "" is required`},
		{"negative slots", Config{Addrs: []string{"x"}, Slots: -1}, "Slots is -1; it must be 1 to 10000"},
		{"a label without a key", Config{Addrs: []string{"x"}, Labels: map[string]string{"": "x"}}, `Labels key ""`},
		{"a bad version", Config{Addrs: []string{"x"}, Version: "a\nb"}, "Version must be"},
		{"a bad format", Config{Addrs: []string{"x"}, Format: wire.Format(9)}, "Format 9"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := New(tt.cfg)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %s", err, tt.want)
			}
		})
	}
}

func TestHandlePanics(t *testing.T) {
	fn := func(context.Context, *Job[job.JSON]) (any, error) { return nil, nil }
	for _, tt := range []struct {
		name string
		do   func(*Agent)
	}{
		{"a bad type", func(a *Agent) { Handle(a, "a b", fn) }},
		{"a type twice", func(a *Agent) { Handle(a, "t", fn); Handle(a, "t", fn) }},
		{"no function", func(a *Agent) { Handle[int, int](a, "t", nil) }},
		{"a handler after Close", func(a *Agent) { _ = a.Close(); Handle(a, "t", fn) }},
		{"middleware after Close", func(a *Agent) { _ = a.Close(); a.Use() }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a, err := New(Config{Addrs: []string{"x"}})
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if recover() == nil {
					t.Error("it did not panic")
				}
			}()
			tt.do(a)
		})
	}
}

func TestFailures(t *testing.T) {
	if Permanent(nil) != nil || RetryAfter(nil, 1) != nil {
		t.Error("nil did not stay nil")
	}
	f := failureOf(RetryAfter(Permanent(&Error{Kind: strings.Repeat("k", 200), Message: "m\xff" + strings.Repeat("x", 10_000)}), -5))
	if len(f.Kind) > maxKind || len(f.Message) > maxMessage || !strings.HasPrefix(f.Message, "m\uFFFDx") {
		t.Errorf("kind of %d bytes, message of %d bytes: %.20q", len(f.Kind), len(f.Message), f.Message)
	}
	expect(t, "permanent", f.Permanent, true)
	expect(t, "delay", f.RetryAfter, 1)
	expect(t, "an empty error", failureOf(&Error{}).Message, "failed")
	expect(t, "only a cause", failureOf(&Error{Err: context.Canceled}).Message, "context canceled")
}
