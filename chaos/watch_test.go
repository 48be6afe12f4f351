//go:build linux

package chaos

import (
	"context"
	"os"
	"regexp"
	"strings"
	"sync"
	"time"
)

// watcher asks all nodes again and again how they see the cluster.
type watcher struct {
	cluster *cluster
	found   *findings

	mu    sync.Mutex
	term  uint64
	polls int
}

func (w *watcher) highestTerm() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.term
}

// follow watches one node until ctx ends.
func (w *watcher) follow(ctx context.Context, n *node) {
	var p *process
	var applied uint64
	for pauseFor(ctx, 150*time.Millisecond) {
		now := n.process()
		if !now.alive() {
			continue
		}
		if now != p {
			p, applied = now, 0
		}
		st, err := w.cluster.status(ctx, n)
		if err != nil || n.process() != p {
			continue
		}
		w.mu.Lock()
		w.polls++
		w.term = max(w.term, st.Term)
		w.mu.Unlock()
		if st.Applied < applied {
			w.found.violated(6, "%s had applied %d and then %d", n.name, applied, st.Applied)
		}
		applied = max(applied, st.Applied)
	}
}

// leads is the line that a node logs at the start of a term.
var leads = regexp.MustCompile(`msg="this node leads".*\bterm=(\d+)`)

// checkTerms reads from the nodes' logs who has led in which term.
func checkTerms(nodes []*node, f *findings) (terms int) {
	by := map[string]string{}
	for _, n := range nodes {
		text, err := os.ReadFile(n.log)
		if err != nil {
			f.violated(6, "%v", err)
			continue
		}
		for _, m := range leads.FindAllStringSubmatch(string(text), -1) {
			if other, ok := by[m[1]]; ok {
				f.violated(6, "%s and %s both led in term %s", other, n.name, m[1])
			}
			by[m[1]] = n.name
		}
	}
	if len(by) == 0 {
		f.violated(6, "no node says in its log that it leads")
	}
	return len(by)
}

// installs counts how often a node was given the database of another, as their logs say.
func installs(nodes []*node) (count int) {
	for _, n := range nodes {
		text, err := os.ReadFile(n.log)
		if err == nil {
			count += strings.Count(string(text), `msg="snapshot installed"`)
		}
	}
	return count
}

// lastLines returns the end of a log.
func lastLines(file string, n int) string {
	text, err := os.ReadFile(file)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], " ⏎ ")
}
