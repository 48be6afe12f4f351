package httpapi

import (
	"bytes"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/orrery-io/orrery/job"
)

// fieldNames are the names that a type has in JSON.
func fieldNames(t reflect.Type) (names []string) {
	for f := range t.Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		switch {
		case f.Anonymous && name == "":
			names = append(names, fieldNames(f.Type)...)
		case name != "-":
			names = append(names, name)
		}
	}
	return names
}

// TestSchedule_fields compares what the decoder reads with what the OpenAPI document
// says, and with what answers have.
func TestSchedule_fields(t *testing.T) {
	if got := fieldNames(typeOf[ScheduleBody]()); !slices.Equal(got, scheduleNames()) {
		t.Errorf("ScheduleBody has %q, the decoder reads %q", got, scheduleNames())
	}
	if got := fieldNames(typeOf[CatchUpBody]()); !slices.Equal(got, catchUpNames()) {
		t.Errorf("CatchUpBody has %q, the decoder reads %q", got, catchUpNames())
	}
	var template []string
	for _, name := range submissionFields() {
		switch name {
		case "run_at", "start_by", "idempotency_key":
		default:
			template = append(template, name)
		}
	}
	if got := fieldNames(typeOf[ScheduleTemplate]()); !slices.Equal(got, template) {
		t.Errorf("ScheduleTemplate has %q, want %q", got, template)
	}
	shown := fieldNames(typeOf[Schedule]())
	for _, name := range append(scheduleNames(), shownNames()...) {
		if !slices.Contains(shown, name) {
			t.Errorf("no answer has %s", name)
		}
	}
	for _, name := range shown {
		if !slices.Contains(append(scheduleNames(), shownNames()...), name) {
			t.Errorf("the decoder does not know %s, which answers have", name)
		}
	}
	body, fields := fieldNames(typeOf[Preview]()), append(scheduleNames(), previewFields()...)
	if !slices.Equal(body, fields) {
		t.Errorf("Preview has %q, the decoder reads %q", body, fields)
	}
}

func FuzzDecodeSchedule(f *testing.F) {
	for _, s := range []string{
		nightly, everyHour, `{}`, `[]`, `{"expressions":["H H L * ?","@every 90s"],"exclude":["12-24..12-26","SAT,SUN"],"catch_up":"all","template":{"type":"a"}}`,
		`{"expressions":"0 0 30 2 *","timezone":"x","start":"2027-01-01T00:00:00Z","template":{"type":"a","retry":{"backoff":"list","delays":["1s"]}}}`,
		`{"expressions":"ä ö ü","template":{"payload":{"a":"\u0000"}},"id":1}`,
	} {
		f.Add([]byte(s), []byte(`{"overlap":"skip","template":{"payload":{"x":null}}}`))
	}
	f.Fuzz(func(t *testing.T, raw, patch []byte) {
		if checkJSON("the body", raw) != nil {
			return
		}
		spec, err := decodeSchedule(raw)
		if err != nil {
			p, ok := problemOf(err)
			if !ok || p.Status >= 500 || len(p.Errors) == 0 {
				t.Fatalf("%q: %v", raw, err)
			}
			for _, e := range p.Errors {
				if e.Detail == "" || e.Position < 0 || e.Position > len(raw)+1 {
					t.Fatalf("%q: %+v", raw, e)
				}
			}
			return
		}
		// What was taken can be recorded, and comes back from its own document.
		if _, err := setCommand("s", nil, spec, 1_800_000_000_000); err != nil {
			t.Fatalf("%q: %v", raw, err)
		}
		var b bytes.Buffer
		if err := encode(&b, spec); err != nil {
			t.Fatal(err)
		}
		again, err := decodeSchedule(b.Bytes())
		if err != nil {
			t.Fatalf("%q: %v", b.Bytes(), err)
		}
		again.Template.Payload = spec.Template.Payload // white space may go
		if !sameSpec(spec, again) {
			t.Fatalf("%q comes back as %q", raw, b.Bytes())
		}
		if checkJSON("the body", patch) == nil && checkPatch(patch) == nil {
			if _, err := patched(spec, patch); err != nil && job.KindOf(err) != job.Invalid && job.KindOf(err) != job.TooLarge {
				t.Fatalf("%q: %v", patch, err)
			}
		}
	})
}

func TestNameCursor(t *testing.T) {
	for _, name := range []string{"a", "a/b:c", strings.Repeat("x", job.MaxName)} {
		text := encodeNameCursor(name, "schedules?")
		if got, ok := decodeNameCursor(text, "schedules?"); !ok || got != name {
			t.Errorf("%s comes back as %s, %v", name, got, ok)
		}
		if _, ok := decodeNameCursor(text, "schedules?state=paused"); ok {
			t.Errorf("%s is taken for another list", name)
		}
		for i := range len(text) {
			changed := []byte(text)
			changed[i] ^= 1
			if got, ok := decodeNameCursor(string(changed), "schedules?"); ok && got != name {
				t.Errorf("%s, changed, is %s", name, got)
			}
		}
	}
	for _, text := range []string{"", "x", strings.Repeat("A", 1000), "AgAAAAA", encodeCursor(7, "schedules?"), encodeNameCursor("", "schedules?")} {
		if got, ok := decodeNameCursor(text, "schedules?"); ok {
			t.Errorf("%q is %q", text, got)
		}
	}
	if _, ok := decodeCursor(encodeNameCursor("aaaaaaaa", "jobs?"), "jobs?"); ok {
		t.Error("the cursor of a list by name is taken for one by id")
	}
}

// BenchmarkListSchedules is a page of 10,000 schedules, first and in the middle.
func BenchmarkListSchedules(b *testing.B) {
	t := setup(b)
	for i := range 10_000 {
		spec := job.ScheduleSpec{
			Expressions: []string{fmt.Sprintf("%d %d * * MON-FRI", i%60, i/60%24)}, Timezone: "Europe/Berlin",
			Template: job.Template{Spec: job.Spec{Type: "report", Payload: job.JSON(`{"a":1}`)}},
		}
		spec.Normalize()
		c, err := setCommand(fmt.Sprintf("s%05d", i), nil, &spec, 1_800_000_000_000)
		if err != nil {
			b.Fatal(err)
		}
		t.propose(c)
	}
	for name, query := range map[string]string{"first": "", "none_of_them": "&text=nothing", "in_the_middle": "&cursor=" + encodeNameCursor("s05000", "schedules?")} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if r := t.get("/v1/schedules?limit=50" + query); r.status != 200 {
					b.Fatalf("%s", r.body)
				}
			}
		})
	}
}
