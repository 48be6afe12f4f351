package gossip

import (
	"errors"
	"fmt"

	"github.com/hashicorp/memberlist"
)

// Meta is what a node tells about itself.
type Meta struct {
	// Cluster is the id of the cluster that the node belongs to; "" while it belongs to
	// none.
	Cluster string `msg:"c,omitempty"`
	// HTTP is where its API is.
	HTTP string `msg:"h,omitempty"`
	// Version is that of its program.
	Version string `msg:"v,omitempty"`
	// Expect is how many new nodes it wants to begin a cluster with; zero means that it
	// waits for a cluster that is there.
	Expect int `msg:"e,omitempty"`
	// Fresh is true while the node is new and it is undecided whether it begins a
	// cluster or joins one.
	Fresh bool `msg:"f,omitempty"`
	// Draining is true while it gives its agents away and takes no new ones.
	Draining bool `msg:"d,omitempty"`
}

// card is what goes over the wire beside a node's name and its IP address. Fields that
// another version has added are skipped.
type card struct {
	Meta Meta `msg:"m"`
	// Address is the cluster port when it is known by a name, "" when the IP address
	// says it.
	Address string `msg:"a,omitempty"`
}

// maxCard is what memberlist carries; it panics on more.
const maxCard = memberlist.MetaMaxSize

// encode returns the card in at most maxCard bytes. What is too long loses its version.
func (c card) encode() ([]byte, error) {
	b, err := c.MarshalMsg(nil)
	if err == nil && len(b) > maxCard {
		c.Meta.Version = ""
		b, err = c.MarshalMsg(nil)
	}
	if err != nil {
		return nil, fmt.Errorf("encode what this node tells about itself: %w", err)
	}
	if len(b) > maxCard {
		return nil, fmt.Errorf("the addresses to advertise are too long: %q and %q must fit into %d bytes together", c.Address, c.Meta.HTTP, maxCard-80)
	}
	return b, nil
}

// decodeCard reads a card; the input comes from the network.
func decodeCard(b []byte) (card, error) {
	var c card
	if len(b) > maxCard {
		return c, errors.New("too long")
	}
	if _, err := c.UnmarshalMsg(b); err != nil {
		return card{}, fmt.Errorf("decode what a node tells about itself: %w", err)
	}
	return c, nil
}
