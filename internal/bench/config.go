package bench

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/orrery-io/orrery/client"
	"github.com/orrery-io/orrery/job"
)

// Mode is what is measured.
type Mode string

// The modes.
const (
	// Submit is submissions alone: nobody executes them.
	Submit Mode = "submit"
	// Process executes jobs that were submitted before.
	Process Mode = "process"
	// EndToEnd submits and executes at the same time, and counts recorded results.
	EndToEnd Mode = "e2e"
	// Latency is how long a job takes while nothing else is to do.
	Latency Mode = "latency"
	// IdleAgents connects agents and gives them nothing to do.
	IdleAgents Mode = "idle-agents"
)

// Modes are all of them.
var Modes = []Mode{Submit, Process, EndToEnd, Latency, IdleAgents}

// Config says what to measure, and how. A zero field has the default of the mode.
type Config struct {
	Mode Mode
	// Addrs are the nodes that are loaded in turn, and watched; none means
	// client.DefaultAddr.
	Addrs []string
	// Token is sent as a bearer token; empty sends none.
	Token string

	// Connections submit at the same time. For IdleAgents it is how many agents
	// connect at the same time.
	Connections int
	// Batch is how many jobs one request submits; 1 uses the request for one job.
	Batch int
	// Payload is the size of a job's payload, in bytes of JSON.
	Payload int
	// Duration is how long is measured, Warmup for how long there is load before
	// that; less than zero means none. With Jobs the end comes with the last job,
	// and there is no warm-up.
	Duration, Warmup time.Duration
	// Rate is how many jobs per second are due, in an open loop; zero means a closed
	// loop.
	Rate float64
	// Jobs is how many are submitted in all; zero leaves that to Duration.
	Jobs int64
	// Agents is how many connect, Slots how many jobs each runs at once.
	Agents, Slots int
	// InFlight bounds, in a closed loop, how many jobs may be submitted and not
	// recorded. Less than zero means no bound.
	InFlight int
	// Retention is how long the cluster keeps a job after it has ended; zero means
	// until the measurement is surely over.
	Retention time.Duration
	// Keep leaves what was made, as it is: waiting jobs wait on, and ended ones are
	// kept as long as the cluster keeps them, unless Retention says otherwise.
	Keep bool

	// Progress, when set, is called about once per second.
	Progress func(Progress)
	// Log gets what the agents have to tell; nil means nowhere.
	Log *slog.Logger
}

// Bounds of a configuration.
const (
	leastPayload   = stampDigits + 2 // the quotes
	maxConnections = 10_000
	maxAgents      = 1_000_000
	maxRate        = 10_000_000
)

// UsageError is a configuration that makes no sense.
type UsageError struct{ error }

// Unwrap returns what is wrong.
func (e *UsageError) Unwrap() error { return e.error }

// withDefaults returns the configuration as it will be used, and all that is wrong
// with it.
func (c Config) withDefaults() (Config, error) {
	if !slices.Contains(Modes, c.Mode) {
		return c, &UsageError{fmt.Errorf("there is no mode %q", c.Mode)}
	}
	if len(c.Addrs) == 0 {
		c.Addrs = []string{client.DefaultAddr}
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	c = c.Defaults()
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	between := func(what string, n, least, most int) {
		if n < least || n > most {
			bad("%s is %d; it must be %d to %d", what, n, least, most)
		}
	}
	between("the number of connections", c.Connections, 1, maxConnections)
	between("the size of a batch", c.Batch, 1, job.MaxBatch)
	between("the size of the payload", c.Payload, leastPayload, job.MaxPayload)
	between("the number of agents", c.Agents, 0, maxAgents)
	between("the number of slots", c.Slots, 1, 10_000)
	if c.Batch*c.Payload > maxRequest {
		bad("a batch of %d jobs with %d bytes each is larger than a request may be; the limit is %d bytes", c.Batch, c.Payload, maxRequest)
	}
	if c.Rate < 0 || c.Rate > maxRate {
		bad("the rate is %g; it must be at most %d jobs per second", c.Rate, maxRate)
	}
	if c.Rate > 0 && (c.Mode == Process || c.Mode == IdleAgents) {
		bad("%s has no rate", c.Mode)
	}
	if c.Jobs < 0 || c.Mode == Process && c.Jobs < 1 {
		bad("the number of jobs is %d", c.Jobs)
	}
	if c.InFlight > 0 && c.InFlight < c.Batch {
		bad("with %d jobs in flight a batch of %d could never be sent", c.InFlight, c.Batch)
	}
	if len(errs) > 0 {
		return c, &UsageError{errors.Join(errs...)}
	}
	return c, nil
}

// maxRequest leaves room for what surrounds the payloads. Nodes take 64 MiB.
const maxRequest = 32 << 20

// Defaults returns the configuration with the defaults of its mode filled in.
func (c Config) Defaults() Config {
	d := Config{Connections: 64, Batch: 1, Payload: 200, Duration: 10 * time.Second, Warmup: time.Second, Agents: 0, Slots: 64, InFlight: -1}
	switch c.Mode {
	case Submit:
	case Process:
		d.Connections, d.Batch, d.Jobs, d.Agents = 4, 500, 200_000, 4
	case EndToEnd:
		d.Connections, d.Batch, d.Agents, d.InFlight = 4, 500, 4, 20_000
	case Latency:
		d.Connections, d.Agents, d.Slots, d.InFlight = 1, 1, 4, 1
		if c.Rate > 0 {
			d.Connections, d.InFlight = 16, -1
		}
	case IdleAgents:
		d.Agents, d.Slots, d.Duration = 1000, 1, 20*time.Second
	}
	c.Connections = cmp.Or(c.Connections, d.Connections)
	c.Batch = cmp.Or(c.Batch, d.Batch)
	c.Payload = cmp.Or(c.Payload, d.Payload)
	c.Duration = cmp.Or(c.Duration, d.Duration)
	c.Warmup = max(cmp.Or(c.Warmup, d.Warmup), 0)
	c.Jobs = cmp.Or(c.Jobs, d.Jobs)
	if c.Jobs > 0 {
		c.Warmup = 0
	}
	c.Agents = cmp.Or(c.Agents, d.Agents)
	c.Slots = cmp.Or(c.Slots, d.Slots)
	c.InFlight = cmp.Or(c.InFlight, d.InFlight)
	if c.Rate > 0 {
		c.InFlight = -1
	}
	if c.Retention == 0 && !c.Keep {
		c.Retention = 2*(c.Warmup+c.Duration) + time.Minute
		if c.Jobs > 0 {
			c.Retention = 10 * time.Minute
		}
	}
	return c
}

// executes reports whether agents take part.
func (c Config) executes() bool { return c.Mode != Submit && c.Mode != IdleAgents }
