package gossip

import (
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/orrery-io/orrery/internal/obs"
)

// delegate is what memberlist calls, mostly with its locks held: nothing here calls it
// back, or waits.
type delegate struct{ g *Gossip }

var (
	_ memberlist.Delegate      = delegate{}
	_ memberlist.EventDelegate = delegate{}
	_ memberlist.AliveDelegate = delegate{}
	_ memberlist.MergeDelegate = delegate{}
)

// NodeMeta implements memberlist.Delegate.
func (d delegate) NodeMeta(int) []byte { return *d.g.card.Load() }

// NotifyMsg implements memberlist.Delegate.
func (delegate) NotifyMsg([]byte) {}

// GetBroadcasts implements memberlist.Delegate.
func (delegate) GetBroadcasts(int, int) [][]byte { return nil }

// LocalState implements memberlist.Delegate.
func (delegate) LocalState(bool) []byte { return nil }

// MergeRemoteState implements memberlist.Delegate.
func (delegate) MergeRemoteState([]byte, bool) {}

// NotifyJoin implements memberlist.EventDelegate.
func (d delegate) NotifyJoin(n *memberlist.Node) { d.g.seen(n, true) }

// NotifyUpdate implements memberlist.EventDelegate.
func (d delegate) NotifyUpdate(n *memberlist.Node) { d.g.seen(n, true) }

// NotifyLeave implements memberlist.EventDelegate.
func (d delegate) NotifyLeave(n *memberlist.Node) { d.g.seen(n, false) }

// NotifyAlive implements memberlist.AliveDelegate: it keeps strangers out.
func (d delegate) NotifyAlive(n *memberlist.Node) error {
	if n.Name == d.g.name {
		return nil
	}
	c, err := decodeCard(n.Meta)
	if err != nil {
		return err
	}
	if mine := d.g.cluster(); foreign(mine, c.Meta.Cluster) {
		d.g.refuse(n, c.Meta.Cluster)
		return strangerError(mine, c.Meta.Cluster)
	}
	return nil
}

// NotifyMerge implements memberlist.MergeDelegate: joining fails when all whom the
// other side knows are strangers.
func (d delegate) NotifyMerge(nodes []*memberlist.Node) error {
	mine, strange, friends := d.g.cluster(), "", false
	for _, n := range nodes {
		if n.Name == d.g.name || n.State != memberlist.StateAlive {
			continue
		}
		c, err := decodeCard(n.Meta)
		if err != nil {
			continue
		}
		if !foreign(mine, c.Meta.Cluster) {
			friends = true
			continue
		}
		strange = c.Meta.Cluster
		d.g.refuse(n, strange)
	}
	if friends || strange == "" {
		return nil
	}
	return strangerError(mine, strange)
}

func strangerError(mine, theirs string) error {
	return fmt.Errorf("that node belongs to cluster %s, this one to cluster %s; look at --join, and give each cluster a key of its own", theirs, mine)
}

// logger brings the words of memberlist to slog, as debug: it tells each step of an
// ordinary loss. What people need to know is told by this package.
type logger struct {
	log *slog.Logger

	mu     sync.Mutex
	warned time.Time // that UDP doesn't get through
}

// udpInterval is the time between two warnings about UDP.
const udpInterval = 10 * time.Minute

// Write implements io.Writer for the standard library's logger.
func (l *logger) Write(line []byte) (int, error) {
	text := strings.TrimSpace(string(line))
	for _, mark := range []string{"[DEBUG] ", "[INFO] ", "[WARN] ", "[ERR] ", "[ERROR] ", "memberlist: "} {
		text = strings.TrimPrefix(text, mark)
	}
	l.log.Debug("memberlist: " + text) //nolint:sloglint // the library's own words
	if strings.Contains(text, "over TCP but UDP probes failed") {
		l.warnUDP(text)
	}
	return len(line), nil
}

func (l *logger) warnUDP(text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if time.Since(l.warned) < udpInterval {
		return
	}
	l.warned = time.Now()
	var name string
	_, _ = fmt.Sscanf(text, "Was able to connect to %s over TCP", &name)
	node, _ := splitName(name)
	l.log.Warn("udp packets don't get through to another node; it is reached over tcp meanwhile, but changes spread slowly: open the cluster port for udp", obs.Node(node))
}
