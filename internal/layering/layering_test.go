package layering

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const (
	module = "github.com/orrery-io/orrery"
	root   = "../.."
)

// layers is the order of the packages from top to bottom. A package imports
// those further down; never one above it, never a neighbour on its own line.
// A new package of the product gets its place here.
var layers = [][]string{
	{"."},
	{"cli"},
	{"internal/bench"},
	{"server"},
	{"httpapi"},
	{"httpapi/dashboard"},
	{"cluster", "scheduler", "agentconn"},
	{"cluster/founding"},
	{"cluster/gossip"},
	{"cluster/link"},
	{"cluster/port"},
	{"cluster/keyring"},
	{"fsm"},
	{"command", "workflow"},
	{"job", "wire", "cron"},
}

// exceptions are arrows between neighbours that are meant.
var exceptions = map[string][]string{
	"wire": {"job"}, // frames carry the words of the domain
}

// sdks are the public packages beside the layers, each with all it may import.
// Users compile them into their own programs, so they stay small.
var sdks = map[string][]string{
	"client":        {"job"},
	"agent":         {"job", "wire"},
	"agent/builtin": {"agent", "job"},
}

// sdkUsers are the layers that may import an SDK.
var sdkUsers = []string{"cli", "internal/bench", "server"}

// helpers are leaves: they import nothing of ours, and everything may import
// them but the packages in pure.
var helpers = []string{"internal/obs", "internal/config", "internal/spelling", "internal/wallclock"}

// pure packages know neither logging nor configuration: they are vocabulary,
// or they end up in programs of others.
var pure = []string{"job", "wire", "cron", "command", "client", "agent"}

// testOnly packages are imported by tests alone. They may import what the
// layer "server" may, and server itself.
var testOnly = []string{"internal/clustertest", "chaos"}

// aside are packages that are no part of the product: they import nothing of
// ours and nobody imports them.
var aside = []string{"internal/layering"}

// Package is what `go list -json` says of a package, as far as it matters here.
type Package struct {
	ImportPath   string
	Name         string
	Dir          string
	GoFiles      []string
	TestGoFiles  []string
	XTestGoFiles []string
	Imports      []string
	TestImports  []string
	XTestImports []string
}

// rel is the path below the module, "." for the module's root.
func (p Package) rel() string { return relative(p.ImportPath) }

func relative(importPath string) string {
	if importPath == module {
		return "."
	}
	return strings.TrimPrefix(importPath, module+"/")
}

func ours(importPath string) bool {
	return importPath == module || strings.HasPrefix(importPath, module+"/")
}

// level is the line of a package in layers, or -1.
func level(rel string) int {
	return slices.IndexFunc(layers, func(l []string) bool { return slices.Contains(l, rel) })
}

func known(rel string) bool {
	_, sdk := sdks[rel]
	return sdk || level(rel) >= 0 || slices.Contains(helpers, rel) ||
		slices.Contains(testOnly, rel) || slices.Contains(aside, rel)
}

// checkImports returns one sentence for every arrow that must not be.
func checkImports(pkgs []Package) []string {
	var bad []string
	for _, p := range pkgs {
		from := p.rel()
		if !known(from) {
			bad = append(bad, fmt.Sprintf("package %s has no place: add it to layers (or sdks, helpers, testOnly) "+
				"in internal/layering/layering_test.go, and to the picture in ARCHITECTURE.md", from))
			continue
		}
		for _, imp := range p.Imports {
			if !ours(imp) {
				continue
			}
			if why := refuse(from, relative(imp)); why != "" {
				bad = append(bad, fmt.Sprintf("%s imports %s: %s", from, relative(imp), why))
			}
		}
		for _, imp := range slices.Concat(p.TestImports, p.XTestImports) {
			if !ours(imp) {
				continue
			}
			if why := refuseInTest(from, relative(imp)); why != "" {
				bad = append(bad, fmt.Sprintf("a test of %s imports %s: %s", from, relative(imp), why))
			}
		}
	}
	return bad
}

