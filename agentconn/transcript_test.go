package agentconn

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/coder/websocket"
	"github.com/orrery-io/orrery/wire"
)

const (
	transcripts = "testdata/agent-protocol"
	protocolDoc = "../docs/agent-protocol.md"
)

// step is one line of a transcript, with the lines that continue it:
//
//	> frame        the agent sends it
//	< frame        the node sends it
//	-- event       something happens
//	= closed with  the node closes the connection with this status
//	# comment
type step struct {
	line int
	mark string
	text string
}

func steps(t *testing.T, file string) []step {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var all []step
	for i, line := range strings.Split(strings.TrimRight(string(b), "\n"), "\n") {
		switch mark, text, _ := strings.Cut(line, " "); mark {
		case ">", "<", "--", "=":
			all = append(all, step{i + 1, mark, text})
		case "#":
		case "":
			if len(all) > 0 {
				all[len(all)-1].text += " " + text
			}
		default:
			t.Fatalf("%s:%d: a line begins with %q", file, i+1, mark)
		}
	}
	return all
}

// replay acts as the agent and as the leader of a transcript.
type replay struct {
	*bundle
	peer    *peer
	up      wire.Envelope
	talks   bool           // the hub itself says the next thing to the agent
	ends    bool           // the leader does, ending the session
	sent    []wire.Message // by the agent, without hello
	arrived []wire.Message // at the leader
}

func TestTranscript(t *testing.T) {
	files, err := filepath.Glob(transcripts + "/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no transcripts: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			formats(t, func(t *testing.T, f wire.Format) {
				r := &replay{bundle: setup(t)}
				r.peer = r.dial(t, f)
				for _, s := range steps(t, file) {
					if !r.step(t, s) {
						t.Fatalf("%s:%d", file, s.line)
					}
				}
				r.compare(t)
			})
		})
	}
}

func (r *replay) step(t *testing.T, s step) bool {
	t.Helper()
	switch s.mark {
	case ">":
		r.agentSends(t, frame(t, s.text))
	case "<":
		r.nodeSends(t, frame(t, s.text))
	case "=":
		want, err := strconv.Atoi(strings.TrimPrefix(s.text, "closed with "))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.peer.read(t.Context()); websocket.CloseStatus(err) != websocket.StatusCode(want) {
			t.Errorf("got %v", err)
		}
	case "--":
		switch s.text {
		case "the leader changes":
			r.hub.LeaderChanged()
			r.up = r.leader.up(t)
		case "the node shuts down":
			r.stop()
			r.talks = true
		case "the leader ends the session":
			r.ends = true
		default:
			t.Errorf("nobody knows how %q happens", s.text)
		}
	}
	return !t.Failed()
}

// frame reads a frame strictly: a field that does not exist is a mistake here.
func frame(t *testing.T, text string) []wire.Message {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(text))
	d.DisallowUnknownFields()
	var msgs []wire.Message
	if err := d.Decode(&msgs); err != nil {
		t.Fatal(err)
	}
	return msgs
}

func (r *replay) agentSends(t *testing.T, msgs []wire.Message) {
	t.Helper()
	r.peer.send(t, msgs...)
	if h := msgs[0].Hello; h != nil {
		if h.Protocol != wire.Protocol {
			r.talks = true
			return
		}
		r.up = r.leader.up(t)
		equal(t, "held", r.up.Up.Held, h.Held)
		equal(t, "outbox", r.up.Up.Outbox, h.Outbox)
		return
	}
	r.sent = append(r.sent, msgs...)
	waits := 0 // messages that the hub may keep for a while
	for _, m := range msgs {
		switch {
		case m.Log != nil, m.Progress != nil:
			waits++
		case m.Bye != nil:
			r.talks = true
		}
	}
	if waits < len(msgs) {
		r.arrived = append(r.arrived, r.leader.next(t).Messages...)
	}
}

