package client

import (
	"context"
	"net/http"
	"time"

	"github.com/orrery-io/orrery/job"
)

// Cluster is how the node that answered sees the cluster.
type Cluster struct {
	// ClusterID stays the same for the life of the cluster.
	ClusterID string `json:"cluster_id"`
	// Version is that of the program on the node, Node the node's id.
	Version string `json:"version"`
	Node    string `json:"node"`
	// Leader is the id of the node that decides, "" while there is none.
	Leader string `json:"leader"`
	// State is "starting", "follower", "candidate", "leader" or "stopped".
	State string `json:"state"`
	Term  uint64 `json:"term"`
	// Commit, Applied, Synced and Snapshot are indexes of the log: up to where it is
	// decided, executed, in the database on disk, and marked there.
	Commit   uint64 `json:"commit"`
	Applied  uint64 `json:"applied"`
	Synced   uint64 `json:"synced"`
	Snapshot uint64 `json:"snapshot"`
	// LogFirst and LogLast are the entries of the log that are kept.
	LogFirst uint64 `json:"log_first"`
	LogLast  uint64 `json:"log_last"`
	// LastContact is when the leader was last heard of; unset on the leader.
	LastContact job.Time `json:"last_contact,omitzero"`
	// Installing is set while the node receives a copy of the database.
	Installing *Installing `json:"installing,omitempty"`
	// Refetching says that the node has lost its database, and waits for a leader that
	// sends it a copy.
	Refetching bool `json:"refetching,omitempty"`
	// Waiting says what the node waits for while it belongs to no cluster.
	Waiting string `json:"waiting,omitempty"`
	// Servers are the members as the node knows them.
	Servers []Server `json:"servers"`
	// Members are the members as the leader sees them, or those that the node knows
	// when there is no leader; nil when neither could be had, and MembersError says
	// why then.
	Members      []Member `json:"members,omitempty"`
	MembersError string   `json:"members_error,omitempty"`
}

// Server is a member of the cluster.
type Server struct {
	ID      string `json:"id"`
	Address string `json:"address"`
	Voter   bool   `json:"voter"`
}

// Member is a server of the cluster as the leader sees it.
type Member struct {
	Server
	Leader bool `json:"leader"`
	// HTTP is where its API is, "" while that is not known.
	HTTP    string `json:"http,omitempty"`
	Version string `json:"version,omitempty"`
	// Alive is false when the leader has not heard of it for a while; LastContact is
	// when it last has.
	Alive       bool     `json:"alive"`
	LastContact job.Time `json:"last_contact,omitzero"`
	// Trouble says what is wrong with its disk, "" when nothing is known to be.
	Trouble string `json:"trouble,omitempty"`
	// Stale is true when there was no leader to ask: this is what the node that
	// answered knows itself, and of the others it knows little.
	Stale bool `json:"stale,omitempty"`
	// Applied is how much of the log it has applied, Lag how many entries the leader
	// is ahead of that.
	Applied uint64 `json:"applied"`
	Lag     uint64 `json:"lag"`
	// Installing is set while it receives a copy of the database.
	Installing *Installing `json:"installing,omitempty"`
	// Draining is true while it gives its agents away and takes no new ones.
	Draining bool `json:"draining,omitempty"`
}

// Installing is how far a copy of the database has come, in bytes.
type Installing struct {
	Bytes int64 `json:"bytes"`
	Size  int64 `json:"size"`
}

// Verification is what a comparison of all servers gave.
type Verification struct {
	// Index is the entry of the log at which all were compared.
	Index uint64 `json:"index"`
	// Equal is true when every server that answered has the same rows.
	Equal bool `json:"equal"`
	// Hashes are those of the servers, by id. Missing lists servers that did not
	// answer.
	Hashes  map[string]string `json:"hashes"`
	Missing []string          `json:"missing,omitempty"`
}

// What the node may take beyond Config.Timeout.
const (
	changeWait   = 10 * time.Second
	snapshotWait = 2 * time.Minute
	verifyWait   = 10 * time.Minute
)

// Cluster returns the cluster as the node that answers sees it. It needs no leader.
func (c *Client) Cluster(ctx context.Context) (*Cluster, error) {
	cl := new(Cluster)
	if err := c.call(ctx, request{method: http.MethodGet, path: "/v1/cluster"}, cl); err != nil {
		return nil, err
	}
	return cl, nil
}

// Members returns the members of the cluster as the leader sees them; without one, as
// the node that answers knows them (Member.Stale).
func (c *Client) Members(ctx context.Context) ([]Member, error) {
	cl, err := c.Cluster(ctx)
	if err != nil {
		return nil, err
	}
	if cl.MembersError != "" {
		return nil, &Error{
			Status: http.StatusServiceUnavailable, Code: job.ErrNotLeader.Code,
			Detail: cl.MembersError, Hint: "try again in a second",
		}
	}
	return cl.Members, nil
}

// Join tells the node that answers of another one, by the address of its cluster
// port. The one that has never been in a cluster joins that of the other.
func (c *Client) Join(ctx context.Context, address string) (*Cluster, error) {
	return c.change(ctx, "join", map[string]any{"address": address}, true)
}

// RemoveMember takes a server out of the cluster for good. It is refused when too few
// of the others answer for a majority; with force it is tried nevertheless, and takes
// effect when they do.
func (c *Client) RemoveMember(ctx context.Context, id string, force bool) (*Cluster, error) {
	body := map[string]any{"id": id}
	if force {
		body["force"] = true
	}
	return c.change(ctx, "remove", body, false)
}

// Drain makes a node give its agents away and take no new ones, until it is called
// with on false.
func (c *Client) Drain(ctx context.Context, id string, on bool) (*Cluster, error) {
	return c.change(ctx, "drain", map[string]any{"id": id, "on": on}, true)
}

func (c *Client) change(ctx context.Context, verb string, body map[string]any, repeat bool) (*Cluster, error) {
	cl := new(Cluster)
	r := request{method: http.MethodPost, path: "/v1/cluster/" + verb, body: body, wait: changeWait, repeat: repeat}
	if err := c.call(ctx, r, cl); err != nil {
		return nil, err
	}
	return cl, nil
}

// TransferLeadership makes another server the leader, any when to is "", and
// returns which.
func (c *Client) TransferLeadership(ctx context.Context, to string) (leader string, err error) {
	var answer struct {
		Leader string `json:"leader"`
	}
	r := request{method: http.MethodPost, path: "/v1/cluster/transfer", wait: changeWait}
	if to != "" {
		r.body = map[string]string{"to": to}
	}
	err = c.call(ctx, r, &answer)
	return answer.Leader, err
}

// Verify compares the rows of all servers. Look at Equal: that they differ is no
// error.
func (c *Client) Verify(ctx context.Context) (*Verification, error) {
	v := new(Verification)
	r := request{method: http.MethodPost, path: "/v1/cluster/verify", wait: verifyWait, repeat: true}
	if err := c.call(ctx, r, v); err != nil {
		return nil, err
	}
	return v, nil
}

// Snapshot makes the node that answers sync its database and cut its log, and
// returns the index up to which it did.
func (c *Client) Snapshot(ctx context.Context) (index uint64, err error) {
	var answer struct {
		Index uint64 `json:"index"`
	}
	r := request{method: http.MethodPost, path: "/v1/cluster/snapshot", wait: snapshotWait, repeat: true}
	err = c.call(ctx, r, &answer)
	return answer.Index, err
}
