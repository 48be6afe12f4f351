//go:build linux

package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// hangLimit is how long a write may hang until the node ends itself (5 s), and room
// for a busy machine.
const hangLimit = 12 * time.Second

func diskFaults() []fault {
	return []fault{
		{name: "slow-disk", hold: 1500 * time.Millisecond, disk: true, run: func(ctx context.Context, e *env, r *rand.Rand, hold time.Duration) error {
			n := e.nodes[r.IntN(len(e.nodes))]
			for end := time.Now().Add(hold); time.Now().Before(end) && ctx.Err() == nil; {
				if err := n.disk.freeze(); err != nil {
					return err
				}
				pauseFor(ctx, 150*time.Millisecond)
				if err := n.disk.thaw(); err != nil {
					return err
				}
				pauseFor(ctx, 20*time.Millisecond)
			}
			return nil
		}},
		{name: "hung-disk", hold: time.Second, disk: true, run: hangDisk},
		{name: "full-disk", hold: time.Second, disk: true, run: fillDisk},
		{name: "power", hold: 500 * time.Millisecond, disk: true, run: func(ctx context.Context, e *env, r *rand.Rand, hold time.Duration) error {
			return cutPower(ctx, e, hold, e.nodes[r.IntN(len(e.nodes))])
		}},
		{name: "power-all", hold: 500 * time.Millisecond, disk: true, run: func(ctx context.Context, e *env, _ *rand.Rand, hold time.Duration) error {
			return cutPower(ctx, e, hold, e.nodes...)
		}},
		{name: "damage-log", hold: time.Second, nodes: 3, run: damage("raft/raft.db")},
		{name: "damage-database", hold: time.Second, nodes: 3, run: damage("db/gen-*/state.db")},
		{name: "damage-wal", hold: time.Second, nodes: 3, run: damage("db/gen-*/state.db-wal")},
	}
}

// hangDisk freezes the leader's disk until another node leads: a leader that cannot
// write would still answer heartbeats, so it must end itself.
func hangDisk(ctx context.Context, e *env, _ *rand.Rand, hold time.Duration) error {
	n, err := e.leader(ctx)
	if err != nil {
		return err
	}
	before, err := e.cluster.status(ctx, n)
	if err != nil {
		return err
	}
	n.mayEnd()
	if err := n.disk.freeze(); err != nil {
		return err
	}
	defer func() { _ = n.disk.thaw() }()
	if len(e.nodes) == 1 {
		pauseFor(ctx, hangLimit)
	} else {
		// Another one takes over while the disk still hangs.
		taken := false
		for end := time.Now().Add(hangLimit); time.Now().Before(end) && ctx.Err() == nil && !taken; pauseFor(ctx, 50*time.Millisecond) {
			l := e.cluster.leader(ctx)
			if l != nil && l != n {
				st, err := e.cluster.status(ctx, l)
				taken = err == nil && st.Term > before.Term
			}
		}
		if !taken && ctx.Err() == nil {
			e.found.violated(7, "the disk of the leader %s hung for %s, and no other took over", n.name, hangLimit)
		}
		pauseFor(ctx, hold)
	}
	if err := n.disk.thaw(); err != nil {
		return err
	}
	return ended(ctx, e, n)
}

