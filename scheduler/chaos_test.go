package scheduler

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/orrery-io/orrery/command"
	"github.com/orrery-io/orrery/job"
	"github.com/orrery-io/orrery/wire"
)

// chaos drives agents that obey the protocol, but lose their connection, restart,
// fall silent, reject and fail as they like, under leaders that change. It checks
// what is promised: no two agents have one job at the same time, a job with one
// attempt is begun at most once, and every job ends.
type chaos struct {
	b      *bundle
	rnd    *rand.Rand
	actors []*actor
	jobs   []job.ID
	once   map[job.ID]bool // jobs with one attempt
	begun  map[job.ID]int
	// calm agents only do what is good for the jobs.
	calm bool
}

// actor is an agent with a mind of its own.
type actor struct {
	*player
	up bool
	// sound is when the heartbeat or hello was sent that was answered last.
	sound time.Time
	work  []*wire.Dispatch
}

func (c *chaos) chance(percent int) bool { return c.rnd.IntN(100) < percent }

// holders counts the agents that execute a job.
func (c *chaos) holders(id job.ID) (n int) {
	for _, a := range c.actors {
		if a.has(id, 0) {
			n++
		}
	}
	return n
}

// act lets one agent do something.
func (c *chaos) act(a *actor) {
	// An agent stops its work before its lease can have been given away.
	if time.Since(a.sound) >= 12*time.Second {
		a.stop()
	}
	if a.ended() {
		a.up = false
	}
	if !a.up {
		if c.calm || c.chance(4) {
			if c.chance(40) {
				a.stop() // it was restarted
			}
			a.sound = time.Now()
			a.connect()
			a.up = true
		}
		return
	}
	for _, m := range a.got() {
		c.heard(a, m)
	}
	// What it was told to drop, it has dropped when the message came.
	a.work = slices.DeleteFunc(a.work, func(d *wire.Dispatch) bool {
		return !a.has(d.Job, d.Fence)
	})
	if len(a.work) > 0 && c.chance(50) {
		d := a.work[c.rnd.IntN(len(a.work))]
		outcome := "completed"
		if !c.calm && c.chance(30) {
			outcome = "failed"
		}
		a.result(d, outcome, nil)
	}
	if c.calm {
		return
	}
	switch {
	case c.chance(3):
		a.drop()
		a.up = false
	case c.chance(2):
		a.up = false // silent, with its connection open
	}
}

// heard lets an agent take a message.
func (c *chaos) heard(a *actor, m wire.Message) {
	switch {
	case m.Dispatch != nil:
		d := m.Dispatch
		if !c.calm {
			switch {
			case c.chance(10):
				a.say(wire.Message{Reject: &wire.Reject{Job: d.Job, Fence: d.Fence}})
				return
			case c.chance(5):
				return // it was lost on the way
			}
		}
		if n := c.holders(d.Job); n > 0 {
			c.b.t.Errorf("agent %s begins job %d while another has it", a.id, d.Job)
		}
		c.begun[d.Job]++
		a.hold(d)
		a.work = append(a.work, d)
		if c.calm || c.chance(70) {
			a.say(wire.Message{Ack: &wire.Ack{Job: d.Job, Fence: d.Fence}})
		}
	case m.Cancel != nil && !m.Cancel.Drop:
		i := slices.IndexFunc(a.work, func(d *wire.Dispatch) bool { return d.Fence == m.Cancel.Fence && d.Job == m.Cancel.Job })
		if i >= 0 && (c.calm || c.chance(70)) {
			a.result(a.work[i], "cancelled", nil)
		}
	}
}

// step lets something happen and some time pass.
func (c *chaos) step() {
	if !c.calm {
		switch {
		case c.chance(30):
			spec := job.Spec{Priority: c.rnd.IntN(10), MaxAttempts: 1 + c.rnd.IntN(4)}
			if c.chance(10) {
				spec.RunAt = job.At(time.Now().Add(5 * time.Second))
			}
			id := c.b.submit(spec)
			c.jobs = append(c.jobs, id)
			c.once[id] = spec.MaxAttempts == 1
		case c.chance(5) && len(c.jobs) > 0:
			// It may have ended, then this is refused.
			_, err := c.b.propose(c.b.t.Context(), command.Item{Command: &command.Cancel{Job: c.jobs[c.rnd.IntN(len(c.jobs))]}})
			if err != nil {
				c.b.t.Fatal(err)
			}
			synctest.Wait()
		case c.chance(2):
			c.b.leadAgain()
			for _, a := range c.actors {
				if a.up && !a.ended() {
					a.player.up()
				}
			}
		}
	}
	for _, a := range c.actors {
		c.act(a)
	}
	time.Sleep(time.Duration(c.rnd.IntN(500)) * time.Millisecond)
	synctest.Wait()
	for _, a := range c.actors {
		if a.up && !a.ended() && time.Since(a.sound) >= 5*time.Second {
			sent := time.Now()
			if a.beat() != nil {
				a.sound = sent
			}
		}
	}
}

func TestChaos_keepsThePromises(t *testing.T) {
	for seed := range uint64(6) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			play(t, Config{}, func(b *bundle) {
				c := &chaos{
					b: b, rnd: rand.New(rand.NewPCG(seed, 99)), //nolint:gosec // not a secret
					once: make(map[job.ID]bool), begun: make(map[job.ID]int),
				}
				for i := range 4 {
					c.actors = append(c.actors, &actor{player: b.agent(fmt.Sprint("agent-", i), 1+i), up: true, sound: time.Now()})
				}
				for range 500 {
					c.step()
				}
				c.calm = true
				for range 3000 {
					c.step()
				}
				for _, id := range c.jobs {
					if j := b.job(id); !j.State.Terminal() {
						t.Errorf("job %d is %s at the end: %+v", id, j.State, j.Attempts)
					}
					if c.once[id] && c.begun[id] > 1 {
						t.Errorf("job %d was begun %d times: %+v", id, c.begun[id], b.job(id).Attempts)
					}
				}
				for _, a := range c.actors {
					if l, ok := b.s.AgentLoad(a.id); !ok || l.Held != 0 || l.Credit < a.hello.Slots {
						t.Errorf("at the end agent %s has %+v", a.id, l)
					}
				}
			})
		})
	}
}
