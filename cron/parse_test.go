package cron

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestExpressionsInTheirPlainestForm(t *testing.T) {
	for text, want := range map[string]string{
		"* * * * *":              "* * * * *",
		"0 * * * * *":            "* * * * *",
		"30 * * * * *":           "30 * * * * *",
		"*/15 9-17 * * MON-FRI":  "0,15,30,45 9-17 * * 1-5",
		"0-59 0-23 ? 1-12 ?":     "* * * * *",
		"0 0 1-31 * 0-6":         "0 0 1-31 * 0-6",
		"1,2,3,5 0 * * *":        "1-3,5 0 * * *",
		"0 0 L,LW,L-3,15w,7 * *": "0 0 7,15W,L,L-3,LW * *",
		"0 0 * * 7,FRI#3,monL":   "0 0 * * 0,5#3,1L",
		"5/15 * * * *":           "5,20,35,50 * * * *",
		"@yearly":                "0 0 1 1 *",
		"@hourly":                "0 * * * *",
		"@every 90s":             "@every 1m30s",
		"@every 2d":              "@every 48h0m0s",
		"@every 1h from 1970-01-01T00:00:05+00:00": "@every 1h0m0s from 1970-01-01T00:00:05Z",
		"@at 2027-01-01T09:00":                     "@at 2027-01-01T09:00:00Z",
		"0 0 ? * 6-1":                              "0 0 * * 0,1,6",
	} {
		r, err := New(expr(text))
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if got := r.Expressions()[0]; got != want {
			t.Errorf("%s is %s, want %s", text, got, want)
		}
	}
}