// ended waits for the end of a node whose disk hung, and looks whether it says why.
// It may go on instead when all of it stood still, as with a fault in a memory map:
// then it was silent, and another has taken over just as well.
func ended(ctx context.Context, e *env, n *node) error {
	select {
	case <-n.process().exited:
	case <-time.After(3 * time.Second):
		e.say("  %s stood still and goes on", n.name)
		n.mu.Lock()
		n.down = false
		n.mu.Unlock()
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if !strings.Contains(lastLines(n.log, 12), "disk") {
		e.found.violated(0, "%s ended because its disk hung, but does not say so; its log ends with: %s", n.name, lastLines(n.log, 4))
	}
	return nil
}

// fillDisk leaves a node no room, until it stops; then there is room again.
func fillDisk(ctx context.Context, e *env, r *rand.Rand, hold time.Duration) error {
	n := e.nodes[r.IntN(len(e.nodes))]
	n.mayEnd()
	if err := n.disk.fill(); err != nil {
		return err
	}
	defer func() { _ = n.disk.free() }()
	// Its files may have room inside for a while.
	select {
	case <-n.process().exited:
		if text := lastLines(n.log, 12); !strings.Contains(text, "full") && !strings.Contains(text, "space") {
			e.found.violated(0, "%s ended on a full disk and does not say so: %s", n.name, lastLines(n.log, 4))
		}
	case <-time.After(hold + 6*time.Second):
		e.say("  %s still had room in its files", n.name)
		e.kill(n)
	case <-ctx.Done():
	}
	return nil
}

// cutPower takes the power from some nodes at once: what they have not synced is
// lost, and so are their processes.
func cutPower(ctx context.Context, e *env, hold time.Duration, nodes ...*node) error {
	for _, n := range nodes {
		n.mayEnd()
		n.process().pause() // nothing may be acknowledged between the two
	}
	for _, n := range nodes {
		if err := n.disk.cutPower(); err != nil {
			return err
		}
	}
	for _, n := range nodes {
		e.kill(n)
	}
	pauseFor(ctx, hold)
	for _, n := range nodes {
		if err := n.disk.powerOn(); err != nil {
			return err
		}
	}
	return nil
}

// damage destroys a part of a file of a stopped node. The node must refuse to start,
// or heal itself from the others; when it refuses it is replaced by an empty one, as
// an operator would do.
func damage(pattern string) func(context.Context, *env, *rand.Rand, time.Duration) error {
	return func(ctx context.Context, e *env, r *rand.Rand, _ time.Duration) error {
		n, err := e.follower(ctx, r)
		if err != nil {
			return err
		}
		st, err := e.cluster.status(ctx, n)
		if err != nil {
			return err
		}
		e.kill(n)
		files, err := filepath.Glob(filepath.Join(n.data(), pattern))
		if err != nil || len(files) == 0 {
			e.say("  %s has no %s", n.name, pattern)
			return err
		}
		file := files[len(files)-1]
		what, err := spoil(file, r)
		if err != nil {
			return err
		}
		e.say("  %s: %s of %s", n.name, what, filepath.Base(file))
		if err := e.start(n); err != nil {
			return err
		}
		n.mayEnd()
		if err := e.cluster.ready(ctx, n, 15*time.Second); err == nil {
			e.say("  %s starts with it", n.name)
			return e.equal(ctx, n, st.Node, what)
		}
		if n.process().alive() {
			e.say("  %s runs and is not ready: %s", n.name, lastLines(n.log, 2))
			e.kill(n)
		} else {
			e.say("  %s refuses: %s", n.name, lastLines(n.log, 1))
		}
		return e.replace(ctx, n, st.Node)
	}
}

const oneBit = "one bit turned"

// spoil truncates a file, turns one bit, or puts rubbish into it.
func spoil(file string, r *rand.Rand) (string, error) {
	info, err := os.Stat(file)
	if err != nil {
		return "", err
	}
	size := info.Size()
	if size == 0 {
		return "nothing", nil
	}
	way := r.IntN(3)
	if way == 0 {
		to := r.Int64N(size)
		return fmt.Sprintf("truncated to %d of %d bytes", to, size), os.Truncate(file, to)
	}
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		return "", err
	}
	defer f.Close()
	if way == 1 {
		one := make([]byte, 1)
		at := r.Int64N(size)
		if _, err := f.ReadAt(one, at); err != nil {
			return "", err
		}
		one[0] ^= 1 << r.IntN(8)
		_, err = f.WriteAt(one, at)
		return fmt.Sprintf(oneBit+" at %d of %d", at, size), err
	}
	rubbish := make([]byte, min(size, 16<<10))
	for i := range rubbish {
		rubbish[i] = byte(r.Uint32())
	}
	at := r.Int64N(size - int64(len(rubbish)) + 1)
	_, err = f.WriteAt(rubbish, at)
	return fmt.Sprintf("%d bytes of rubbish at %d of %d", len(rubbish), at, size), err
}
