package keyring

import (
	"crypto/tls"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
)

// Ring is the cluster keys of one process: the first is used, all are accepted. Its
// methods may be called from any goroutine.
type Ring struct {
	path string // "" when the keys came from somewhere else

	changing sync.Mutex // held while state is replaced
	state    atomic.Pointer[state]
}

// state is the keys between two changes.
type state struct {
	keys    []*key
	changed chan struct{} // closed when this state is replaced

	mu     sync.Mutex
	leaves map[string]*tls.Certificate // of the first key, by node
}

// New makes a ring of keys as Generate writes them. At least one is needed; one that is
// there twice counts once.
func New(keys ...string) (*Ring, error) {
	r := &Ring{}
	if _, err := r.Set(keys...); err != nil {
		return nil, err
	}
	return r, nil
}

// Set replaces the keys, and reports whether they differ from those before. After an
// error they are what they were.
func (r *Ring) Set(keys ...string) (changed bool, err error) {
	var parsed []*key
	for i, text := range keys {
		k, err := parse(text)
		if err != nil {
			return false, fmt.Errorf("key %d %w", i+1, err)
		}
		parsed = append(parsed, k)
	}
	if len(parsed) == 0 {
		return false, errors.New("there is no cluster key; `orrery cluster key` makes one")
	}
	return r.replace(parsed), nil
}

func (r *Ring) replace(keys []*key) (changed bool) {
	var unique []*key
	for _, k := range keys {
		if !slices.ContainsFunc(unique, func(u *key) bool { return u.id == k.id }) {
			unique = append(unique, k)
		}
	}
	r.changing.Lock()
	defer r.changing.Unlock()
	old := r.state.Load()
	if old != nil && slices.EqualFunc(old.keys, unique, func(a, b *key) bool { return a.id == b.id }) {
		return false
	}
	r.state.Store(&state{keys: unique, changed: make(chan struct{}), leaves: map[string]*tls.Certificate{}})
	if old != nil {
		close(old.changed)
	}
	return true
}

// Changed returns a channel that is closed at the next change. Ask for it before
// looking at the ring, so that no change is missed.
func (r *Ring) Changed() <-chan struct{} { return r.state.Load().changed }

// Keys returns the names of the keys, the used one first. A name says which key is
// meant, on every node the same, and nothing about its secret.
func (r *Ring) Keys() []string {
	var ids []string
	for _, k := range r.state.Load().keys {
		ids = append(ids, k.id)
	}
	return ids
}

// Has reports whether the key of that name is accepted now.
func (r *Ring) Has(name string) bool {
	return slices.ContainsFunc(r.state.Load().keys, func(k *key) bool { return k.id == name })
}

// GossipKeys returns the keys of the gossip packets, 32 bytes each: the first is used,
// all are accepted.
func (r *Ring) GossipKeys() [][]byte {
	var keys [][]byte
	for _, k := range r.state.Load().keys {
		keys = append(keys, slices.Clone(k.gossip))
	}
	return keys
}
