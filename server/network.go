package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"

	"github.com/orrery-io/orrery/cluster"
	"github.com/orrery-io/orrery/cluster/founding"
	"github.com/orrery-io/orrery/cluster/gossip"
	"github.com/orrery-io/orrery/cluster/keyring"
	"github.com/orrery-io/orrery/cluster/link"
	"github.com/orrery-io/orrery/cluster/port"
	"github.com/prometheus/client_golang/prometheus"
)

// foundingName is the file in which founding keeps its promises.
const foundingName = "founding.json"

// network is what joins this node with others: the cluster port, and what runs over
// it. A node alone has none.
type network struct {
	ring      *keyring.Ring
	port      *port.Port
	mesh      *link.Mesh
	gossip    *gossip.Gossip
	founding  *founding.Founding
	transport *cluster.Transport
}

// joinNetwork opens the cluster port and makes s.net. It starts nothing.
func (s *Server) joinNetwork(reg prometheus.Registerer) (err error) {
	cfg := &s.cfg
	switch {
	case cfg.KeyFile == "":
		return errors.New("a node of a cluster needs the cluster key; make one with `orrery cluster key --out FILE`, give the same file to every node, and name it with --cluster-key-file")
	case cfg.BootstrapExpect == 1 && len(cfg.Join) > 0:
		return errors.New("--bootstrap-expect 1 begins a new cluster, and --join enters one that is there; give one of the two")
	case cfg.BootstrapExpect < 0:
		return fmt.Errorf("--bootstrap-expect %d is no number of nodes; give the number of nodes that begin the cluster together, such as 3", cfg.BootstrapExpect)
	case cfg.BootstrapExpect == 0 && len(cfg.Join) == 0 && s.data.id.Cluster == "" && len(s.data.peers()) == 0:
		return errors.New("this node knows no other; name one with --join HOST:PORT, or begin a new cluster with --bootstrap-expect 3 (on each of its first three nodes) or 1")
	}
	for _, addr := range cfg.Join {
		if host, p, err := net.SplitHostPort(addr); err != nil || host == "" || p == "" {
			return fmt.Errorf("--join %q is no address of a cluster port, such as 10.0.0.1:7701", addr)
		}
	}
	n := &network{}
	s.net = n
	if n.ring, err = keyring.Load(cfg.KeyFile); err != nil {
		return err
	}
	id := s.data.id.Node
	if n.port, err = port.Listen(port.Config{
		Listen:     cfg.Cluster,
		Advertise:  cfg.Advertise,
		Node:       id,
		Version:    cfg.Version,
		Cluster:    s.clusterID,
		Ring:       n.ring,
		Log:        cfg.Log,
		Registerer: reg,
	}); err != nil {
		return err
	}
	n.mesh = link.New(link.Config{
		Node:       id,
		Dial:       s.dialLink,
		Listener:   n.port.Listener(port.Link),
		From:       peerOf,
		Log:        cfg.Log,
		Registerer: reg,
	})
	n.transport = cluster.NewTransport(cluster.TransportConfig{
		Listener: n.port.Listener(port.Raft),
		Dial:     s.dialRaft,
		Address:  s.addressOf,
		Log:      cfg.Log,
	})
	if n.gossip, err = gossip.New(gossip.Config{
		Node:       id,
		Advertise:  n.port.Advertise(),
		PacketConn: n.port.PacketConn(),
		Listener:   n.port.Listener(port.Gossip),
		Dial:       s.dialGossip,
		Keys:       n.ring.GossipKeys,
		Meta:       s.meta,
		Join:       cfg.Join,
		Known:      s.data.peers,
		Log:        cfg.Log,
		Registerer: reg,
	}); err != nil {
		return err
	}
	n.founding, err = founding.New(founding.Config{
		Node:     id,
		Address:  n.port.Advertise(),
		File:     s.data.sub(foundingName),
		Expect:   cfg.BootstrapExpect,
		Cluster:  s.memberOf,
		Peers:    n.gossip.Peers,
		OnChange: n.gossip.OnChange,
		Call:     n.mesh.Call,
		Log:      cfg.Log,
	})
	if err == nil {
		n.founding.OnChange(n.gossip.Update)
	}
	return err
}

