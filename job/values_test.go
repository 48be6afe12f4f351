package job

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

func TestDuration(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, in string
		want     Duration
		text     string
		err      string
	}{
		{"milliseconds", "250ms", 250, "250ms", ""},
		{"mixed units", "1h30m", 90 * Minute, "1h30m", ""},
		{"whole days", "7d", 7 * Day, "168h", ""},
		{"days and hours", "1d12h", 36 * Hour, "36h", ""},
		{"zero", "0s", 0, "0s", ""},
		{"finer than a millisecond rounds up", "1us", 1, "1ms", ""},
		{"a bare number is refused", "30", 0, "", "not a duration"},
		{"empty is refused", "", 0, "", "not a duration"},
		{"negative is refused", "-5s", 0, "", "negative"},
		{"absurdly long is refused", "40000d", 0, "", "hundred years"},
		{"overflowing days are refused", "99999999999999999999d", 0, "", "not a duration"},
		{"a fraction of days is refused", "1.5d", 0, "", "not a duration"},
		{"words are refused", "soon", 0, "", "not a duration"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := ParseDuration(tt.in)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Fatalf("ParseDuration(%q) = %v, %v; want an error with %q", tt.in, got, err, tt.err)
				}
				return
			}
			if err != nil || got != tt.want || got.String() != tt.text {
				t.Fatalf("ParseDuration(%q) = %d (%s), %v; want %d (%s)", tt.in, got, got, err, tt.want, tt.text)
			}
		})
	}
}

func FuzzParseDuration(f *testing.F) {
	for _, s := range []string{"1h30m", "7d", "7d12h", "-1s", "1us", "9223372036854775807ns", "1000000d", "d", "1dd"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		d, err := ParseDuration(s)
		if err != nil {
			return
		}
		if d < 0 || d > MaxDuration {
			t.Fatalf("ParseDuration(%q) = %d, outside 0 to %d", s, d, MaxDuration)
		}
		if back, err := ParseDuration(d.String()); err != nil || back != d {
			t.Fatalf("%q reads as %s, which reads as %d, %v; want %d", s, d, back, err, d)
		}
	})
}

func TestTime(t *testing.T) {
	t.Parallel()
	t.Run("text keeps milliseconds in UTC", func(t *testing.T) {
		t.Parallel()
		in := time.Date(2027, 3, 4, 5, 6, 7, 89_000_000, time.FixedZone("", 3600))
		b, err := json.Marshal(At(in))
		if err != nil || string(b) != `"2027-03-04T04:06:07.089Z"` {
			t.Fatalf("got %s, %v", b, err)
		}
		var back Time
		if err := json.Unmarshal(b, &back); err != nil || back != At(in) {
			t.Fatalf("reads back as %v, %v", back, err)
		}
	})
	t.Run("unset is empty both ways", func(t *testing.T) {
		t.Parallel()
		if At(time.Time{}) != 0 || !Time(0).Time().IsZero() || Time(0).Add(Hour) != 0 {
			t.Fatal("the zero Time must stay unset")
		}
	})
	for _, bad := range []string{"yesterday", "2027-13-01T00:00:00Z", "1969-12-31T23:59:59Z", "1700000000"} {
		t.Run("refuses "+bad, func(t *testing.T) {
			t.Parallel()
			var x Time
			if err := x.UnmarshalText([]byte(bad)); err == nil {
				t.Fatalf("%q was read as %v", bad, x)
			}
		})
	}
}

func TestLabels(t *testing.T) {
	t.Parallel()
	l := LabelsOf(map[string]string{"b": "2", "a": "1"})
	b, err := json.Marshal(l)
	if err != nil || string(b) != `{"a":"1","b":"2"}` {
		t.Fatalf("got %s, %v", b, err)
	}
	var back Labels
	if err := json.Unmarshal([]byte(`{"z":"26","a":"1"}`), &back); err != nil || back[0].Key != "a" {
		t.Fatalf("labels must be sorted by key: %v, %v", back, err)
	}
	if v, ok := back.Get("z"); !ok || v != "26" {
		t.Fatalf("Get(z) = %q, %v", v, ok)
	}
	if _, ok := back.Get("q"); ok {
		t.Fatal("Get must not find what is not there")
	}
	if err := json.Unmarshal([]byte(`{"a":1}`), &back); err == nil {
		t.Fatal("a number is no label value")
	}
}

