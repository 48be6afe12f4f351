package httpapi

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/coder/websocket"
	"github.com/orrery-io/orrery/agentconn"
	"github.com/orrery-io/orrery/command"
	"github.com/orrery-io/orrery/job"
	"github.com/orrery-io/orrery/wire"
)

func lines(first int64, texts ...string) []job.LogLine {
	var out []job.LogLine
	for i, text := range texts {
		out = append(out, job.LogLine{Seq: first + int64(i), Time: 1_800_000_000_000, Level: "info", Text: text})
	}
	return out
}

func TestLogs(t *testing.T) {
	b := setup(t)
	id := b.submit()
	target := fmt.Sprintf("/v1/jobs/%d/logs", id)
	var log JobLog
	b.get(target).want(200).into(&log)
	if log.Attempt != 0 || log.Lines == nil || log.State != job.Pending {
		t.Errorf("%+v", log)
	}
	fence := b.dispatch(id)
	b.propose(&command.AppendLog{Job: id, Fence: fence, Lines: lines(1, "one", "two\nlines", "three", "four")})
	b.get(target).want(200).into(&log)
	if len(log.Lines) != 4 || log.Lines[0].Text != "one" || log.Lines[3].Seq != 4 || log.Attempt != 1 || log.Lines[0].Attempt != 1 || log.Lines[0].Fence != fence {
		t.Errorf("%+v", log)
	}
	for query, want := range map[string]string{
		"?tail=2": "3,4", "?after=3": "4", "?limit=3": "1,2,3", "?after=1&limit=2": "2,3", "?attempt=1&after=9": "", "?tail=1&limit=5": "4",
	} {
		log = JobLog{}
		b.get(target + query).want(200).into(&log)
		var got []string
		for _, l := range log.Lines {
			got = append(got, fmt.Sprint(l.Seq))
		}
		if strings.Join(got, ",") != want {
			t.Errorf("%s: %q", query, got)
		}
	}
	b.get(target + "?limit=3").want(200).into(&log)
	if log.NextAfter != 3 {
		t.Errorf("next_after %d", log.NextAfter)
	}
	r := b.get(target, "Accept", "text/plain").want(200)
	if want := "2027-01-15T08:00:00.000Z info   two\\nlines\n"; !strings.Contains(string(r.body), want) || strings.Count(string(r.body), "\n") != 4 {
		t.Errorf("plain: %q", r.body)
	}
	if r = b.get(target, "Accept", "application/x-ndjson").want(200); strings.Count(string(r.body), "\n") != 4 {
		t.Errorf("NDJSON: %q", r.body)
	}
	b.get(target+"?attempt=2").problem(404, "attempt_not_found")
	b.get("/v1/jobs/99/logs").problem(404, "job_not_found")
	b.get("/v1/jobs/99/logs", "Accept", "text/event-stream").problem(404, "job_not_found")
	b.get(target, "Last-Event-ID", "x", "Accept", "text/event-stream").problem(400, "invalid_header")
	b.get(target+"?limit=3", "Accept", "text/event-stream").problem(400, "invalid_value")
}

// agent connects to the API as an agent does, and records what it logs.
func (b *testBundle) agent(url string) *websocket.Conn {
	b.t.Helper()
	ctx, stop := context.WithCancel(context.WithoutCancel(b.t.Context()))
	done := make(chan error)
	go func() { done <- b.hub.Run(ctx) }()
	b.t.Cleanup(func() {
		stop()
		<-done
	})
	var c *websocket.Conn
	for {
		// The hub takes connections as soon as Run has begun.
		conn, resp, err := websocket.Dial(b.t.Context(), url+wire.Path, &websocket.DialOptions{Subprotocols: []string{wire.SubprotocolJSON}})
		if err == nil {
			c = conn
			break
		}
		if resp == nil || resp.StatusCode != http.StatusServiceUnavailable {
			b.t.Fatal(err)
		}
	}
	b.t.Cleanup(func() { _ = c.CloseNow() })
	b.say(c, wire.Message{Hello: &wire.Hello{Protocol: wire.Protocol, ID: "a1", Slots: 4, Capabilities: []job.Capability{{Type: "echo"}}}})
	return c
}

