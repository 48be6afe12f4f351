package cluster

import (
	"context"
	"time"
)

// Peers brings requests to other nodes. Implementations are safe for concurrent use.
type Peers interface {
	// Call sends a request to a node and returns its answer. Errors: *job.Error as the
	// other side returned it; one of kind job.Unavailable when nothing has reached it;
	// job.ErrOutcomeUnknown when it may have.
	Call(ctx context.Context, node, method string, body []byte) ([]byte, error)
}

// Handler answers a request of another node. It is called by many goroutines.
type Handler func(ctx context.Context, from string, body []byte) ([]byte, error)

// Member is one server of the cluster as the leader sees it.
type Member struct {
	Server
	// Leader is true for the one that leads.
	Leader bool `json:"leader"`
	// HTTP is where its API is, "" while that is not known.
	HTTP    string `json:"http,omitempty"`
	Version string `json:"version,omitempty"`
	// Alive is false when the leader has not heard of it for a while; LastContact is
	// when it last has.
	Alive       bool      `json:"alive"`
	LastContact time.Time `json:"last_contact,omitzero"`
	// Trouble says what is wrong with its disk, "" when nothing is known to be.
	Trouble string `json:"trouble,omitempty"`
	// Stale is true when there was no leader to ask: this is what the node that was
	// asked knows itself, and of the others it knows little.
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

// Installing is how far a copy of the database has come.
type Installing struct {
	Bytes int64 `json:"bytes"`
	Size  int64 `json:"size"`
}

// Verification is what a comparison of all nodes gave.
type Verification struct {
	// Index is the entry of the log at which all were compared.
	Index uint64 `json:"index"`
	// Equal is true when every node that answered has the same rows.
	Equal bool `json:"equal"`
	// Hashes are those of the nodes, by id. Missing lists nodes that did not answer.
	Hashes  map[string]string `json:"hashes"`
	Missing []string          `json:"missing,omitempty"`
}