func TestFaultsSayWhereAndWhatToWriteInstead(t *testing.T) {
	// A caret under the first byte of the fault.
	for _, tt := range []struct{ text, caret, want string }{
		{"", "^", `the expression is empty: write one such as "0 9 * * MON-FRI"`},
		{"  ", "^", `the expression is empty: write one such as "0 9 * * MON-FRI"`},
		{"* * * *", "       ^", "4 fields, but an expression has 5 (minute, hour, day of month, month, day of week), or 6 with seconds first"},
		{"*", " ^", "1 field, but an expression has 5 (minute, hour, day of month, month, day of week), or 6 with seconds first"},
		{"0 0 9 * * MON 2027", "              ^", "7 fields, but an expression has 5 (minute, hour, day of month, month, day of week), or 6 with seconds first; years are no field: set the schedule's start and end"},
		{"TZ=UTC 0 9 * * *", "^", `the time zone is a setting of the schedule, no part of an expression: remove "TZ=UTC"`},
		{"60 * * * *", "^", "60 is no minute: write a number from 0 to 59"},
		{"0 24 * * *", "  ^", "24 is no hour: write a number from 0 to 23"},
		{"60 0 0 * * *", "^", "60 is no second: write a number from 0 to 59"},
		{"0 0 0 * *", "    ^", "0 is no day of the month: write a number from 1 to 31"},
		{"0 0 1,32 * *", "      ^", "32 is no day of the month: write a number from 1 to 31"},
		{"0 0 * 13 *", "      ^", "13 is no month: write a number from 1 to 12"},
		{"0 0 * * 8", "        ^", "8 is no day of the week: write a number from 0 to 7"},
		{"0 0 * * 1-8", "          ^", "8 is no day of the week: write a number from 0 to 7"},
		{"99999999999999999999 0 * * *", "^", "99999999999999999999 is no minute: write a number from 0 to 59"},
		{"-5 * * * *", "^", "a minute is missing: write a number from 0 to 59"},
		{"5- * * * *", "  ^", "a minute is missing: write a number from 0 to 59"},
		{"+5 * * * *", "^", `"+5" is no minute: write a number from 0 to 59`},
		{"five * * * *", "^", `"five" is no minute: write a number from 0 to 59`},
		{"0 9am * * *", "  ^", `"9am" is no hour: write a number from 0 to 23`},
		{"0 0 * MAI *", "      ^", `"MAI" is no month; did you mean MAR?`},
		{"0 0 * XYZ *", "      ^", `"XYZ" is no month: write JAN to DEC, or a number from 1 to 12`},
		{"0 0 * * MONDAY", "        ^", `"MONDAY" is no day of the week: write MON`},
		{"0 0 * * MON-FRY", "            ^", `"FRY" is no day of the week; did you mean FRI?`},
		{"0 0 * * TUS", "        ^", `"TUS" is no day of the week; did you mean TUE?`},
		{"30-10 * * * *", "^", "the range 30-10 runs backwards: write 30-59,0-10"},
		{"0 22-2 * * *", "  ^", "the range 22-2 runs backwards: write 22-23,0-2"},
		{"0 0 * NOV-JAN *", "      ^", "the range NOV-JAN runs backwards: write NOV-DEC,JAN"},
		{"0 0 31-1 * *", "    ^", "the range 31-1 runs backwards: write 31,1"},
		{"1,,2 * * * *", "  ^", "an item of the list is empty: remove the comma"},
		{",1 * * * *", "^", "an item of the list is empty: remove the comma"},
		{"1, * * * *", "  ^", "an item of the list is empty: remove the comma"},
		{"*/0 * * * *", "  ^", "a step of 0 never moves: write a number from 1 to 60"},
		{"*/90 * * * *", "  ^", `the step 90 is more than the 60 minutes it steps through: write a number from 1 to 60, or an interval such as "@every 90m"`},
		{"0 */36 * * *", "    ^", `the step 36 is more than the 24 hours it steps through: write a number from 1 to 24, or an interval such as "@every 36h"`},
		{"10-20/30 * * * *", "      ^", `the step 30 is more than the 11 minutes it steps through: write a number from 1 to 11, or an interval such as "@every 30m"`},
		{"*/ * * * *", "  ^", `"" is no step: write a number from 1 to 60`},
		{"*/x * * * *", "  ^", `"x" is no step: write a number from 1 to 60`},
		{"*/5/5 * * * *", "  ^", `"5/5" is no step: write a number from 1 to 60`},
		{"? * * * *", "^", `"?" stands alone, in place of the day of the month or the day of the week: write "*"`},
		{"0 0 1,? * *", "      ^", `"?" stands alone, in place of the day of the month or the day of the week: write "*"`},
		{"1-5-7 * * * *", "  ^", `"5-7" is no minute: write a number from 0 to 59`},
		{"** * * * *", "^", `"**" is no minute: write a number from 0 to 59`},
		{"*x * * * *", "^", `"*x" is no minute: write a number from 0 to 59`},
		{"5x * * * *", "^", `"5x" is no minute: write a number from 0 to 59`},
		{"* * * * *\n", "        ^", `"*\n" is no day of the week: write SUN to SAT, or a number from 0 to 7`},
		{"* * * * * garbage", "          ^", `"garbage" is no day of the week: write SUN to SAT, or a number from 0 to 7`},

		{"0 0 L-0 * *", "      ^", "0 is no number of days before the last: write a number from 1 to 30"},
		{"0 0 L-31 * *", "      ^", "31 is no number of days before the last: write a number from 1 to 30"},
		{"0 0 L-3W * *", "      ^", `"3W" is no number of days before the last: write a number from 1 to 30`},
		{"0 0 32W * *", "    ^", "32 is no day of the month: write a number from 1 to 31"},
		{"0 0 W * *", "    ^", `"" is no day of the month: write a number from 1 to 31`},
		{"0 0 LL * *", "    ^", `"LL" is no day of the month: write a number from 1 to 31`},
		{"0 0 * * L", "        ^", "L says which weekday is the last of the month: write 5L for the last Friday, or SAT"},
		{"0 0 * * 8L", "        ^", "8 is no day of the week: write a number from 0 to 7"},
		{"0 0 * * 5#0", "          ^", "0 is no number of a weekday in a month: write a number from 1 to 5"},
		{"0 0 * * 5#6", "          ^", "6 is no number of a weekday in a month: write a number from 1 to 5"},
		{"0 0 * * FRI#", "            ^", `"" is no number of a weekday in a month: write a number from 1 to 5`},
		{"0 0 * * XX#1", "        ^", `"XX" is no day of the week: write SUN to SAT, or a number from 0 to 7`},
		{"0 0 5#3 * *", "    ^", `"5#3" is no day of the month: write a number from 1 to 31`},
		{"0 L * * *", "  ^", `"L" is no hour: write a number from 0 to 23`},

		{"H( * * * *", "^", `"H(" is no minute: write H, H(0-59) or H/2`},
		{"HH * * * *", "^", `"HH" is no minute: write H, H(0-59) or H/2`},
		{"H() * * * *", "  ^", `"" is no range: write H(0-59)`},
		{"H(5) * * * *", "  ^", `"5" is no range: write H(0-59)`},
		{"H(-5) * * * *", "  ^", "a bound is missing: write H(0-59)"},
		{"H(0-60) * * * *", "    ^", "60 is no minute: write a number from 0 to 59"},
		{"H(30-10) * * * *", "  ^", "the range from 30 to 10 runs backwards: swap the two"},
		{"H(0-29)/40 * * * *", "        ^", `the step 40 is more than the 30 minutes it steps through: write a number from 1 to 30, or an interval such as "@every 40m"`},
		{"30~10 * * * *", "^", "the range from 30 to 10 runs backwards: swap the two"},
		{"0~60 * * * *", "  ^", "60 is no minute: write a number from 0 to 59"},

		{"0 0 30 2 *", "    ^", "there is never such a day: February has no day 30; write L for the last day of a month"},
		{"0 0 0 30,31 FEB ?", "      ^", "there is never such a day: February has no day 30,31; write L for the last day of a month"},
		{"0 0 31 2,4,6 *", "    ^", "there is never such a day: none of February, April and June has a day 31; write L for the last day of a month"},
		{"0 0 31W 4 *", "    ^", "there is never such a day: April has no day 31W; write L for the last day of a month"},
		{"0 0 L-29 2 *", "    ^", "there is never such a day: February has no day L-29; write L for the last day of a month"},

		{"@dayly", "^", `"@dayly" is not known; did you mean @daily?`},
		{"@nonsense", "^", `"@nonsense" is not known: there are @every, @at, @yearly, @annually, @monthly, @weekly, @daily, @midnight and @hourly`},
		{"@reboot", "^", `"@reboot" has no meaning in a cluster, which doesn't start as one: write "@every", "@at" or five fields`},
		{"@daily 5", "       ^", `nothing follows @daily: remove "5"`},
		{"@every", "      ^", `a duration is missing: write "@every 90s", "@every 1h30m" or "@every 7d"`},
		{"@every 90", "       ^", `"90" is no duration: write one such as "90s", "1h30m" or "7d12h"`},
		{"@every d", "       ^", `"d" is no duration: write one such as "90s", "1h30m" or "7d12h"`},
		{"@every 1dx", "       ^", `"1dx" is no duration: write one such as "90s", "1h30m" or "7d12h"`},
		{"@every -5s", "       ^", `"-5s" is no duration: write one such as "90s", "1h30m" or "7d12h"`},
		{"@every 1d-5s", "       ^", `"1d-5s" is no duration: write one such as "90s", "1h30m" or "7d12h"`},
		{"@every 1500ms", "       ^", `"1500ms" is not in whole seconds: leave out the fraction`},
		{"@every 0s", "       ^", `"0s" is too short: write 1s or more`},
		{"@every 0d", "       ^", `"0d" is too short: write 1s or more`},
		{"@every 36526d", "       ^", `"36526d" is too long: write 36525d or less`},
		{"@every 90s since", "           ^", `"since" can't follow the duration: write "from" and a time, or nothing`},
		{"@every 90s from", "               ^", `a time is missing: write "from 2027-01-01T00:00:00Z"`},
		{"@every 90s from noon", "                ^", `"noon" is no time: write 2027-01-01T09:00 for a time in the schedule's zone, or 2027-01-01T09:00:00Z for UTC`},
		{"@every 90s from 2027-01-01T00:00:00Z x", "                                     ^", `nothing follows the time: remove "x"`},
		{"@at", "   ^", `a time is missing: write "@at 2027-01-01T09:00", or "@at 2027-01-01T09:00:00Z" for UTC`},
		{"@at 2027-02-30T09:00", "    ^", `"2027-02-30T09:00" is no time: write 2027-01-01T09:00 for a time in the schedule's zone, or 2027-01-01T09:00:00Z for UTC`},
		{"@at 2027-01-01T09:00:00.5Z", "    ^", `"2027-01-01T09:00:00.5Z" is not in whole seconds: leave out the fraction`},
		{"@at 2027-01-01T09:00 x", "                     ^", `nothing follows the time: remove "x"`},
		{"@at 0000-01-01T00:00", "    ^", `"0000-01-01T00:00" is not in the years 1 to 9999`},
		{strings.Repeat("*", MaxLength+1), strings.Repeat(" ", MaxLength) + "^", "1025 bytes, but an expression has at most 1024"},
	} {
		_, err := New(Config{Expressions: []string{"* * * * *", tt.text}})
		f := onlyFault(t, err)
		want := Fault{Field: FieldExpressions, Index: 1, Offset: strings.Index(tt.caret, "^"), Message: tt.want}
		if f != want {
			t.Errorf("%q:\n got %+v\nwant %+v", tt.text, f, want)
		}
	}
}