func (s *Server) dialLink(ctx context.Context, node string) (net.Conn, error) {
	addr := s.addressOf(node)
	if addr == "" {
		return nil, fmt.Errorf("the address of node %s is not known", node)
	}
	return s.net.port.Dial(ctx, port.Link, addr, node)
}

func (s *Server) dialRaft(ctx context.Context, node, addr string) (net.Conn, error) {
	return s.net.port.Dial(ctx, port.Raft, addr, node)
}

func (s *Server) dialGossip(ctx context.Context, addr, node string) (net.Conn, error) {
	return s.net.port.Dial(ctx, port.Gossip, addr, node)
}

// peerOf is the node at the other end of a connection of the cluster port.
func peerOf(c net.Conn) string {
	if c, ok := c.(*port.Conn); ok {
		return c.Peer().Node
	}
	return ""
}

// memberOf is the cluster that this node has been a member of, "" for none.
func (s *Server) memberOf() string { return cmp.Or(s.machine.ClusterID(), s.data.cluster()) }

// clusterID is the cluster that this node belongs to, or is about to begin; "" while
// there is none.
func (s *Server) clusterID() string {
	id := s.memberOf()
	if id == "" && s.net != nil && s.net.founding != nil {
		id = s.net.founding.Cluster()
	}
	return id
}

// meta is what this node tells the others about itself.
func (s *Server) meta() gossip.Meta {
	fresh := s.net != nil && s.net.founding != nil && s.net.founding.Fresh()
	return gossip.Meta{
		Cluster: s.clusterID(), HTTP: s.url, Version: s.cfg.Version,
		Expect: s.cfg.BootstrapExpect, Fresh: fresh, Draining: s.draining.Load(),
	}
}

// addressOf is where the cluster port of a node is: as it says itself, or else as the
// configuration has it; "" when neither is known.
func (s *Server) addressOf(node string) string {
	if s.net == nil || s.node == nil {
		return ""
	}
	if p, ok := s.net.gossip.Peer(node); ok && p.Address != "" {
		return p.Address
	}
	for _, m := range s.node.Status().Servers {
		if m.ID == node && m.Address != m.ID {
			return m.Address
		}
	}
	return ""
}

// advertisedURL is where others reach the API of this node.
func advertisedURL(explicit, listening, clusterAddr string) (string, error) {
	if explicit != "" {
		u, err := url.Parse(explicit)
		if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			return "", fmt.Errorf("%q is no URL such as http://10.0.0.5:7700; give one with --http-advertise", explicit)
		}
		return u.Scheme + "://" + u.Host, nil
	}
	host, p, err := net.SplitHostPort(listening)
	if err != nil {
		return "", err
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		if host, _, err = net.SplitHostPort(cmp.Or(clusterAddr, "127.0.0.1:0")); err != nil {
			return "", err
		}
	}
	return "http://" + net.JoinHostPort(host, p), nil
}

// newRelay makes the relay of envelopes, over the links when there are any.
func (s *Server) newRelay() *relay {
	if s.net == nil {
		return newRelay(s.data.id.Node, nil, nil, s.log)
	}
	return newRelay(s.data.id.Node, s.net.mesh, s.otherNodes, s.log)
}

// serve registers what other nodes may ask of this one.
func (n *network) serve(s *Server) {
	for method, h := range s.node.Handlers() {
		n.mesh.Handle(method, h)
	}
	for method, h := range n.founding.Handlers() {
		n.mesh.Handle(method, h)
	}
	n.mesh.Handle(methodDrain, s.answerDrain)
}

// run starts what the nodes speak over, lowest first.
func (n *network) run(begin func(name string, run func(context.Context) error), log *slog.Logger) {
	begin("cluster port", n.port.Run)
	begin("cluster key", func(ctx context.Context) error {
		n.ring.Watch(ctx, log)
		return nil
	})
	begin("links", n.mesh.Run)
	begin("gossip", n.gossip.Run)
}

// close releases what was opened and never run.
func (n *network) close() {
	if n.transport != nil {
		_ = n.transport.Close()
	}
	if n.port != nil {
		n.port.Close()
	}
}

// waiting says what this node waits for before it belongs to a cluster.
func (s *Server) waiting() string {
	if s.net == nil {
		return ""
	}
	return s.net.founding.Waiting()
}
