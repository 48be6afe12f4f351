package agentconn

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/orrery-io/orrery/agent"
	"github.com/orrery-io/orrery/job"
	"github.com/orrery-io/orrery/wire"
)

// TestGoSDK lets the Go SDK speak with a hub: a job with a log, a new leader while
// its result is not acknowledged, and the node going away.
func TestGoSDK(t *testing.T) {
	formats(t, func(t *testing.T, f wire.Format) {
		b := setup(t)
		mux := http.NewServeMux()
		mux.Handle(wire.Path, b.hub)
		srv := httptest.NewServer(mux)
		defer srv.Close()

		a, err := agent.New(agent.Config{Addrs: []string{srv.URL}, ID: "sdk", Slots: 2, Format: f, Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		type in struct{ Name string }
		agent.Handle(a, "greet", func(_ context.Context, j *agent.Job[in]) (string, error) {
			j.Logf("greeting %s", j.Args.Name)
			j.Progress(100, "done")
			return "hello " + j.Args.Name + " at " + j.Tick.Format(time.RFC3339) + " by " + j.Schedule, nil
		})
		ctx, cancel := context.WithCancel(t.Context())
		ran := make(chan error, 1)
		go func() { ran <- a.Run(ctx) }()

		up := b.leader.up(t)
		if up.Agent != "sdk" || up.Up.Capabilities[0].Type != "greet" || up.Up.Slots != 2 {
			t.Errorf("up: %s", show(up.Up))
		}
		welcome := wire.Message{Welcome: &wire.Welcome{Lease: 15000, Margin: 3000, Heartbeat: 5000}}
		b.to(up, welcome, wire.Message{Dispatch: &wire.Dispatch{
			Job: 7, Fence: 9, Type: "greet", Queue: "default", Attempt: 1, MaxAttempts: 1, Payload: job.JSON(`{"Name":"you"}`),
			Schedule: "nightly", Tick: 1798761600000,
		}})
		// until returns the message that is awaited, and the kinds that came before it.
		until := func(is func(wire.Message) bool) (wire.Message, map[string]bool) {
			before := map[string]bool{}
			for {
				for _, m := range b.leader.next(t).Messages {
					if is(m) {
						return m, before
					}
					before[m.Kind()] = true
				}
			}
		}
		isResult := func(m wire.Message) bool { return m.Result != nil }
		m, before := until(isResult)
		equal(t, "result", m.Result, &wire.Result{Job: 7, Fence: 9, Outcome: "completed", Result: job.JSON(`"hello you at 2027-01-01T00:00:00Z by nightly"`)})
		if !before["ack"] || !before["log"] || !before["progress"] || before["start"] {
			t.Errorf("before the result came %v", before)
		}

		b.hub.LeaderChanged()
		again := b.leader.up(t)
		equal(t, "outbox", again.Up.Outbox, []wire.Held{{Job: 7, Fence: 9}})
		b.to(up, welcome)
		m, _ = until(isResult)
		b.to(up, wire.Message{ResultAck: &wire.ResultAck{Job: m.Result.Job, Fence: m.Result.Fence, Accepted: true}})

		cancel()
		until(func(m wire.Message) bool { return m.Bye != nil })
		if err := <-ran; err != nil {
			t.Errorf("run: %v", err)
		}
		if code := b.leader.ended(t); code != "bye" {
			t.Errorf("down with %s", code)
		}
	})
}
