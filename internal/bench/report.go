package bench

import (
	"time"

	"github.com/orrery-io/orrery/job"
)

// Report is what a measurement gave. Times are in the unit that the name of a field
// says.
type Report struct {
	Mode    Mode      `json:"mode"`
	Began   time.Time `json:"began"`
	Queue   string    `json:"queue"`
	Nodes   []Node    `json:"nodes"`
	Servers int       `json:"servers"`
	// Version is that of the node that answered.
	Version string `json:"version"`
	// OpenLoop says which kind of loop it was.
	OpenLoop    bool    `json:"open_loop"`
	TargetRate  float64 `json:"target_rate,omitempty"`
	Connections int     `json:"connections"`
	Batch       int     `json:"batch"`
	Payload     int     `json:"payload_bytes"`
	Agents      int     `json:"agents"`
	Slots       int     `json:"slots"`
	InFlight    int     `json:"in_flight,omitempty"`
	Warmup      float64 `json:"warmup_s"`

	// Seconds is how long was measured, Jobs what was acknowledged, or recorded when
	// agents took part, in that time, and Rate one through the other.
	Seconds  float64 `json:"seconds"`
	Jobs     int64   `json:"jobs"`
	Rate     float64 `json:"jobs_per_second"`
	Requests int64   `json:"requests"`

	Latency []Percentiles `json:"latency,omitempty"`
	// Late requests of an open loop were sent more than 10 ms after their time; Unsent
	// were due and not sent when the time was over.
	Late   int64 `json:"late,omitempty"`
	Unsent int64 `json:"unsent,omitempty"`

	// Throttled counts answers 429, which were honoured. Errors counts everything that
	// went wrong, by kind, those included; each was tried again.
	Throttled int64              `json:"throttled"`
	Errors    map[string]Trouble `json:"errors"`

	// Bench is what this process used itself, in processors.
	Bench float64 `json:"bench_cpus"`
	Check Check   `json:"check"`
	Idle  *Idle   `json:"idle_agents,omitempty"`
	// Notes are sentences about what makes the figures doubtful.
	Notes       []string `json:"notes,omitempty"`
	Interrupted bool     `json:"interrupted,omitempty"`
}

// Node is what a node used.
type Node struct {
	Addr   string `json:"addr"`
	Leader bool   `json:"leader"`
	// CPUs is how many processors it kept busy in the measured time.
	CPUs float64 `json:"cpus"`
	// Before is from before the load, After from the end of the measured time, and
	// MaxRSS the largest seen.
	Before Sample `json:"before"`
	After  Sample `json:"after"`
	MaxRSS int64  `json:"max_rss_bytes"`
	// Samples are all that were taken.
	Samples []Sample `json:"samples,omitempty"`
}

// Check compares what was counted here with what the cluster has.
type Check struct {
	// Acked jobs were acknowledged; Unknown may have been recorded without an answer.
	Acked   int64 `json:"acked"`
	Unknown int64 `json:"unknown"`
	Refused int64 `json:"refused"`
	// Recorded are results that the agents were told to be recorded, NotAccepted those
	// that came too late, Repeated handlers that were called for a job once more. Untold
	// are results that the agents were told to forget, because the cluster has them: the
	// answer was lost or overtaken.
	Recorded    int64 `json:"recorded"`
	NotAccepted int64 `json:"not_accepted"`
	Repeated    int64 `json:"repeated"`
	Untold      int64 `json:"untold"`
	// Server is what the queue holds, by state; Deleted how many jobs the cluster
	// deleted meanwhile at the end of their retention.
	Server  map[job.State]int64 `json:"server"`
	Deleted int64               `json:"deleted"`
	// Agrees is true when the two fit; Problem says what doesn't.
	Agrees  bool   `json:"agrees"`
	Problem string `json:"problem,omitempty"`
}

