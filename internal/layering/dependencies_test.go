package layering

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"
)

// modFile is what `go mod edit -json` says of a module file, as far as it
// matters here.
type modFile struct {
	Require []struct {
		Path     string
		Indirect bool
	}
	Tool    []struct{ Path string }
	Replace []struct{ Old struct{ Path string } }
	Exclude []struct{ Path string }
}

// reasoned is a line of a table in docs/dependencies.md: the module's path in
// backquotes, then what it replaces, then why this one.
var reasoned = regexp.MustCompile("(?m)^\\| `([^`]+)` \\|[^|]*[^|\\s][^|]*\\|[^|]*[^|\\s][^|]*\\|$")

// checkReasons returns one sentence for every dependency without a line in the
// document, and for every line without a dependency.
func checkReasons(doc string, mod, tools modFile) []string {
	var bad []string
	var have []string
	for _, m := range reasoned.FindAllStringSubmatch(doc, -1) {
		have = append(have, m[1])
	}
	want := func(path, what string) {
		if !slices.Contains(have, path) {
			bad = append(bad, fmt.Sprintf("docs/dependencies.md: no line \"| `%s` | what it replaces | why this one |\" for this %s", path, what))
		}
	}
	var known []string
	for _, r := range mod.Require {
		known = append(known, r.Path)
		if !r.Indirect {
			want(r.Path, "requirement of go.mod")
		}
	}
	for _, r := range mod.Replace {
		known = append(known, r.Old.Path)
		want(r.Old.Path, "replace of go.mod")
	}
	for _, r := range mod.Exclude {
		known = append(known, r.Path)
		want(r.Path, "exclude of go.mod")
	}
	for _, r := range tools.Tool {
		known = append(known, r.Path)
		want(r.Path, "tool of tools.mod")
	}
	// Everything that tools need is indirect; what is not, a script imports.
	for _, r := range tools.Require {
		if !r.Indirect {
			known = append(known, r.Path)
			want(r.Path, "requirement of tools.mod")
		}
	}
	for _, path := range have {
		if !slices.Contains(known, path) {
			bad = append(bad, fmt.Sprintf("docs/dependencies.md: nothing in go.mod or tools.mod is called %s; delete its line", path))
		}
	}
	return bad
}

func readModFile(t *testing.T, name string) modFile {
	t.Helper()
	// Looking at the file makes the go command run this test again when it
	// has changed.
	if _, err := os.Stat(filepath.Join(root, name)); err != nil {
		t.Fatal(err)
	}
	var m modFile
	if err := json.Unmarshal(goCommand(t, "mod", "edit", "-json", name), &m); err != nil {
		t.Fatalf("read %s: %v", name, err)
	}
	return m
}

func TestEveryDependencyHasItsReason(t *testing.T) {
	doc, err := os.ReadFile(filepath.Join(root, "docs", "dependencies.md"))
	if err != nil {
		t.Fatal(err)
	}
	tools := readModFile(t, "tools.mod")
	if len(tools.Tool) == 0 {
		t.Error("tools.mod names no tool")
	}
	for _, sentence := range checkReasons(string(doc), readModFile(t, "go.mod"), tools) {
		t.Error(sentence)
	}
}

func TestEveryDependencyHasItsReason_canFail(t *testing.T) {
	var mod, tools modFile
	err := json.Unmarshal([]byte(`{
		"Require": [{"Path":"example.org/used"},{"Path":"example.org/below","Indirect":true}],
		"Replace": [{"Old":{"Path":"example.org/below"}}]
	}`), &mod)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(`{
		"Tool": [{"Path":"example.org/cmd/tool"}],
		"Require": [{"Path":"example.org/script"},{"Path":"example.org/cmd","Indirect":true}]
	}`), &tools); err != nil {
		t.Fatal(err)
	}
	const full = "| `example.org/used` | our own | better |\n| `example.org/below` | the newer | it builds |\n| `example.org/cmd/tool` | eyes | tireless |\n" +
		"| `example.org/script` | pencils | draws |\n"
	tests := []struct {
		name string
		doc  string
		want int
	}{
		{"complete", full, 0},
		{"empty", "", 4},
		{"a line without a reason", "| `example.org/used` | our own |  |\n" + full[len("| `example.org/used` | our own | better |\n"):], 1},
		{"a line without a dependency", full + "| `example.org/gone` | our own | better |\n", 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := checkReasons(tt.doc, mod, tools); len(got) != tt.want {
				t.Errorf("got %q, want %d sentences", got, tt.want)
			}
		})
	}
}