func onlyFault(t *testing.T, err error) Fault {
	t.Helper()
	e, ok := errors.AsType[*Error](err)
	if !ok || len(e.Faults) == 0 {
		t.Fatalf("%v is not an *Error with faults", err)
	}
	if len(e.Faults) > 1 {
		t.Errorf("more than one fault: %v", err)
	}
	return e.Faults[0]
}

func TestFaultsOfExclusions(t *testing.T) {
	for _, tt := range []struct{ text, caret, want string }{
		{" ", "^", "the exclusion is empty: " + exclusionForms},
		{"2026-02-29", "^", `"2026-02-29" is no date: there is no such day, write one of the calendar`},
		{"2026-1-2", "^", `"2026-1-2" is no date: ` + exclusionForms},
		{"2026", "^", `"2026" is no date: ` + exclusionForms},
		{"2026-12-24..", "            ^", `"" is no date: ` + exclusionForms},
		{"2026-12-24..2026-12-01", "            ^", "2026-12-01 is earlier than 2026-12-24: swap the two"},
		{"2026-12-24..12-31", "            ^", `"12-31" is no date: ` + exclusionForms},
		{"2026-12-24 12:00-13:00", "           ^", `nothing follows a date: remove "12:00-13:00"`},
		{"02-30", "^", `"02-30" is no day of a year: write month and day, such as "12-25"`},
		{"13-01", "^", `"13-01" is no day of a year: write month and day, such as "12-25"`},
		{"12-24..2027-01-01", "       ^", `"2027-01-01" is no day of a year: write month and day, such as "12-25"`},
		{"22:00-06:00", "^", `"22:00-06:00" is no date: a window begins with its weekdays, such as "* 12:00-13:00"`},
		{"mo", "^", `"mo" is no weekday; did you mean MON?`},
		{"sunday", "^", `"sunday" is no weekday: write SUN`},
		{"1-5", "^", `"1-5" is no day of a year: write month and day, such as "12-25"`},
		{"weekend", "^", `"weekend" is no weekday: write SUN to SAT, or "*" for every day`},
		{"sat,", "    ^", "an item of the list is empty: remove the comma"},
		{"sat- 12:00-13:00", "    ^", "a weekday is missing: write SUN to SAT"},
		{"sat 12:00", "    ^", `"12:00" is no window: write two times, such as "12:00-13:00"`},
		{"sat 12-13", "    ^", `"12" is no time of the day: write hours and minutes from 00:00 to 23:59`},
		{"sat 9:00-12:00", "    ^", `"9:00" is no time of the day: write hours and minutes from 00:00 to 23:59`},
		{"sat 24:00-12:00", "    ^", `"24:00" is no time of the day: write hours and minutes from 00:00 to 23:59`},
		{"sat 12:00-24:01", "          ^", `"24:01" is no time of the day: write hours and minutes from 00:00 to 24:00`},
		{"sat 12:00-12:60", "          ^", `"12:60" is no time of the day: write hours and minutes from 00:00 to 24:00`},
		{"sat 12:00-12:00", "          ^", `the window is empty: write "00:00-24:00" for the whole day`},
		{"sat 12:00-13:00 x", "                ^", `nothing follows the window: remove "x"`},
		{strings.Repeat("*", MaxLength+1), strings.Repeat(" ", MaxLength) + "^", "1025 bytes, but an exclusion has at most 1024"},
	} {
		_, err := New(excluding("* * * * *", "sat,sun", tt.text))
		f := onlyFault(t, err)
		want := Fault{Field: FieldExclude, Index: 1, Offset: strings.Index(tt.caret, "^"), Message: tt.want}
		if f != want {
			t.Errorf("%q:\n got %+v\nwant %+v", tt.text, f, want)
		}
	}
}