// refuse says why package from must not import package to, or "".
func refuse(from, to string) string {
	switch {
	case !known(to):
		return "the imported package has no place in internal/layering/layering_test.go"
	case slices.Contains(aside, from), slices.Contains(aside, to):
		return "this package stands aside: it imports nothing and nobody imports it"
	case slices.Contains(testOnly, to):
		return "this package is for tests only"
	case slices.Contains(helpers, from):
		return "a helper is a leaf and imports nothing of ours"
	case slices.Contains(helpers, to):
		if slices.Contains(pure, from) {
			return "this package stays free of logging and configuration; its caller has them"
		}
		return ""
	case slices.Contains(testOnly, from):
		if to == "." || to == "cli" {
			return "up"
		}
		return ""
	}
	if allowed, ok := sdks[from]; ok {
		if slices.Contains(allowed, to) {
			return ""
		}
		return fmt.Sprintf("an SDK package imports no more than %s", strings.Join(allowed, ", "))
	}
	if _, ok := sdks[to]; ok {
		if slices.Contains(sdkUsers, from) {
			return ""
		}
		return fmt.Sprintf("the SDKs are for users; of our layers only %s may import them", strings.Join(sdkUsers, " and "))
	}
	return arrow(from, to)
}

// arrow judges an import between two layers.
func arrow(from, to string) string {
	a, b := level(from), level(to)
	switch {
	case slices.Contains(exceptions[from], to):
		return ""
	case b == a:
		return "sideways: neighbours don't know each other; what joins them belongs to a layer above"
	case b < a:
		return "up: arrows point down only; let the lower package declare the interface that it needs"
	}
	return ""
}

// refuseInTest is laxer: a test may also use the package under test, the SDKs,
// the helpers and the test-only packages.
func refuseInTest(from, to string) string {
	_, sdkTo := sdks[to]
	_, sdkFrom := sdks[from]
	switch {
	case !known(to):
		return "the imported package has no place in internal/layering/layering_test.go"
	case from == to, sdkTo, slices.Contains(helpers, to), slices.Contains(testOnly, to):
		return ""
	case slices.Contains(aside, from), slices.Contains(aside, to):
		return "this package stands aside: it imports nothing and nobody imports it"
	case sdkFrom, slices.Contains(testOnly, from), slices.Contains(helpers, from):
		if to == "." || to == "cli" {
			return "up"
		}
		return ""
	}
	return arrow(from, to)
}

func TestArrowsPointDown(t *testing.T) {
	for _, sentence := range checkImports(listPackages(t)) {
		t.Error(sentence)
	}
}

// TestArrowsPointDown_canFail feeds arrows that must be refused, so that a
// mistake in the check itself doesn't pass for good order.
func TestArrowsPointDown_canFail(t *testing.T) {
	tests := []struct {
		name  string
		from  string
		to    string // a test import when it starts with "test:"
		wants string // part of the only sentence; "" when the arrow is fine
	}{
		{"down one layer", "cluster", "fsm", ""},
		{"down many layers", "cli", "job", ""},
		{"main to cli", ".", "cli", ""},
		{"upward", "fsm", "scheduler", "up:"},
		{"upward to main", "cli", ".", "up:"},
		{"upward from the bottom", "job", "server", "up:"},
		{"sideways", "scheduler", "cluster", "sideways:"},
		{"sideways among the vocabulary", "command", "workflow", "sideways:"},
		{"frames carry the words of the domain", "wire", "job", ""},
		{"but not the other way", "job", "wire", "sideways:"},
		{"client to job", "client", "job", ""},
		{"client to wire", "client", "wire", "no more than job"},
		{"agent to wire", "agent", "wire", ""},
		{"agent to its built-in handlers", "agent", "agent/builtin", "no more than job, wire"},
		{"built-in handlers to agent", "agent/builtin", "agent", ""},
		{"cli to client", "cli", "client", ""},
		{"server to agent", "server", "agent", ""},
		{"a layer to an SDK", "httpapi", "client", "the SDKs are for users"},
		{"a layer to a helper", "cluster", "internal/obs", ""},
		{"the domain to a helper", "job", "internal/obs", "free of logging"},
		{"a helper to the domain", "internal/obs", "job", "a helper is a leaf"},
		{"product to test helper", "server", "internal/clustertest", "for tests only"},
		{"test to test helper", "server", "test:internal/clustertest", ""},
		{"test to its own package", "fsm", "test:fsm", ""},
		{"test to an SDK", "agentconn", "test:agent", ""},
		{"test of an SDK to the server", "client", "test:server", ""},
		{"test upward", "fsm", "test:httpapi", "up:"},
		{"test sideways", "scheduler", "test:cluster", "sideways:"},
		{"a package without a place", "helpdesk", "job", "has no place: add it to layers"},
		{"to a package without a place", "cli", "helpdesk", "no place in internal/layering"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := Package{ImportPath: path.Join(module, tt.from)}
			if to, ok := strings.CutPrefix(tt.to, "test:"); ok {
				p.XTestImports = []string{path.Join(module, to)}
			} else {
				p.Imports = []string{"fmt", path.Join(module, tt.to)}
			}
			got := checkImports([]Package{p})
			switch {
			case tt.wants == "" && len(got) != 0:
				t.Errorf("refused: %q", got)
			case tt.wants != "" && (len(got) != 1 || !strings.Contains(got[0], tt.wants)):
				t.Errorf("got %q, want one sentence with %q", got, tt.wants)
			}
		})
	}
}