func TestEventID(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"0.0", "1234.7", "18446744073709551615.4294967295"} {
		id, err := ParseEventID(text)
		if err != nil || id.String() != text {
			t.Errorf("ParseEventID(%q) = %v, %v", text, id, err)
		}
	}
	for _, bad := range []string{"", ".", "-1.0", "1.x", "1.4294967296", "1.2.3"} {
		if id, err := ParseEventID(bad); err == nil {
			t.Errorf("ParseEventID(%q) = %v, want an error", bad, id)
		}
	}
	if whole, err := ParseEventID("7"); err != nil || !(EventID{7, 9}).Less(whole) || !whole.Less(EventID{8, 0}) {
		t.Errorf("a bare index must stand for all of its entry: %v, %v", whole, err)
	}
}

func TestWordsAreTheSameBothWays(t *testing.T) {
	t.Parallel()
	for _, s := range States {
		if back, err := ParseState(s.String()); err != nil || back != s {
			t.Errorf("state %s reads back as %s, %v", s, back, err)
		}
	}
	for o := OutcomeCompleted; o <= OutcomeCancelled; o++ {
		var back Outcome
		if err := back.UnmarshalText([]byte(o.String())); err != nil || back != o {
			t.Errorf("outcome %s reads back as %s, %v", o, back, err)
		}
	}
	for b := Exponential; b <= List; b++ {
		var back Backoff
		if err := back.UnmarshalText([]byte(b.String())); err != nil || back != b {
			t.Errorf("backoff %s reads back as %s, %v", b, back, err)
		}
	}
	for s := AgentReady; s <= AgentLost; s++ {
		var back AgentStatus
		if err := back.UnmarshalText([]byte(s.String())); err != nil || back != s {
			t.Errorf("status %s reads back as %s, %v", s, back, err)
		}
	}
	for i, name := range EventTypes() {
		if et, err := ParseEventType(name); err != nil || int(et) != i+1 {
			t.Errorf("event type %s reads back as %v, %v", name, et, err)
		}
	}
	for _, bad := range []string{"", "nonsense", "COMPLETED"} {
		if _, err := ParseState(bad); err == nil {
			t.Errorf("%q is no state", bad)
		}
		if _, err := ParseEventType(bad); err == nil {
			t.Errorf("%q is no event type", bad)
		}
	}
}

// TestJSONValid is about what is JSON to us; encoding/json agrees, as FuzzJSONValid shows.
func TestJSONValid(t *testing.T) {
	t.Parallel()
	deep := strings.Repeat("[", 10_000) + strings.Repeat("]", 10_000)
	for text, want := range map[string]bool{
		`{}`: true, ` {"a": [1, -2.5e+3, "x\u00e9", true, false, null]} `: true, `"\ud800"`: true, `{"a":1,"a":2}`: true, deep: true,
		``: false, ` `: false, `{`: false, `{"a"}`: false, `[1,]`: false, `01`: false, `+1`: false, `1.`: false, `nul`: false, `{} {}`: false,
		"\"\x00\"": false, "\"\xff\"": false, `'a'`: false, `"\x"`: false, `NaN`: false, "[" + deep + "]": false,
	} {
		if got := JSON(text).Valid(); got != want {
			t.Errorf("%.40q: %v", text, got)
		}
	}
}

func FuzzJSONValid(f *testing.F) {
	for _, s := range []string{`{"a":[1,-2.5e+3,"x\u00e9\ud800"],"a":null} `, `[[[]]]`, `"\xff"`, "\"\xff\"", `tru`, `-`, `0e`, "\ufeff{}"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if got, want := JSON(b).Valid(), json.Valid(b) && utf8.Valid(b); got != want {
			t.Fatalf("%q: %v", b, got)
		}
	})
}