func (b *testBundle) say(c *websocket.Conn, m wire.Message) {
	b.t.Helper()
	data, err := json.Marshal([]wire.Message{m})
	if err != nil {
		b.t.Fatal(err)
	}
	if err := c.Write(b.t.Context(), websocket.MessageText, data); err != nil {
		b.t.Fatal(err)
	}
}

func TestLogs_follow(t *testing.T) {
	b := setup(t, func(c *Config) { c.Hub = nil })
	b.hub = agentconn.New(agentconn.Config{Node: "n1", ToLeader: func([]wire.Envelope) {}})
	b.API.hub = b.hub
	url := b.serve()
	c := b.agent(url)
	id := b.submit()
	fence := b.dispatch(id)
	b.propose(&command.AppendLog{Job: id, Fence: fence, Lines: lines(1, "kept")})
	target := fmt.Sprintf("%s/v1/jobs/%d/logs", url, id)
	l := listen(t, target, "Accept", "text/event-stream")
	text := func(ev sse) string {
		var line LogLine
		if err := json.Unmarshal([]byte(ev.data), &line); err != nil {
			t.Fatal(err)
		}
		return line.Text
	}
	if ev := l.want("log"); text(ev) != "kept" || ev.id != "1.1" {
		t.Errorf("%+v", ev)
	}
	logged := func(fence job.Fence, seq int64, text string) {
		b.say(c, wire.Message{Log: &wire.Log{Job: id, Fence: fence, Lines: []wire.LogLine{{Seq: seq, Time: 1, Level: "info", Text: text}}}})
	}
	logged(fence, 2, "live")
	ev := l.want("log")
	if text(ev) != "live" || ev.id != "1.2" {
		t.Errorf("%+v", ev)
	}
	b.say(c, wire.Message{Progress: &wire.Progress{Job: id, Fence: fence, Percent: 50}})
	if ev := l.want("progress"); !strings.Contains(ev.data, `"percent":50`) {
		t.Errorf("%+v", ev)
	}
	// Line 3 was dropped on the way: what follows waits until it is kept.
	logged(fence, 4, "four")
	b.propose(&command.AppendLog{Job: id, Fence: fence, Lines: lines(2, "live", "three")})
	if ev := l.want("log"); text(ev) != "three" {
		t.Errorf("%+v", ev)
	}
	if ev := l.want("log"); text(ev) != "four" {
		t.Errorf("%+v", ev)
	}
	// The next attempt is followed too.
	b.propose(&command.Finish{Job: id, Fence: fence, Outcome: job.OutcomeFailed, Next: job.Pending, Error: &job.Failure{Kind: "error"}})
	second := b.dispatch(id)
	logged(second, 1, "again")
	if ev := l.want("log"); text(ev) != "again" || ev.id != "2.1" {
		t.Errorf("%+v", ev)
	}
	b.propose(&command.AppendLog{Job: id, Fence: second, Lines: lines(1, "again", "last")})
	b.finish(id, second, job.Completed)
	if ev := l.want("log"); text(ev) != "last" {
		t.Errorf("%+v", ev)
	}
	if ev := l.want("end"); !strings.Contains(ev.data, `"state":"completed"`) {
		t.Errorf("%+v", ev)
	}
	if _, ok := l.next(); ok {
		t.Error("the stream goes on")
	}
	// Resumed, nothing comes again; in plain text, everything of one attempt.
	l = listen(t, target, "Accept", "text/event-stream", "Last-Event-ID", "1.2")
	var got []string
	for ev, ok := l.next(); ok; ev, ok = l.next() {
		got = append(got, ev.id+ev.name)
	}
	if want := "1.3log 2.1log 2.2log 2.2end"; strings.Join(got, " ") != want && strings.Join(got, " ") != "1.3log 2.1log 2.2log end" {
		t.Errorf("resumed: %q", got)
	}
	l = listen(t, target+"?attempt=1&follow=true", "Accept", "text/plain")
	all, err := io.ReadAll(l.r)
	if err != nil || strings.Count(string(all), "\n") != 3 {
		t.Errorf("%q, %v", all, err)
	}
}
