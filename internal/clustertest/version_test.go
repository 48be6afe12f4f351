package clustertest

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/orrery-io/orrery/cluster"
	"github.com/orrery-io/orrery/command"
	"github.com/orrery-io/orrery/job"
	"github.com/tinylib/msgp/msgp"
)

// ofKind is a command of a version to come.
type ofKind struct {
	command.TrimFeed
	kind command.Kind
}

func (c *ofKind) Kind() command.Kind { return c.kind }

// withField is a Submit with a field of a version to come.
type withField struct{ command.Submit }

func (c *withField) Msgsize() int { return c.Submit.Msgsize() + 100 }

func (c *withField) MarshalMsg(b []byte) ([]byte, error) {
	plain, err := c.Submit.MarshalMsg(nil)
	if err != nil {
		return nil, err
	}
	n, fields, err := msgp.ReadMapHeaderBytes(plain)
	if err != nil {
		return nil, err
	}
	b = msgp.AppendMapHeader(b, n+1)
	b = msgp.AppendString(b, "field_of_a_version_to_come")
	b = msgp.AppendMapHeader(b, 1)
	b = msgp.AppendString(b, "with")
	b = msgp.AppendString(b, "something in it")
	return append(b, fields...), nil
}

// lead makes a node the leader.
func (c *Cluster) lead(n *Node) {
	c.t.Helper()
	for c.Leader() != n {
		if _, err := c.Leader().Transfer(context.WithoutCancel(c.t.Context()), n.ID); err != nil && job.KindOf(err) != job.Unavailable {
			c.t.Fatal(err)
		}
		c.Followers()
	}
}

func TestMixedVersions(t *testing.T) {
	run := bubbles(t)
	versions := func(i int, cfg *cluster.Config) {
		cfg.Version = "2.0.0"
		if i == 2 {
			cfg.Version = "1.9.0"
		}
	}
	run("a node that doesn't know a command stops and says who wrote it; the others go on", func(t *testing.T) {
		c := Start(t, Config{Change: versions})
		c.lead(c.Nodes[0])
		old := c.Nodes[2]
		old.Memory.Refuse(func(cmd command.Command) bool { return cmd.Kind() == command.KindTrimFeed })
		c.Record(c.Nodes[1], Submit("before", ""))
		c.Record(c.Nodes[1], command.Item{Command: &command.TrimFeed{}})
		err := old.Wait()
		if err == nil || !strings.Contains(err.Error(), `a command of kind 21, written by version "2.0.0", that this version does not know; start this node with that version or a newer one`) {
			t.Errorf("the old node ended with %v", err)
		}
		c.Record(c.Nodes[1], Submit("after", ""))
		c.Agree()
		if old.Memory.Answered("after") {
			t.Error("the old node went on")
		}
		// With the new version it comes back.
		c.Start(2)
		c.Agree()
	})

	run("a leader that doesn't know a command refuses it before it is recorded", func(t *testing.T) {
		c := Start(t, Config{Change: versions})
		c.lead(c.Nodes[2])
		_, err := c.Nodes[0].Propose(t.Context(), command.Item{Command: &ofKind{kind: 250}})
		if job.KindOf(err) != job.Unavailable || !strings.Contains(err.Error(), `kind 250, which version "2.0.0" has written`) {
			t.Errorf("error %v", err)
		}
		c.Record(c.Nodes[0], Submit("after", ""))
		c.Agree()
	})

	run("fields that a version doesn't know are passed over", func(t *testing.T) {
		c := Start(t, Config{Change: versions})
		c.lead(c.Nodes[0])
		later := &withField{}
		later.Spec = Submit("later", "").Command.(*command.Submit).Spec
		c.Record(c.Nodes[0], command.Item{Command: later})
		c.Record(c.Nodes[0], Submit("after", ""))
		c.Agree()
		if got := strings.Join(c.Nodes[2].Memory.Jobs(), " "); got != "later after" {
			t.Errorf("jobs %s", got)
		}
	})
}

func TestRequestIDs(t *testing.T) {
	run := bubbles(t)
	run("a request whose answer was lost gets it from the next leader", func(t *testing.T) {
		c := Start(t, Config{})
		for round := range 6 {
			l := c.Leader()
			f := c.Followers()[round%2]
			// The leader records, and can't tell anybody any more.
			c.Net.Block(l.ID, f.ID)
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			id := "request " + l.ID + string(rune('0'+round))
			if _, err := f.Propose(ctx, Submit(id, id)); err == nil {
				t.Error("an answer came although it was lost")
			}
			cancel()
			c.Net.Isolate(l.ID)
			second := c.Record(c.Leader(l), Submit(id, id))
			third := c.Record(f, Submit(id, id))
			if second[0].Job != third[0].Job || second[0].Index != third[0].Index {
				t.Errorf("%s was answered with %+v and with %+v", id, second, third)
			}
			c.Net.Heal()
			c.Agree()
			if jobs := l.Memory.Jobs(); len(jobs) != round+1 {
				t.Fatalf("%d jobs after %d requests", len(jobs), round+1)
			}
		}
	})
}