func TestFaultsOfTheRest(t *testing.T) {
	every := []string{"* * * * *"}
	for _, tt := range []struct {
		name string
		cfg  Config
		want Fault
	}{
		{"no expression", Config{}, Fault{FieldExpressions, -1, 0, `no expression: write at least one, such as "0 9 * * MON-FRI"`}},
		{"too many expressions", expr(slices.Repeat(every, 65)...), Fault{FieldExpressions, -1, 0, "65 expressions, but a rule has at most 64"}},
		{"too many exclusions", excluding("* * * * *", slices.Repeat([]string{"sat"}, 1001)...), Fault{FieldExclude, -1, 0, "1001 exclusions, but a rule has at most 1000"}},
		{"a zone in small letters", Config{Expressions: every, Zone: "europe/berlin"}, Fault{FieldZone, -1, 0, `"europe/berlin" is no time zone; did you mean Europe/Berlin?`}},
		{"the end of a zone's name", Config{Expressions: every, Zone: "New York"}, Fault{FieldZone, -1, 0, `"New York" is no time zone; did you mean America/New_York?`}},
		{"a zone that is nowhere", Config{Expressions: every, Zone: "Middle Earth"}, Fault{FieldZone, -1, 0, `"Middle Earth" is no time zone: write a name such as "Europe/Berlin"`}},
		{"a zone that is a file", Config{Expressions: every, Zone: "../../etc/localtime"}, Fault{FieldZone, -1, 0, `"../../etc/localtime" is no time zone: write a name such as "Europe/Berlin"`}},
		{"two zones", Config{Expressions: every, Zone: "Asia/Tokyo\nAsia/Seoul"}, Fault{FieldZone, -1, 0, `"Asia/Tokyo\nAsia/Seoul" is no time zone: write a name such as "Europe/Berlin"`}},
		{"the zone of the machine", Config{Expressions: every, Zone: "Local"}, Fault{FieldZone, -1, 0, `"Local" differs from machine to machine: write the name of a zone, such as "Europe/Berlin"`}},
		{"an end before the start", Config{Expressions: every, Start: instant("2027-01-01T00:00:00Z"), End: instant("2026-01-01T00:00:00Z")}, Fault{FieldEnd, -1, 0, "the end 2026-01-01T00:00:00Z is not later than the start 2027-01-01T00:00:00Z"}},
		{"an anchor out of time", Config{Expressions: every, Anchor: time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)}, Fault{FieldAnchor, -1, 0, "the anchor is not in the years 1 to 9999"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := New(tt.cfg); onlyFault(t, err) != tt.want {
				t.Errorf("got %+v\nwant %+v", onlyFault(t, err), tt.want)
			}
		})
	}
}

