package layering

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// The state machine is a function of (state, log entry). The linter refuses
// clocks and randomness in fsm/apply*.go; this test also reads the statements,
// which no linter rule can name, and needs nothing but the go command. What
// neither sees is the order of a map: that stays with the reviewer and with
// the test that compares replicas.

// undetermined are packages that the files of apply must not import, with all
// below them.
var undetermined = []string{
	"crypto/rand", "hash/maphash", "log", "math/rand", "net", "os", "runtime", "syscall",
	module + "/internal",
}

// clocks are the functions of package time that depend on when or where they
// are called.
var clocks = []string{
	"After", "AfterFunc", "LoadLocation", "Local", "NewTicker", "NewTimer", "Now", "Since", "Sleep", "Tick", "Until",
}

// checkApply returns one sentence for everything in the file that a replica
// could do differently.
func checkApply(fset *token.FileSet, f *ast.File) []string {
	var bad []string
	report := func(n ast.Node, format string, args ...any) {
		pos := fset.Position(n.Pos())
		bad = append(bad, fmt.Sprintf("%s:%d: %s", filepath.Base(pos.Filename), pos.Line, fmt.Sprintf(format, args...)))
	}
	timeName := ""
	for _, spec := range f.Imports {
		imp, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			report(spec, "%v", err)
			continue
		}
		if slices.ContainsFunc(undetermined, func(u string) bool { return imp == u || strings.HasPrefix(imp, u+"/") }) {
			report(spec, "imports %s: replicas could differ; the leader decides and puts the fact into the command", imp)
		}
		if imp == "time" {
			timeName = "time"
			if spec.Name != nil {
				timeName = spec.Name.Name
			}
		}
	}
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.GoStmt:
			report(n, "starts a goroutine: apply is one thread of thought")
		case *ast.SelectStmt:
			report(n, "selects: which case is taken may differ on another node")
		case *ast.SelectorExpr:
			if x, ok := n.X.(*ast.Ident); ok && timeName != "" && x.Name == timeName && slices.Contains(clocks, n.Sel.Name) {
				report(n, "reads the clock with time.%s: time comes in the command", n.Sel.Name)
			}
		}
		return true
	})
	return bad
}

func TestApplyIsDeterministic(t *testing.T) {
	pkgs := listPackages(t)
	i := slices.IndexFunc(pkgs, func(p Package) bool { return p.rel() == "fsm" })
	if i < 0 {
		t.Skip("there is no package fsm")
	}
	files := slices.DeleteFunc(slices.Clone(pkgs[i].GoFiles), func(name string) bool {
		return !strings.HasPrefix(name, "apply") || strings.HasSuffix(name, "_gen.go")
	})
	if len(files) == 0 && len(pkgs[i].GoFiles) > 1 {
		t.Error("package fsm has no file apply*.go: this test no longer finds what it guards")
	}
	for _, name := range files {
		fset := token.NewFileSet()
		f, err := parser.ParseFile(fset, filepath.Join(pkgs[i].Dir, name), nil, parser.SkipObjectResolution)
		if err != nil {
			t.Error(err)
			continue
		}
		for _, sentence := range checkApply(fset, f) {
			t.Errorf("fsm/%s", sentence)
		}
	}
}

func TestApplyIsDeterministic_canFail(t *testing.T) {
	tests := []struct {
		name  string
		src   string
		wants string // part of the only sentence; "" when the source is fine
	}{
		{"durations are fine", `import "time"; const ttl = 3 * time.Second`, ""},
		{"clock", `import "time"; var t = time.Now()`, "time.Now"},
		{"clock under another name", `import clock "time"; var t = clock.Now()`, "time.Now"},
		{"clock as a value", `import "time"; var now = time.Now`, "time.Now"},
		{"randomness", `import "math/rand/v2"; var n = rand.Int()`, "math/rand/v2"},
		{"environment", `import "os"; var v = os.Args`, "imports os"},
		{"logging", `import "log/slog"; func f() { slog.Info("x") }`, "log/slog"},
		{"goroutine", `func f() { go f() }`, "goroutine"},
		{"select", `func f(c chan int) { select { case <-c: default: } }`, "selects"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			fset := token.NewFileSet()
			f, err := parser.ParseFile(fset, "apply.go", "package fsm; "+tt.src, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			got := checkApply(fset, f)
			switch {
			case tt.wants == "" && len(got) != 0:
				t.Errorf("refused: %q", got)
			case tt.wants != "" && (len(got) != 1 || !strings.Contains(got[0], tt.wants)):
				t.Errorf("got %q, want one sentence with %q", got, tt.wants)
			}
		})
	}
}
