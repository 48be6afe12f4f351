package cli

import (
	"context"
	"math"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// How much a node's heap may grow before it is collected: to five times what is live
// while that is little, because at full speed the collector would take a quarter of the
// processor otherwise; less as more is live, so that it stays below heapAim; but always
// to twice what is live, as Go does by itself.
const (
	mostGCPercent  = 400
	leastGCPercent = 100
	heapAim        = 240 << 20 // bytes
	tuneEvery      = 500 * time.Millisecond
)

// gcPercent is the GOGC for a heap of which so many bytes were live after the last
// collection.
func gcPercent(live uint64) int {
	if live == 0 {
		return mostGCPercent
	}
	room := (heapAim - math.Min(float64(live), heapAim)) / float64(live) * 100
	return int(math.Min(mostGCPercent, math.Max(leastGCPercent, room)))
}

// tuneGC sets GOGC by what is live, until ctx ends.
func tuneGC(ctx context.Context) {
	sample := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	tick := time.NewTicker(tuneEvery)
	defer tick.Stop()
	last := 0
	for {
		metrics.Read(sample)
		// Setting it stops the program for a moment, so small changes are left out.
		if p := gcPercent(sample[0].Value.Uint64()); p > last+last/20 || p < last-last/20 {
			debug.SetGCPercent(p)
			last = p
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
