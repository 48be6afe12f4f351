package founding

import (
	"testing"
	"time"
)

// TestModel runs nodes through losses, cuts and crashes at every step, drawn from many
// seeds. World.note checks after each beginning that no two lists have a common node;
// with fewer nodes than two lists need there is at most one. In the end everything is
// well again, and all must agree.
func TestModel(t *testing.T) {
	seeds := uint64(400)
	if testing.Short() {
		seeds = 50
	}
	for seed := range seeds {
		bubble(t, func(t *testing.T) { model(t, seed) })
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

func model(t *testing.T, seed uint64) {
	w := newWorld(t, seed)
	draw := func(n int) int {
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.rng.IntN(n)
	}
	expect := 2 + draw(3)
	total := expect + draw(expect+2) // up to 2n+1 nodes: then two lists may begin
	w.eager = draw(2) == 0
	w.loss, w.torn = float64(draw(30))/100, float64(draw(30))/100
	w.delay, w.stale = time.Duration(1+draw(200))*time.Millisecond, time.Duration(draw(3)*draw(2000))*time.Millisecond
	for i := range total {
		w.start(node(i), expect)
	}
	for range 100 {
		id := node(draw(total))
		switch draw(8) {
		case 0:
			w.kill(id)
		case 1, 2:
			w.restart(id, expect)
		case 3, 4:
			w.mu.Lock()
			w.cut[[2]string{id, node(w.rng.IntN(total))}] = true
			w.mu.Unlock()
		case 5:
			w.mu.Lock()
			clear(w.cut)
			w.mu.Unlock()
		case 6:
			w.settle(id)
		}
		time.Sleep(time.Duration(draw(1000)) * time.Millisecond)
	}
	w.mu.Lock()
	clear(w.cut)
	w.loss, w.torn, w.stale, w.eager = 0, 0, 0, false
	w.mu.Unlock()
	time.Sleep(time.Minute) // who is dying dies
	all := make([]string, total)
	for i := range all {
		all[i] = node(i)
		w.restart(all[i], expect)
	}
	w.run("decided", func() bool { return w.decided(all...) })
	w.mu.Lock()
	defer w.mu.Unlock()
	if n := len(w.begun); n < 1 || total < 2*expect && n > 1 {
		t.Errorf("%d of %d nodes each: begun %v", total, expect, w.begun)
	}
}

// restart begins a new life, unless the node's last one goes on well.
func (w *world) restart(id string, expect int) {
	w.mu.Lock()
	p := w.nodes[id]
	dead := p.founding == nil || p.err != nil
	if dead {
		p.life++
	}
	stop := p.stop
	w.mu.Unlock()
	if !dead {
		return
	}
	if stop != nil {
		stop()
	}
	w.start(id, expect)
}