// Idle is what idle agents cost.
type Idle struct {
	Agents int `json:"agents"`
	// ConnectSeconds is how long it took until all were connected.
	ConnectSeconds float64 `json:"connect_s"`
	ConnectRate    float64 `json:"connects_per_second"`
	// BytesPerAgent is what the resident memory of all nodes grew by, for each agent;
	// HeapPerAgent the same of the Go heap, which is what is needed if the collector
	// left no room above it.
	BytesPerAgent float64 `json:"bytes_per_agent"`
	HeapPerAgent  float64 `json:"heap_bytes_per_agent"`
	// CPUs is how many processors the nodes kept busy while the agents were held.
	CPUs float64 `json:"cpus"`
	// FDsPerAgent and GoroutinesPerAgent are those of the nodes.
	FDsPerAgent        float64 `json:"fds_per_agent"`
	GoroutinesPerAgent float64 `json:"goroutines_per_agent"`
	// Sessions are those that the nodes have at the end, Lost connections that ended
	// meanwhile.
	Sessions int64 `json:"sessions"`
	Lost     int64 `json:"lost"`
	// Messages is what came from the agents while they were held: heartbeats.
	Messages int64 `json:"messages"`
	// MessagesPerAgent is the same for each agent and second.
	MessagesPerAgent float64 `json:"messages_per_agent_and_second"`
}

// Progress is how far a measurement is.
type Progress struct {
	// Stage says in a few words what is going on.
	Stage   string
	Elapsed time.Duration
	// Of is how long the stage takes; zero when that is not known.
	Of time.Duration
	// Done is how many jobs, or agents, Rate how many per second in the last second.
	Done int64
	Rate float64
	// P99 is that of the main latency so far, in milliseconds.
	P99    float64
	Errors int64
	// Waiting are jobs that were acknowledged and are not recorded yet.
	Waiting int64
}

// report is what has been measured so far.
func (r *run) report() *Report {
	c, cfg := r.counters, r.cfg
	rep := &Report{
		Mode: cfg.Mode, Began: r.begun, Queue: r.queue, Version: r.before.version, Servers: r.before.servers,
		OpenLoop: cfg.Rate > 0, TargetRate: cfg.Rate, Connections: cfg.Connections, Batch: cfg.Batch, Payload: cfg.Payload,
		Agents: cfg.Agents, Slots: cfg.Slots, InFlight: max(cfg.InFlight, 0), Warmup: cfg.Warmup.Seconds(),
		Seconds: r.span.length().Seconds(), Requests: c.inRequests.Load(),
		Late: c.late.Load(), Unsent: c.unsent.Load(), Throttled: c.throttle.Load(), Idle: r.idle,
	}
	rep.Errors, _ = c.troubles()
	switch cfg.Mode {
	case Submit:
		rep.Jobs = c.inAcked.Load()
		rep.Latency = []Percentiles{r.request.summary()}
	case Process:
		rep.Jobs = c.inRecorded.Load()
	case EndToEnd, Latency:
		rep.Jobs = c.inRecorded.Load()
		rep.Latency = []Percentiles{r.request.summary(), r.start.summary(), r.recorded.summary()}
	case IdleAgents:
	}
	rep.Rate = float64(rep.Jobs) / max(rep.Seconds, 1e-9)
	begin := time.Duration(r.span.begin.Load())
	for _, n := range r.watch.nodes {
		rep.Nodes = append(rep.Nodes, n.report(begin))
	}
	if n := r.watch.nodes[0]; n.end.at > n.begin.at {
		rep.Bench = (r.cpuEnd - r.cpuBegin).Seconds() / (n.end.at - n.begin.at).Seconds()
	}
	if named := len(r.targets); named < rep.Servers {
		rep.Notes = append(rep.Notes, hostsNoted(named, rep.Servers))
	}
	if err := r.watch.trouble(); err != nil {
		rep.Notes = append(rep.Notes, "the metrics of a node could not always be read: "+err.Error())
	}
	if r.crew != nil {
		if err := r.crew.trouble(); err != nil {
			rep.Notes = append(rep.Notes, err.Error())
		}
	}
	return rep
}

// report is what the node used. Times count from begin.
func (n *watched) report(begin time.Duration) Node {
	n.mu.Lock()
	defer n.mu.Unlock()
	since := func(s sampled) Sample {
		s.At = (s.at - begin).Seconds()
		return s.Sample
	}
	x := Node{Addr: n.to.base, Leader: n.end.leader, Before: since(n.begin), After: since(n.end)}
	if d := n.end.at - n.begin.at; d > 0 {
		x.CPUs = (n.end.CPU - n.begin.CPU) / d.Seconds()
	}
	for _, s := range n.taken {
		x.MaxRSS = max(x.MaxRSS, s.RSS)
		x.Samples = append(x.Samples, since(s))
	}
	return x
}
