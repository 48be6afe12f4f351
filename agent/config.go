package agent

import (
	"cmp"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/orrery-io/orrery/job"
	"github.com/orrery-io/orrery/wire"
)

// Config is what an agent is made from. Only Addrs must be set.
type Config struct {
	// Addrs are nodes of the cluster, such as "http://10.0.0.1:7700" or
	// "https://orrery.example.com". Without a scheme http is meant. The agent uses
	// one at a time, and learns the other nodes from it.
	Addrs []string
	// Token is sent as a bearer token. Empty sends none.
	Token string

	// ID names the agent in the cluster, and should stay the same when the program
	// is started again. Empty means the host's name with a random suffix, made by
	// New.
	ID string
	// Name is shown to people. Empty means the host's name.
	Name string
	// Group is a word by which agents can be addressed together.
	Group string
	// Labels describe the agent, such as "gpu": "a100".
	Labels map[string]string
	// Queues are those from which the agent takes work. None means "default".
	Queues []string
	// Slots is how many jobs run at once. Zero means runtime.GOMAXPROCS(0).
	Slots int
	// Version is that of the program, to be shown.
	Version string

	// Format is how frames are written. The zero value is MessagePack; JSON is for
	// reading along.
	Format wire.Format
	// DrainTimeout is how long Run waits, after it was told to end, for handlers to
	// return and results to be acknowledged. Zero means 30 s; negative means not to
	// wait at all.
	DrainTimeout time.Duration
	// Gauges, when set, is called before each heartbeat for numbers to report, such
	// as "cpu". It must be quick.
	Gauges func() map[string]float64
	// Hooks are told what happens to the agent.
	Hooks Hooks

	// HTTP is the client that connects. Nil means one with the default transport.
	// Its Timeout bounds the handshake.
	HTTP *http.Client
	// Log is where the agent tells about its own doings. Nil means slog.Default().
	Log *slog.Logger
}

// Hooks are functions that are told what happens to an agent, for its own health
// checks and counters. Each may be nil. They are called by the goroutine that reads
// from the node, so they must be quick, and must not call the agent's methods.
type Hooks struct {
	// Connected is called when a node has taken the agent. It may be called again:
	// after each lost connection.
	Connected func(addr string)
	// Disconnected is called when such a connection has ended, and is told why.
	Disconnected func(addr string, why error)
	// Recorded is called when the cluster has answered for the result of an attempt:
	// accepted says that it counts; otherwise it came too late.
	Recorded func(j *RawJob, accepted bool)
	// Dropped is called instead when the cluster says that it waits no longer for a
	// result: it has it, and the answer was lost or overtaken, or it has given the job
	// up or away.
	Dropped func(j *RawJob)
}

const defaultDrain = 30 * time.Second

// Bounds that a node has on what an agent says of itself.
const (
	maxSlots   = 10_000
	maxQueues  = 100
	maxVersion = 100 // bytes
)

// withDefaults returns the configuration as it will be used, and all that is
// wrong with it.
func (c Config) withDefaults() (Config, error) {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf("agent: "+format, args...)) }

	if len(c.Addrs) == 0 {
		bad("Addrs is empty; name at least one node, such as http://127.0.0.1:7700")
	}
	addrs := make([]string, 0, len(c.Addrs))
	for i, raw := range c.Addrs {
		addr, err := normalizeAddr(raw)
		if err != nil {
			bad("Addrs[%d] %w", i, err)
			continue
		}
		addrs = append(addrs, addr)
	}
	c.Addrs = addrs

	host := hostname()
	c.ID = cmp.Or(c.ID, host+"-"+strings.ToLower(rand.Text()[:8]))
	c.Name = cmp.Or(c.Name, host)
	c.Queues = slices.Clone(c.Queues)
	if len(c.Queues) == 0 {
		c.Queues = []string{job.DefaultQueue}
	}
	name := func(field, value string) {
		if detail := job.CheckName(value); detail != "" {
			bad("%s %q %s", field, value, detail)
		}
	}
	name("ID", c.ID)
	name("Name", c.Name)
	if c.Group != "" {
		name("Group", c.Group)
	}
	for i, q := range c.Queues {
		name(fmt.Sprintf("Queues[%d]", i), q)
	}
	for _, e := range job.CheckLabels("Labels", job.LabelsOf(c.Labels)) {
		bad("%s %s", e.Pointer, e.Detail)
	}
	if c.Slots < 0 || c.Slots > maxSlots {
		bad("Slots is %d; it must be 1 to %d, or 0 for one per processor", c.Slots, maxSlots)
	}
	c.Slots = cmp.Or(c.Slots, runtime.GOMAXPROCS(0))
	if n := len(c.Queues); n > maxQueues {
		bad("Queues has %d entries; the limit is %d", n, maxQueues)
	}
	if len(c.Version) > maxVersion || strings.ContainsFunc(c.Version, func(r rune) bool { return !unicode.IsPrint(r) }) {
		bad("Version must be at most %d printable bytes", maxVersion)
	}
	if c.Format != wire.Msgpack && c.Format != wire.JSON {
		bad("Format %d is unknown", c.Format)
	}
	c.DrainTimeout = cmp.Or(c.DrainTimeout, defaultDrain)
	if c.HTTP == nil {
		c.HTTP = &http.Client{}
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	return c, errors.Join(errs...)
}

// normalizeAddr turns what a person writes into the base address of a node. Nodes
// tell their addresses in the same way.
func normalizeAddr(raw string) (string, error) {
	s := strings.TrimSpace(raw)
	if s == "" {
		return "", errors.New("is empty")
	}
	if !strings.Contains(s, "://") {
		s = "http://" + s
	}
	u, err := url.Parse(s)
	if err != nil || u.Host == "" {
		return "", fmt.Errorf("%q is not an address such as http://127.0.0.1:7700", raw)
	}
	switch u.Scheme {
	case "http", "https":
	case "ws":
		u.Scheme = "http"
	case "wss":
		u.Scheme = "https"
	default:
		return "", fmt.Errorf("%q has the scheme %s; it must be http or https", raw, u.Scheme)
	}
	if u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return "", fmt.Errorf("%q must be only scheme, host, port and path", u.Redacted())
	}
	return u.Scheme + "://" + u.Host + strings.TrimRight(u.EscapedPath(), "/"), nil
}

// hostname returns the host's name with only what a name may have.
func hostname() string {
	host, err := os.Hostname()
	if err != nil || host == "" {
		return "agent"
	}
	host = strings.Map(func(r rune) rune {
		if job.CheckName(string(r)) != "" {
			return '-'
		}
		return r
	}, host)
	return host[:min(len(host), job.MaxName/2)]
}