func TestAllFaultsAreListed(t *testing.T) {
	_, err := New(Config{Expressions: []string{"60 24 * * *", "@dayly"}, Zone: "Berlin", Exclude: []string{"mo"}})
	const want = `expressions[0] at byte 0: 60 is no minute: write a number from 0 to 59; ` +
		`expressions[0] at byte 3: 24 is no hour: write a number from 0 to 23; ` +
		`expressions[1] at byte 0: "@dayly" is not known; did you mean @daily?; ` +
		`zone: "Berlin" is no time zone; did you mean Europe/Berlin?; ` +
		`exclude[0] at byte 0: "mo" is no weekday; did you mean MON?`
	if err == nil || err.Error() != want {
		t.Errorf("\n got %v\nwant %s", err, want)
	}
}

// The hashed values that schedules were stored with. A change of these moves
// schedules of users: it must not happen.
func TestHashedValuesNeverChange(t *testing.T) {
	for _, tt := range []struct{ key, text, want string }{
		{"backup", "H H H H H", "25 20 22 6 1"},
		{"backup", "H H H H H H", "59 25 20 22 6 1"},
		{"nightly-report", "H H H H H", "39 15 17 11 0"},
		{"", "H H * * *", "11 15 * * *"},
		{"backup", "H(0-29) H(2-4) * * *", "25 4 * * *"},
		{"backup", "H/15 * * * *", "10,25,40,55 * * * *"},
		{"backup", "H(0-29)/10 * * * *", "5,15,25 * * * *"},
		{"backup", "H 0 H/10 * *", "25 0 8,18,28 * *"},
		{"backup", "0~30 ~ * * *", "2 20 * * *"},
		{"backup", "10~ ~6 ~ ~ ~", "15 3 22 6 1"},
		{"backup", "~/20 H(9-17)/2 * * H(1-5)", "5,25,45 9,11,13,15,17 * * 2"},
	} {
		r := mustNew(t, Config{Expressions: []string{tt.text}, HashKey: tt.key})
		if got := r.Expressions()[0]; got != tt.want {
			t.Errorf("%s of %q is %s, want %s", tt.text, tt.key, got, tt.want)
		}
	}
	tick := instant("2027-01-01T00:00:00Z")
	for _, tt := range []struct {
		key   string
		tick  time.Time
		limit time.Duration
		want  time.Duration
	}{
		{"backup", tick, time.Minute, 5055 * time.Millisecond},
		{"backup", tick.Add(time.Minute), time.Minute, 56859 * time.Millisecond},
		{"report", tick, time.Minute, 23166 * time.Millisecond},
		{"report", tick, 24 * time.Hour, 10*time.Hour + 52*time.Minute + 23166*time.Millisecond},
		{"report", tick, 999 * time.Microsecond, 0},
		{"report", tick, -time.Minute, 0},
	} {
		if got := Jitter(tt.key, tt.tick, tt.limit); got != tt.want {
			t.Errorf("Jitter(%s, %s, %s) = %s, want %s", tt.key, tt.tick, tt.limit, got, tt.want)
		}
	}
}

