package cluster

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/orrery-io/orrery/command"
	"github.com/orrery-io/orrery/job"
	"github.com/tinylib/msgp/msgp"
)

// newer is a command as a newer version writes it: of a kind of its own when kind is
// not zero, and with one more field when extra is set.
type newer struct {
	*command.Submit
	kind  command.Kind
	extra bool
}

func (c newer) Kind() command.Kind {
	if c.kind != 0 {
		return c.kind
	}
	return c.Submit.Kind()
}

func (c newer) MarshalMsg(b []byte) ([]byte, error) {
	at := len(b)
	b, err := c.Submit.MarshalMsg(b)
	if err != nil || !c.extra {
		return b, err
	}
	b[at]++ // the number of fields
	b = msgp.AppendString(b, "new")
	return msgp.AppendBool(b, true), nil
}

// TestNewerFollower lets a follower of a newer version forward what the leader may not
// know.
func TestNewerFollower(t *testing.T) {
	for _, tt := range []struct {
		name    string
		version string
		command newer
		want    string // part of the refusal, "" for none
	}{
		{name: "the same commands", version: "v2"},
		{name: "one more field", version: "v2", command: newer{extra: true}, want: `not know all options of this request, which version "v2"`},
		{name: "another kind", version: "v2", command: newer{kind: 200}, want: `not know commands of kind 200, which version "v2"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCrew(t, 3, 0, nil)
				c.record(t, 0, "0")
				l := c.leader(t)
				i := (l + 1) % 3
				c.stop(t, i)
				c.change = func(_ int, cfg *Config) { cfg.Version = tt.version }
				c.start(t, i)
				c.record(t, i, "1") // it knows the leader
				tt.command.Submit = &command.Submit{Spec: spec("2")}
				// Those of other clients that leave with it are recorded.
				var others sync.WaitGroup
				for range 8 {
					others.Go(func() {
						if _, err := c.node(i).Propose(t.Context(), realSubmit("x")); err != nil {
							t.Errorf("another call: %v", err)
						}
					})
				}
				results, err := c.node(i).Propose(t.Context(), command.Item{Command: tt.command})
				others.Wait()
				if tt.want == "" {
					if err != nil || results[0].Job == 0 {
						t.Errorf("it says %v", err)
					}
					return
				}
				if e, ok := errors.AsType[*job.Error](err); !ok || e.Code != "leader_outdated" || e.Kind != job.Unavailable || !strings.Contains(e.Message, tt.want) {
					t.Errorf("it says %v", err)
				}
				// Nothing was recorded, and the cluster works.
				if id := c.record(t, i, "3"); id != 11 {
					t.Errorf("the next job is %d", id)
				}
				c.equal(t)
			})
		})
	}
}
