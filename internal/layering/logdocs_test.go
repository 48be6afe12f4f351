package layering

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestLogLinesOfTheDocumentExist: a line that docs/cluster.md explains is one that the
// program writes.
func TestLogLinesOfTheDocumentExist(t *testing.T) {
	doc, err := os.ReadFile(filepath.Join(root, "docs", "cluster.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, table, ok := strings.Cut(string(doc), "## What the log says")
	if !ok {
		t.Fatal("docs/cluster.md has no part on the log")
	}
	source, err := exec.CommandContext(t.Context(), "git", "-C", root, "grep", "-h", `"`, "--", "*.go", ":!*_test.go").Output()
	if err != nil {
		t.Skipf("no git: %v", err)
	}
	checked := 0
	for line := range strings.Lines(table) {
		cell, _, _ := strings.Cut(strings.TrimPrefix(line, "| "), " |")
		for _, m := range regexp.MustCompile("`([^`]+ [^`]+)`").FindAllStringSubmatch(cell, -1) {
			text, isRaft := strings.CutPrefix(strings.TrimSuffix(m[1], " …"), "raft: ")
			if isRaft {
				continue // the library's own words
			}
			checked++
			if !strings.Contains(string(source), `"`+text) {
				t.Errorf("docs/cluster.md explains %q, which nothing writes", text)
			}
		}
	}
	if checked < 20 {
		t.Errorf("only %d lines were found in the table", checked)
	}
}