// Hashed values of many keys fill their range evenly, and each field has its own.
func TestHashedValuesSpread(t *testing.T) {
	minutes, hours, same := map[string]int{}, map[string]int{}, 0
	var delays [10]int
	const keys = 6000
	for i := range keys {
		key := "schedule-" + strings.Repeat("x", i%3) + string(rune('a'+i%26)) + time.Duration(i).String()
		r := mustNew(t, Config{Expressions: []string{"H H * * *"}, HashKey: key})
		f := strings.Fields(r.Expressions()[0])
		minutes[f[0]]++
		hours[f[1]]++
		if f[0] == f[1] {
			same++
		}
		d := Jitter(key, time.Unix(int64(i)*60, 0), 10*time.Second)
		delays[d/time.Second]++
	}
	for name, counts := range map[string]map[string]int{"minutes": minutes, "hours": hours} {
		n := map[string]int{"minutes": 60, "hours": 24}[name]
		if len(counts) != n {
			t.Fatalf("%d of %d %s", len(counts), n, name)
		}
		for v, c := range counts {
			if even := keys / n; c < even/2 || c > even*2 {
				t.Errorf("%s %s: %d keys, %d would be even", name, v, c, even)
			}
		}
	}
	for s, c := range delays {
		if c < keys/20 || c > keys/5 {
			t.Errorf("%d s: %d delays", s, c)
		}
	}
	if same > keys/20 {
		t.Errorf("minute and hour are the same for %d of %d keys", same, keys)
	}
}
