package agent_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"github.com/coder/websocket"

	"github.com/orrery-io/orrery/agent"
	"github.com/orrery-io/orrery/job"
	"github.com/orrery-io/orrery/wire"
)

// Email is the payload of the jobs, Receipt their result.
type (
	Email   struct{ To, Subject string }
	Receipt struct{ ID string }
)

func Example() {
	node := exampleNode("email.send", `{"To":"ann@example.com","Subject":"Hello"}`)
	defer node.Close()

	a, err := agent.New(agent.Config{
		Addrs: []string{node.URL}, // http://127.0.0.1:7700
		Name:  "mailer",
		Slots: 16,
		Log:   slog.New(slog.DiscardHandler),
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	a.Use(timed)
	agent.Handle(a, "email.send", func(ctx context.Context, j *agent.Job[Email]) (Receipt, error) {
		j.Logf("sending %q to %s", j.Args.Subject, j.Args.To)
		if !strings.Contains(j.Args.To, "@") {
			return Receipt{}, agent.Permanent(errors.New("that is no address"))
		}
		j.Progress(50, "connected")
		return Receipt{ID: fmt.Sprintf("mail-%d-%d", j.ID, j.Attempt)}, ctx.Err()
	})

	// A program would end with the context of signal.NotifyContext(…, os.Interrupt).
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if err := a.Run(ctx); err != nil {
		fmt.Println(err)
	}
	// Output:
	// job 42: info sending "Hello" to ann@example.com
	// job 42: debug done type=email.send failed=false
	// job 42: completed {"ID":"mail-42-1"}
}

// timed is a middleware that writes into the job's log how the attempt ended.
func timed(next agent.HandlerFunc) agent.HandlerFunc {
	return func(ctx context.Context, j *agent.RawJob) (any, error) {
		out, err := next(ctx, j)
		j.Log().Debug("done", "type", j.Type, "failed", err != nil)
		return out, err
	}
}

func ExampleError() {
	code := 2
	err := &agent.Error{Kind: "smtp", Message: "the mailbox is full", ExitCode: &code}
	fmt.Println(agent.RetryAfter(err, time.Hour))
	// Output: the mailbox is full
}

// exampleNode stands for a cluster in which one job waits.
func exampleNode(typ, payload string) *httptest.Server {
	return httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ws, err := websocket.Accept(w, r, &websocket.AcceptOptions{Subprotocols: wire.Subprotocols()})
		if err != nil {
			return
		}
		defer ws.CloseNow()
		answer := func(msgs ...wire.Message) {
			if frame, err := wire.AppendFrame(nil, wire.Msgpack, msgs); err == nil {
				_ = ws.Write(r.Context(), websocket.MessageBinary, frame)
			}
		}
		for {
			_, frame, err := ws.Read(r.Context())
			if err != nil {
				return
			}
			msgs, err := wire.DecodeFrame(wire.Msgpack, frame, wire.Limits{})
			if err != nil {
				return
			}
			for _, m := range msgs {
				switch {
				case m.Hello != nil:
					answer(wire.Message{Welcome: &wire.Welcome{Session: "s", Lease: 15_000, Margin: 3000, Heartbeat: 5000}},
						wire.Message{Dispatch: &wire.Dispatch{Job: 42, Fence: 1, Type: typ, Attempt: 1, MaxAttempts: 5, Payload: job.JSON(payload)}})
				case m.Log != nil:
					for _, l := range m.Log.Lines {
						fmt.Printf("job %d: %s %s\n", m.Log.Job, l.Level, l.Text)
					}
				case m.Result != nil:
					fmt.Printf("job %d: %s %s\n", m.Result.Job, m.Result.Outcome, m.Result.Result)
					answer(wire.Message{ResultAck: &wire.ResultAck{Job: m.Result.Job, Fence: m.Result.Fence, Accepted: true}})
				}
			}
		}
	}))
}