// badNames say nothing about what is inside.
var badNames = []string{"util", "utils", "common", "helper", "helpers", "types", "misc"}

// checkNames returns one sentence for every package or file whose name is no
// concept. Test files may be called helpers_test.go.
func checkNames(p Package) []string {
	var bad []string
	for _, name := range []string{p.Name, path.Base(p.rel())} {
		if slices.Contains(badNames, name) {
			bad = append(bad, fmt.Sprintf("package %s: %q is no concept; name what it is about", p.rel(), name))
			break
		}
	}
	for _, f := range p.GoFiles {
		if name := strings.TrimSuffix(f, ".go"); slices.Contains(badNames, name) {
			bad = append(bad, fmt.Sprintf("%s: %q is no concept; name what it is about", path.Join(p.rel(), f), name))
		}
	}
	return bad
}

func TestNamesAreConcepts(t *testing.T) {
	for _, p := range listPackages(t) {
		for _, sentence := range checkNames(p) {
			t.Error(sentence)
		}
	}
}

func TestNamesAreConcepts_canFail(t *testing.T) {
	for _, p := range []Package{
		{ImportPath: module + "/internal/util", Name: "util"},
		{ImportPath: module + "/cron/common", Name: "cron"},
		{ImportPath: module + "/cron", Name: "cron", GoFiles: []string{"cron.go", "helpers.go"}},
	} {
		if got := checkNames(p); len(got) != 1 {
			t.Errorf("%+v: got %q, want one sentence", p, got)
		}
	}
	if got := checkNames(Package{ImportPath: module + "/cron", Name: "cron", GoFiles: []string{"next.go"}}); len(got) != 0 {
		t.Errorf("a good package is refused: %q", got)
	}
}

// TestEveryPackageHasADoc wants doc.go with the package comment. A command may
// carry its comment in main.go.
func TestEveryPackageHasADoc(t *testing.T) {
	for _, p := range listPackages(t) {
		file := "doc.go"
		if p.Name == "main" && !slices.Contains(p.GoFiles, file) {
			file = "main.go"
		}
		if !slices.Contains(p.GoFiles, file) {
			t.Errorf("package %s has no %s: its first paragraph tells a newcomer what the package is", p.rel(), file)
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, file), nil, parser.PackageClauseOnly|parser.ParseComments)
		if err != nil {
			t.Errorf("package %s: %v", p.rel(), err)
			continue
		}
		if f.Doc == nil || strings.TrimSpace(f.Doc.Text()) == "" {
			t.Errorf("%s has no package comment", path.Join(p.rel(), file))
		}
	}
}

// listPackages asks the go command for all packages of the module.
func listPackages(t *testing.T) []Package {
	t.Helper()
	touchSources(t)
	out := goCommand(t, "list", "-e", "-json=ImportPath,Name,Dir,GoFiles,TestGoFiles,XTestGoFiles,Imports,TestImports,XTestImports", "./...")
	var pkgs []Package
	dec := json.NewDecoder(bytes.NewReader(out))
	for {
		var p Package
		err := dec.Decode(&p)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("read go list: %v", err)
		}
		pkgs = append(pkgs, p)
	}
	if !slices.ContainsFunc(pkgs, func(p Package) bool { return p.rel() == "internal/layering" }) {
		t.Fatalf("go list doesn't know this package; it listed %d", len(pkgs))
	}
	return pkgs
}

// touchSources looks at every source file and folder of the module. The go
// command remembers what a test itself looked at, but not what go list did for
// it; without this it would answer "(cached)" after an import has changed.
func touchSources(t *testing.T) {
	t.Helper()
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist): // gone in the meantime
		case err != nil:
			return err
		case d.IsDir() && name != root && (strings.HasPrefix(d.Name(), ".") || d.Name() == "orrery-data"):
			return filepath.SkipDir
		case filepath.Ext(name) == ".go":
			_, _ = os.Stat(name)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// goCommand runs the go command in the module's root.
func goCommand(t *testing.T, args ...string) []byte {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", args...)
	cmd.Dir = root
	out, err := cmd.Output()
	if err != nil {
		if exit, ok := errors.AsType[*exec.ExitError](err); ok {
			t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, exit.Stderr)
		}
		t.Fatalf("go %s: %v", strings.Join(args, " "), err)
	}
	return out
}
