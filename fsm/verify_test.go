package fsm

import (
	"bytes"
	"testing"

	"github.com/orrery-io/orrery/command"
)

func TestHash(t *testing.T) {
	b := setup(t, Config{})
	for range 50 {
		b.do(submission(nil))
	}
	first := b.do(&command.Verify{}).Index
	for range 200 { // while it is made
		b.do(submission(nil))
	}
	second := b.do(&command.Verify{}).Index
	third := b.do(&command.Verify{}).Index // nothing has changed but the index
	a := b.hash(first)
	if c := b.hash(second); bytes.Equal(a, c) {
		t.Error("rows were added, and the hash is the same")
	}
	if !bytes.Equal(b.hash(second), b.hash(third)) {
		t.Error("a verification changes the rows")
	}
	// The same rows, applied one by one without anything at the same time.
	c := setup(t, Config{})
	c.replay(b.log[:first])
	if !bytes.Equal(c.hash(first), a) {
		t.Error("what was applied meanwhile is in the hash")
	}
	for _, index := range []uint64{1, second - 1} {
		_, err := b.m.Hash(t.Context(), index)
		wantCode(t, err, "hash_not_found")
	}
	for range keptHashes {
		b.do(&command.Verify{})
	}
	_, err := b.m.Hash(t.Context(), first)
	wantCode(t, err, "hash_not_found")
	b.do(&command.Verify{}) // nobody asks for it
}
