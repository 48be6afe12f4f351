package founding

import (
	"fmt"
	"slices"
	"strings"

	"github.com/orrery-io/orrery/cluster/gossip"
)

// view is what a node that founds sees of the others.
type view struct {
	clusters []string // that live nodes belong to
	fresh    []Server // this node and the new ones that expect the same number, by id
	founders []Server // the lowest of them; none while there are too few
	others   []string // new nodes that were told something else, as words
}

func look(cfg Config, peers []gossip.Peer) view {
	v := view{fresh: []Server{{ID: cfg.Node, Address: cfg.Address}}}
	for _, p := range peers {
		switch {
		case !p.Alive:
		case !p.Fresh && p.Cluster != "":
			if !slices.Contains(v.clusters, p.Cluster) {
				v.clusters = append(v.clusters, p.Cluster)
			}
		case !p.Fresh:
		case p.Expect == cfg.Expect:
			v.fresh = append(v.fresh, Server{ID: p.Node, Address: p.Address})
		case p.Expect > 0 && cfg.Expect > 0:
			v.others = append(v.others, fmt.Sprintf("%s at %s was started with --bootstrap-expect %d", p.Node, p.Address, p.Expect))
		}
	}
	slices.SortFunc(v.fresh, func(a, b Server) int { return strings.Compare(a.ID, b.ID) })
	if cfg.Expect > 0 && len(v.fresh) >= cfg.Expect {
		v.founders = v.fresh[:cfg.Expect]
	}
	return v
}

// waiting says why this node cannot propose yet, "" when it should.
func (v view) waiting(cfg Config) string {
	switch {
	case cfg.Expect == 0:
		return "no member of a cluster answers yet at the addresses of --join; to begin a new cluster, start every one of its nodes with --bootstrap-expect N"
	case v.founders == nil:
		text := fmt.Sprintf("waiting for %d nodes to begin the cluster, %d seen: %s; start the others with --join %s",
			cfg.Expect, len(v.fresh), v.names(cfg.Node), cfg.Address)
		if len(v.others) > 0 {
			text += fmt.Sprintf("; %s, and this node with %d: start all of them with the same number", strings.Join(v.others, ", "), cfg.Expect)
		}
		return text
	case v.founders[0].ID != cfg.Node:
		return fmt.Sprintf("%d nodes are there to begin the cluster; waiting for %s at %s to propose it", cfg.Expect, v.founders[0].ID, v.founders[0].Address)
	}
	return ""
}

// names lists the new nodes for people.
func (v view) names(self string) string {
	names := make([]string, len(v.fresh))
	for i, s := range v.fresh {
		names[i] = s.ID + " at " + s.Address
		if s.ID == self {
			names[i] = s.ID + " (this one)"
		}
	}
	return strings.Join(names, ", ")
}
