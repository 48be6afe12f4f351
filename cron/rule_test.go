package cron

import (
	"archive/zip"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// The list of zones is that of the Go release the program is built with.
func TestZonesAreThoseOfTheRelease(t *testing.T) {
	root, err := exec.CommandContext(t.Context(), "go", "env", "GOROOT").Output()
	if err != nil {
		t.Skipf("no go command: %v", err)
	}
	archive, err := zip.OpenReader(filepath.Join(strings.TrimSpace(string(root)), "lib", "time", "zoneinfo.zip"))
	if os.IsNotExist(err) {
		t.Skipf("a Go without zone data: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer archive.Close()
	var names []string
	for _, f := range archive.File {
		if !strings.HasSuffix(f.Name, "/") {
			names = append(names, f.Name)
		}
	}
	slices.Sort(names)
	if want := strings.Join(names, "\n") + "\n"; zoneNames != want {
		t.Errorf("zones.txt differs from zoneinfo.zip; it should be:\n%s", want)
	}
}

func TestEveryZoneCanBeLoaded(t *testing.T) {
	for name := range strings.FieldsSeq(zoneNames) {
		r := mustNew(t, Config{Expressions: []string{"0 0 * * *"}, Zone: name})
		if got := r.Location().String(); got != name {
			t.Errorf("%s is %s", name, got)
		}
	}
	if r := mustNew(t, expr("0 0 * * *")); r.Location() != time.UTC {
		t.Errorf("no zone is %s", r.Location())
	}
}

// Many rules in one zone share what is known of it.
func TestRulesShareTheirZone(t *testing.T) {
	a := mustNew(t, Config{Expressions: []string{"0 0 * * *"}, Zone: "Europe/Berlin"})
	b := mustNew(t, Config{Expressions: []string{"0 9 * * *"}, Zone: "Europe/Berlin"})
	if a.Location() != b.Location() {
		t.Error("two copies of a zone")
	}
}

// A rule doesn't change with what it was made of.
func TestARuleKeepsWhatItWasMadeOf(t *testing.T) {
	cfg := excluding("0 0 31 * *", "sat")
	r := mustNew(t, cfg)
	before := fmt.Sprint(r.Expressions(), r.Describe(), r.Warnings(instant("2027-01-01T00:00:00Z")))
	cfg.Expressions[0], cfg.Exclude[0] = "* * * * *", "*"
	if after := fmt.Sprint(r.Expressions(), r.Describe(), r.Warnings(instant("2027-01-01T00:00:00Z"))); after != before {
		t.Errorf("%s became %s", before, after)
	}
}

// A rule may be asked at any instant that Go knows, and what follows is in the
// years that it fires in.
func TestNextAtTheEndsOfTime(t *testing.T) {
	for _, text := range []string{"* * * * *", "0 0 1 1 *", "@every 1h", "@at 2027-01-01T00:00:00Z"} {
		for _, zone := range []string{"", "Europe/Berlin", "Pacific/Apia"} {
			r := mustNew(t, Config{Expressions: []string{text}, Zone: zone})
			for _, at := range []time.Time{
				{},
				time.Unix(-1<<63, 0), time.Unix(-1<<62, 0), time.Date(-9999, 1, 1, 0, 0, 0, 0, time.UTC),
				time.Date(9999, 12, 31, 23, 59, 59, 999, time.UTC), time.Unix(1<<62, 0), time.Unix(1<<63-1, 999),
			} {
				next, ok := r.Next(at)
				if late := at.Unix() > year2040; late && ok || !late && (!ok || next.Year() < 1 || next.Year() > 2027) {
					t.Errorf("%s in %q: Next(%s) = %s, %t", text, zone, at, next, ok)
				}
			}
		}
	}
}

// The longest waits that end in a tick, and those that don't.
func TestHowLongNextLooks(t *testing.T) {
	for _, tt := range []struct {
		name string
		cfg  Config
		want string
	}{
		{"29 February on a Sunday", excluding("0 0 29 2 *", "mon-sat"), "2032-02-29T00:00:00Z"},
		{"after 8000 years of dates", excluding("0 0 29 2 *", "2000-01-01..9995-12-31"), "9996-02-29T00:00:00Z"},
		{"a thousand ranges of dates", excluding("0 0 * * *", manyDates(1000)...), "4027-01-02T00:00:00Z"},
		{"@every, a second further into Sunday each week", excluding("@every 604801s from 2027-01-03T00:00:00Z", "sun"), "3682-11-23T00:00:00Z"},
		{"@every, always on Sunday", excluding("@every 7d from 2027-01-03T00:00:00Z", "sun"), ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			next, ok := mustNew(t, tt.cfg).Next(instant("2027-01-01T00:00:00Z"))
			got := ""
			if ok {
				got = next.Format(time.RFC3339)
			}
			if got != tt.want {
				t.Errorf("%s, want %s", got, tt.want)
			}
		})
	}
}

// manyDates are ranges of two years that touch each other.
func manyDates(n int) (list []string) {
	for i := range n {
		year := 2027 + 2*i
		list = append(list, fmt.Sprintf("%04d-01-01..%04d-01-01", year, year+2))
	}
	return list
}
