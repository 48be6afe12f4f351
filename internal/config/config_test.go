package config_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/orrery-io/orrery/internal/config"
	"github.com/orrery-io/orrery/internal/spelling"
	"github.com/spf13/pflag"
)

// settings are what the flags of a test mean.
type settings struct {
	data    string
	join    []string
	expect  int
	lease   time.Duration
	verbose bool
	help    bool
}

func flags() (*pflag.FlagSet, *settings) {
	s := new(settings)
	f := pflag.NewFlagSet("test", pflag.ContinueOnError)
	f.StringVar(&s.data, "data", "default", "")
	f.StringSliceVar(&s.join, "join", nil, "")
	f.IntVar(&s.expect, "bootstrap-expect", 0, "")
	f.DurationVar(&s.lease, "lease", 15*time.Second, "")
	f.BoolVar(&s.verbose, "verbose", false, "")
	f.BoolVar(&s.help, "help", false, "")
	return f, s
}

// fill parses a command line and fills in the rest.
func fill(t *testing.T, args []string, env map[string]string, file string) (*settings, *pflag.FlagSet, error) {
	t.Helper()
	f, s := flags()
	if err := f.Parse(args); err != nil {
		t.Fatal(err)
	}
	src := config.Source{Getenv: func(k string) string { return env[k] }, Except: []string{"help"}, Nearest: spelling.Nearest}
	if file != "" {
		src.File = filepath.Join(t.TempDir(), "orrery.yaml")
		if err := os.WriteFile(src.File, []byte(file), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return s, f, config.Fill(f, src)
}

func TestFill_precedence(t *testing.T) {
	env := map[string]string{"ORRERY_DATA": "env", "ORRERY_BOOTSTRAP_EXPECT": "5", "ORRERY_VERBOSE": ""}
	file := "# a comment\ndata: file\nbootstrap-expect: 7\nlease: 1m30s\nverbose: true\njoin:\n  - a:1\n  - b:2\n"
	s, f, err := fill(t, []string{"--data", "flag"}, env, file)
	if err != nil {
		t.Fatal(err)
	}
	if s.data != "flag" || s.expect != 5 || s.lease != 90*time.Second || !s.verbose || !slices.Equal(s.join, []string{"a:1", "b:2"}) {
		t.Errorf("%+v", s)
	}
	if !f.Changed("lease") || f.Changed("help") {
		t.Error("what was filled in must count as changed, and nothing else")
	}
	s, _, err = fill(t, nil, nil, "")
	if err != nil || s.data != "default" || s.lease != 15*time.Second {
		t.Errorf("%+v %v", s, err)
	}
	s, _, err = fill(t, nil, map[string]string{"ORRERY_JOIN": "a:1,b:2"}, "join: c:3\n")
	if err != nil || !slices.Equal(s.join, []string{"a:1", "b:2"}) {
		t.Errorf("%+v %v", s, err)
	}
	// A flag that was given is not added to.
	s, _, err = fill(t, []string{"--join", "x:1"}, map[string]string{"ORRERY_JOIN": "a:1"}, "join: [c:3]\n")
	if err != nil || !slices.Equal(s.join, []string{"x:1"}) {
		t.Errorf("%+v %v", s, err)
	}
}

func TestFill_files(t *testing.T) {
	for _, tt := range []struct {
		name, file string
		want       string // part of the error, "" for none
	}{
		{"only comments", "# nothing\n", ""},
		{"an empty document", "---\n", ""},
		{"one value for a list", "join: a:1\n", ""},
		{"a setting without a value", "data:\njoin:\n", ""},
		{"JSON", `{"data": "x", "bootstrap-expect": 3}`, ""},
		{"an alias", "data: &d here\njoin: [a]\n", ""},
		{"an unknown setting", "data: x\ndaat: y\n", `orrery.yaml:2: "daat" is not a setting; did you mean data?`},
		{"an underscore", "bootstrap_expect: 3\n", "did you mean bootstrap-expect?"},
		{"something else altogether", "xyzzy: 3\n", "they are bootstrap-expect, data, join, lease, verbose"},
		{"what is no setting", "help: true\n", `"help" is not a setting`},
		{"twice", "data: a\nlease: 1s\ndata: b\n", "orrery.yaml:3: data is there twice, first in line 1"},
		{"a list where one belongs", "\ndata: [a, b]\n", "orrery.yaml:2: data: takes one value, not a list"},
		{"a group", "data:\n  a: b\n", "data takes a value, not a group of settings"},
		{"a nested list", "join: [[a]]\n", "join has an entry that is no plain value"},
		{"a value that is none", "lease: soon\n", "orrery.yaml:1: lease: soon: "},
		{"a list at the top", "- a\n", "must be settings, one on each line"},
		{"a sentence", "hello\n", "must be settings, one on each line"},
		{"no YAML", "data: [a\n", "orrery.yaml: line 1: "},
		{"two documents", "data: a\n---\ndata: b\n", "more than one document"},
		{"too long", "# " + strings.Repeat("x", 1<<20), "longer than"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, _, err := fill(t, nil, nil, tt.file)
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
		})
	}
}

func TestFill_says_where(t *testing.T) {
	_, _, err := fill(t, nil, map[string]string{"ORRERY_BOOTSTRAP_EXPECT": "three"}, "")
	if err == nil || !strings.HasPrefix(err.Error(), "ORRERY_BOOTSTRAP_EXPECT=three in the environment: ") {
		t.Error(err)
	}
	f, _ := flags()
	if err := config.Fill(f, config.Source{File: "no/such.yaml"}); err == nil || !strings.Contains(err.Error(), "no/such.yaml") {
		t.Error(err)
	}
}

// FuzzFill: no file makes it panic.
func FuzzFill(f *testing.F) {
	for _, seed := range []string{"data: x\n", "join: [a, b]\n", "a: &x [*x]\n", "? [a]\n: b\n", "- \n", "!!binary x: y", "{", "<<: *a"} {
		f.Add(seed)
	}
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, text string) {
		path := filepath.Join(dir, "f.yaml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		set, _ := flags()
		_ = config.Fill(set, config.Source{File: path, Nearest: spelling.Nearest})
	})
}