func (r *replay) nodeSends(t *testing.T, want []wire.Message) {
	t.Helper()
	switch {
	case r.ends:
		r.hub.Deliver([]wire.Envelope{{Session: r.up.Session, Down: want[0].Error}})
	case !r.talks:
		msgs := make([]wire.Message, len(want))
		for i, m := range want {
			if m.Welcome != nil { // the node fills it in
				w := *m.Welcome
				w.Session, w.Node, w.Cluster, w.Nodes = "", "", "", nil
				m.Welcome = &w
			}
			msgs[i] = m
		}
		r.to(r.up, msgs...)
	}
	got := r.peer.receive(t)
	for i := range got {
		if w := got[i].Welcome; w != nil && w.Session == r.up.Session {
			w.Session = "SESSION"
		}
	}
	equal(t, "frame", got, want)
}

// compare checks that the leader was told everything, each attempt's log and
// progress before its result.
func (r *replay) compare(t *testing.T) {
	t.Helper()
	for _, m := range r.sent {
		i := indexOf(r.arrived, m)
		if i < 0 {
			t.Errorf("the leader was not told %s", show(m))
			continue
		}
		if m.Log == nil && m.Progress == nil {
			continue
		}
		for j, x := range r.arrived {
			if x.Result != nil && jobOf(m) == any(x.Result.Job) && j < i {
				t.Errorf("the result came before %s", show(m))
			}
		}
	}
	if len(r.arrived) != len(r.sent) {
		t.Errorf("%d messages arrived of %d", len(r.arrived), len(r.sent))
	}
}

func jobOf(m wire.Message) any {
	if m.Log != nil {
		return m.Log.Job
	}
	return m.Progress.Job
}

func indexOf(all []wire.Message, m wire.Message) int {
	for i := range all {
		if show(all[i]) == show(m) {
			return i
		}
	}
	return -1
}

// TestProtocolDoc keeps what the documentation quotes equal to what was tested.
func TestProtocolDoc(t *testing.T) {
	doc, err := os.ReadFile(protocolDoc)
	if err != nil {
		t.Fatal(err)
	}
	quoted := map[string]string{}
	for _, m := range regexp.MustCompile("(?s)<!-- transcript: (\\S+) -->\n```text\n(.*?)```\n").FindAllSubmatch(doc, -1) {
		quoted[string(m[1])] = string(m[2])
	}
	files, _ := filepath.Glob(transcripts + "/*.txt")
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		name := filepath.Base(file)
		if quoted[name] != string(b) {
			t.Errorf("%s: %s is not quoted as it is", protocolDoc, name)
		}
		delete(quoted, name)
	}
	for name := range quoted {
		t.Errorf("%s quotes %s, which does not exist", protocolDoc, name)
	}

	t.Run("shows_the_MessagePack_of_a_frame", func(t *testing.T) {
		m := regexp.MustCompile("(?s)```json\n(\\[.*?)\n```\n\n```text\n([0-9a-f \n]+)```\n").FindSubmatch(doc)
		if m == nil {
			t.Fatal("it does not")
		}
		b, err := hex.DecodeString(strings.Join(strings.Fields(string(m[2])), ""))
		if err != nil {
			t.Fatal(err)
		}
		want, err := wire.AppendFrame(nil, wire.Msgpack, frame(t, string(m[1])))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(b, want) {
			t.Errorf("it is % x", want)
		}
	})

	t.Run("names_every_error_code", func(t *testing.T) {
		for _, code := range codes(t) {
			if !bytes.Contains(doc, fmt.Appendf(nil, "`%s`", code)) {
				t.Errorf("%s says nothing of %s", protocolDoc, code)
			}
		}
	})
}

// codes finds the codes with which this package refuses, in its source.
func codes(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`(?:fault\(|http\.Status\w+, |return )"([a-z]+(?:_[a-z]+)*)",`).FindAllSubmatch(b, -1) {
			all = append(all, string(m[1]))
		}
	}
	if len(all) < 10 {
		t.Fatalf("found only %q", all)
	}
	return all
}
