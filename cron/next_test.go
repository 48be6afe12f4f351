package cron

import (
	"strings"
	"testing"
	"time"
)

// local is the format of an instant that tells the two passes of an hour apart.
const local = "2006-01-02 15:04:05 -0700"

func TestNext(t *testing.T) {
	for _, tt := range []struct {
		name string
		cfg  Config
		from string // RFC 3339
		want string // ticks, joined by ", "; "never" where it ends
	}{
		{"every minute", expr("* * * * *"), "2027-01-01T00:00:30Z", "2027-01-01 00:01:00, 2027-01-01 00:02:00"},
		{"strictly later than a tick", expr("* * * * *"), "2027-01-01T00:01:00Z", "2027-01-01 00:02:00"},
		{"a fraction before a tick", expr("* * * * *"), "2027-01-01T00:00:59.999Z", "2027-01-01 00:01:00"},
		{"seconds in front", expr("*/20 * * * * *"), "2027-01-01T00:00:00Z", "2027-01-01 00:00:20, 2027-01-01 00:00:40, 2027-01-01 00:01:00"},
		{"the end of a year", expr("59 59 23 31 12 *"), "2027-01-01T00:00:00Z", "2027-12-31 23:59:59, 2028-12-31 23:59:59"},
		{"lists, ranges and steps", expr("5,10-12,50/5 3 * * *"), "2027-01-01T00:00:00Z", "2027-01-01 03:05:00, 2027-01-01 03:10:00, 2027-01-01 03:11:00, 2027-01-01 03:12:00, 2027-01-01 03:50:00, 2027-01-01 03:55:00, 2027-01-02 03:05:00"},
		{"names in any case", expr("0 0 * jAn-Feb mon"), "2027-01-20T00:00:00Z", "2027-01-25 00:00:00, 2027-02-01 00:00:00"},
		{"0 is Sunday", expr("0 0 * * 0"), "2027-01-01T00:00:00Z", "2027-01-03 00:00:00, 2027-01-10 00:00:00"},
		{"7 is Sunday", expr("0 0 * * 7"), "2027-01-01T00:00:00Z", "2027-01-03 00:00:00, 2027-01-10 00:00:00"},
		{"5-7 is Friday to Sunday", expr("0 0 * * 5-7"), "2027-01-01T00:00:00Z", "2027-01-02 00:00:00, 2027-01-03 00:00:00, 2027-01-08 00:00:00"},
		{"7-1 is Sunday and Monday", expr("0 0 * * 7-1"), "2027-01-01T00:00:00Z", "2027-01-03 00:00:00, 2027-01-04 00:00:00, 2027-01-10 00:00:00"},
		{"a week around its end", expr("0 0 * * FRI-MON"), "2027-01-05T00:00:00Z", "2027-01-08 00:00:00, 2027-01-09 00:00:00, 2027-01-10 00:00:00, 2027-01-11 00:00:00, 2027-01-15 00:00:00"},
		{"every second day of such a week", expr("0 0 * * FRI-MON/2"), "2027-01-05T00:00:00Z", "2027-01-08 00:00:00, 2027-01-10 00:00:00, 2027-01-15 00:00:00"},
		{"the last day", expr("0 0 L * *"), "2027-01-31T00:00:00Z", "2027-02-28 00:00:00, 2027-03-31 00:00:00"},
		{"days before the last", expr("0 0 L-3 * *"), "2028-01-31T00:00:00Z", "2028-02-26 00:00:00, 2028-03-28 00:00:00"},
		{"30 days before the last, where there are 31", expr("0 0 L-30 * *"), "2027-01-01T00:00:00Z", "2027-03-01 00:00:00, 2027-05-01 00:00:00"},
		{"the last working day", expr("0 0 LW * *"), "2027-01-01T00:00:00Z", "2027-01-29 00:00:00, 2027-02-26 00:00:00, 2027-03-31 00:00:00"},
		{"a Saturday moves to Friday, a Sunday to Monday", expr("0 0 15W 5,8 *"), "2027-01-01T00:00:00Z", "2027-05-14 00:00:00, 2027-08-16 00:00:00"},
		{"Saturday the 1st stays in its month", expr("0 0 1W * *"), "2027-04-30T00:00:00Z", "2027-05-03 00:00:00, 2027-06-01 00:00:00"},
		{"Sunday the 31st stays in its month", expr("0 0 31W * *"), "2027-01-01T00:00:00Z", "2027-01-29 00:00:00, 2027-03-31 00:00:00"},
		{"the third Friday", expr("0 0 * * 5#3"), "2027-01-01T00:00:00Z", "2027-01-15 00:00:00, 2027-02-19 00:00:00"},
		{"the fifth Sunday, where there is one", expr("0 0 ? * SUN#5"), "2027-01-01T00:00:00Z", "2027-01-31 00:00:00, 2027-05-30 00:00:00"},
		{"the last Friday", expr("0 0 * * 5L"), "2027-01-01T00:00:00Z", "2027-01-29 00:00:00, 2027-02-26 00:00:00"},
		{"special days in a list", expr("0 0 1,15W,L * *"), "2027-05-01T00:00:00Z", "2027-05-14 00:00:00, 2027-05-31 00:00:00, 2027-06-01 00:00:00"},
		{"either day field", expr("0 0 13 * FRI"), "2027-08-01T00:00:00Z", "2027-08-06 00:00:00, 2027-08-13 00:00:00, 2027-08-20 00:00:00"},
		{"a step is a restriction", expr("0 0 */10 * MON"), "2027-01-01T00:00:00Z", "2027-01-04 00:00:00, 2027-01-11 00:00:00, 2027-01-18 00:00:00, 2027-01-21 00:00:00"},
		{"? is none", expr("0 0 ? * MON"), "2027-01-01T00:00:00Z", "2027-01-04 00:00:00, 2027-01-11 00:00:00"},
		{"leap days", expr("0 0 29 2 *"), "2096-01-01T00:00:00Z", "2096-02-29 00:00:00, 2104-02-29 00:00:00"},
		{"February's fifth Monday, 40 years apart", expr("0 0 ? 2 MON#5"), "2044-03-01T00:00:00Z", "2072-02-29 00:00:00, 2112-02-29 00:00:00"},
		{"@hourly", expr("@hourly"), "2027-01-01T00:00:00Z", "2027-01-01 01:00:00, 2027-01-01 02:00:00"},
		{"@daily", expr("@Daily"), "2027-01-01T00:00:00Z", "2027-01-02 00:00:00"},
		{"@midnight", expr("@midnight"), "2027-01-01T00:00:00Z", "2027-01-02 00:00:00"},
		{"@weekly", expr("@weekly"), "2027-01-01T00:00:00Z", "2027-01-03 00:00:00"},
		{"@monthly", expr("@monthly"), "2027-01-01T00:00:00Z", "2027-02-01 00:00:00"},
		{"@yearly", expr("@yearly"), "2027-01-01T00:00:00Z", "2028-01-01 00:00:00"},
		{"@annually", expr("@annually"), "2027-01-01T00:00:00Z", "2028-01-01 00:00:00"},
		{"blanks around and between", expr("  0\t 12 *  * * "), "2027-01-01T00:00:00Z", "2027-01-01 12:00:00"},
		{"joined, an instant once", expr("0 */6 * * *", "0 12 * * *", "30 12 * * *"), "2027-01-01T06:00:00Z", "2027-01-01 12:00:00, 2027-01-01 12:30:00, 2027-01-01 18:00:00"},

		{"@every counts from the epoch", expr("@every 7d"), "1970-01-01T00:00:00Z", "1970-01-08 00:00:00, 1970-01-15 00:00:00"},
		{"@every with days and more", expr("@every 1d12h"), "1970-01-01T00:00:00Z", "1970-01-02 12:00:00, 1970-01-04 00:00:00"},
		{"@every from an anchor", Config{Expressions: []string{"@every 90s"}, Anchor: instant("2027-01-01T00:00:10Z")}, "2027-01-01T00:00:10Z", "2027-01-01 00:01:40"},
		{"@every from a future anchor, which is its first tick", Config{Expressions: []string{"@every 90s"}, Anchor: instant("2027-01-01T00:00:10.5Z")}, "2020-01-01T00:00:00Z", "2027-01-01 00:00:10, 2027-01-01 00:01:40"},
		{"@every from its own anchor", Config{Expressions: []string{"@every 1h from 2027-01-01T00:20:00+01:00"}, Anchor: instant("2027-01-01T00:00:10Z")}, "2027-01-01T00:00:00Z", "2027-01-01 00:20:00, 2027-01-01 01:20:00"},
		{"@every from a time in the zone", Config{Expressions: []string{"@every 1d from 2027-01-01T09:00"}, Zone: "Asia/Tokyo"}, "2027-01-01T00:00:00Z", "2027-01-02 09:00:00"},
		{"@at in UTC", expr("@at 2027-01-01T09:00:00Z"), "2026-01-01T00:00:00Z", "2027-01-01 09:00:00, never"},
		{"@at in the zone", Config{Expressions: []string{"@at 2027-01-01T09:00"}, Zone: "Asia/Tokyo"}, "2026-01-01T00:00:00Z", "2027-01-01 09:00:00, never"},
		{"@at with seconds", expr("@AT 2027-01-01T09:00:30"), "2026-01-01T00:00:00Z", "2027-01-01 09:00:30, never"},
		{"@at is past", expr("@at 2027-01-01T09:00"), "2027-01-01T09:00:00Z", "never"},

		{"start is a tick", Config{Expressions: []string{"0 0 * * *"}, Start: instant("2027-01-03T00:00:00Z")}, "2027-01-01T00:00:00Z", "2027-01-03 00:00:00"},
		{"start is a moment after one", Config{Expressions: []string{"0 0 * * *"}, Start: instant("2027-01-03T00:00:00.1Z")}, "2027-01-01T00:00:00Z", "2027-01-04 00:00:00"},
		{"end is none", Config{Expressions: []string{"0 0 * * *"}, End: instant("2027-01-03T00:00:00Z")}, "2027-01-01T00:00:00Z", "2027-01-02 00:00:00, never"},
		{"end is a moment after one", Config{Expressions: []string{"0 0 * * *"}, End: instant("2027-01-03T00:00:00.1Z")}, "2027-01-02T00:00:00Z", "2027-01-03 00:00:00, never"},
		{"no year beyond 9999", expr("0 0 1 1 *"), "9998-06-01T00:00:00Z", "9999-01-01 00:00:00, never"},
		{"the beginning of time", expr("0 0 1 1 *"), "0001-01-01T00:00:00Z", "0002-01-01 00:00:00"},

		{"without a date", excluding("0 0 * * *", "2027-01-02"), "2027-01-01T00:00:00Z", "2027-01-03 00:00:00"},
		{"without a row of dates", excluding("0 0 * * *", "2027-01-02..2030-06-07", "2027-01-01..2027-03-04"), "2027-01-01T00:00:00Z", "2030-06-08 00:00:00"},
		{"without a day of every year", excluding("0 12 24 12 *", "12-25"), "2027-01-01T00:00:00Z", "2027-12-24 12:00:00"},
		{"without days around the end of a year", excluding("0 0 * * *", "12-24..01-01"), "2027-12-22T00:00:00Z", "2027-12-23 00:00:00, 2028-01-02 00:00:00"},
		{"without 29 February", excluding("0 0 29 2 *", "02-28..03-01"), "2027-01-01T00:00:00Z", "never"},
		{"without the weekend", excluding("0 0 * * *", "sat,sun"), "2027-01-01T00:00:00Z", "2027-01-04 00:00:00, 2027-01-05 00:00:00"},
		{"without nights", excluding("0 */4 * * *", "mon-fri 22:00-06:00"), "2027-01-01T20:00:00Z", "2027-01-02 08:00:00, 2027-01-02 12:00:00"},
		{"a night begins on its weekday", excluding("0 */4 * * *", "fri 22:00-06:00"), "2027-01-02T20:00:00Z", "2027-01-03 00:00:00"},
		{"a night of Saturday goes on to Sunday", excluding("0 5 * * *", "sat 22:00-06:00"), "2027-01-01T00:00:00Z", "2027-01-01 05:00:00, 2027-01-02 05:00:00, 2027-01-04 05:00:00"},
		{"the end of a window fires", excluding("*/30 * * * *", "* 12:00-13:00"), "2027-01-01T11:30:00Z", "2027-01-01 13:00:00"},
		{"24:00 ends a day", excluding("0 */6 * * *", "* 12:00-24:00"), "2027-01-01T06:00:00Z", "2027-01-02 00:00:00"},
		{"@every without nights", excluding("@every 5h", "* 20:00-08:00"), "1970-01-01T00:00:00Z", "1970-01-01 10:00:00, 1970-01-01 15:00:00, 1970-01-02 11:00:00"},
		{"@at excluded", excluding("@at 2027-01-02T09:00", "sat"), "2027-01-01T00:00:00Z", "never"},
		{"everything excluded", excluding("* * * * * *", "*"), "2027-01-01T00:00:00Z", "never"},
		{"everything excluded in parts", excluding("* * * * * *", "mon-thu", "fri 00:00-12:00", "fri 12:00-24:00", "sat 06:00-07:00", "sat,sun 00:00-24:00"), "2027-01-01T00:00:00Z", "never"},
		{"every day of the year excluded", excluding("* * * * * *", "01-01..06-30", "07-01..12-31"), "2027-01-01T00:00:00Z", "never"},
		{"all dates excluded", excluding("* * * * * *", "0001-01-01..9999-12-31"), "2027-01-01T00:00:00Z", "never"},
		{"@every always in a window", excluding("@every 1d", "* 00:00-00:01"), "2027-01-01T00:00:00Z", "never"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := mustNew(t, tt.cfg)
			at := instant(tt.from)
			for want := range strings.SplitSeq(tt.want, ", ") {
				next, ok := r.Next(at)
				got := "never"
				if ok {
					got = next.In(r.Location()).Format(time.DateTime)
				}
				if got != want {
					t.Fatalf("Next(%s) = %s, want %s", at, got, want)
				}
				if ok && next.Location() != time.UTC {
					t.Fatalf("%s is not in UTC", next)
				}
				at = next
			}
		})
	}
}

func expr(list ...string) Config { return Config{Expressions: list} }

func excluding(expression string, exclude ...string) Config {
	return Config{Expressions: []string{expression}, Exclude: exclude}
}

func instant(text string) time.Time {
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		panic(err)
	}
	return t
}

// The changes of the clock as they were, or will be, in the zones that have
// something special.
func TestNextWhereTheClockChanges(t *testing.T) {
	for _, tt := range []struct {
		name, zone, expression string
		from                   string
		want                   string // ticks in the zone, with their offset
	}{
		{"Berlin, a time that doesn't exist", "Europe/Berlin", "30 2 * * *", "2027-03-27T12:00:00Z", "2027-03-28 03:00:00 +0200, 2027-03-29 02:30:00 +0200"},
		{"Berlin, a time that comes twice", "Europe/Berlin", "30 2 * * *", "2027-10-30T12:00:00Z", "2027-10-31 02:30:00 +0200, 2027-11-01 02:30:00 +0100"},
		{"Berlin, many that don't exist are one", "Europe/Berlin", "*/10 2 * * *", "2027-03-27T12:00:00Z", "2027-03-28 03:00:00 +0200, 2027-03-29 02:00:00 +0200"},
		{"Berlin, the same as one that exists", "Europe/Berlin", "0,30 2-3 * * *", "2027-03-27T12:00:00Z", "2027-03-28 03:00:00 +0200, 2027-03-28 03:30:00 +0200, 2027-03-29 02:00:00 +0200"},
		{"Berlin, every half hour skips the gap", "Europe/Berlin", "*/30 * * * *", "2027-03-28T00:30:00Z", "2027-03-28 03:00:00 +0200, 2027-03-28 03:30:00 +0200"},
		{"Berlin, every half hour fires in both passes", "Europe/Berlin", "*/30 * * * *", "2027-10-31T00:00:00Z", "2027-10-31 02:30:00 +0200, 2027-10-31 02:00:00 +0100, 2027-10-31 02:30:00 +0100, 2027-10-31 03:00:00 +0100"},
		{"Berlin, asked in the second pass", "Europe/Berlin", "30 2 * * *", "2027-10-31T01:10:00Z", "2027-11-01 02:30:00 +0100"},
		{"Berlin, seconds of a fixed hour", "Europe/Berlin", "59 59 2 * * *", "2027-10-31T00:00:00Z", "2027-10-31 02:59:59 +0200, 2027-11-01 02:59:59 +0100"},
		{"Berlin, @every knows no clock", "Europe/Berlin", "@every 12h", "2027-03-27T12:00:00Z", "2027-03-28 01:00:00 +0100, 2027-03-28 14:00:00 +0200"},
		{"Berlin, @at a time that doesn't exist", "Europe/Berlin", "@at 2027-03-28T02:30", "2027-01-01T00:00:00Z", "2027-03-28 03:00:00 +0200"},
		{"Berlin, @at a time that comes twice", "Europe/Berlin", "@at 2027-10-31T02:30", "2027-01-01T00:00:00Z", "2027-10-31 02:30:00 +0200"},
		{"Berlin, @at in UTC means that instant", "Europe/Berlin", "@at 2027-10-31T01:30:00Z", "2027-01-01T00:00:00Z", "2027-10-31 02:30:00 +0100"},
		{"Lord Howe, a gap of half an hour", "Australia/Lord_Howe", "15 2 * * *", "2027-10-02T00:00:00Z", "2027-10-03 02:30:00 +1100, 2027-10-04 02:15:00 +1100"},
		{"Lord Howe, half an hour twice", "Australia/Lord_Howe", "45 1 * * *", "2027-04-03T00:00:00Z", "2027-04-04 01:45:00 +1100, 2027-04-05 01:45:00 +1030"},
		{"Lord Howe, elapsed through it", "Australia/Lord_Howe", "*/15 * * * *", "2027-04-03T14:45:00Z", "2027-04-04 01:30:00 +1030, 2027-04-04 01:45:00 +1030, 2027-04-04 02:00:00 +1030"},
		{"Apia without 30 December 2011", "Pacific/Apia", "0 9 * * *", "2011-12-29T12:00:00Z", "2011-12-29 09:00:00 -1000, 2011-12-31 00:00:00 +1400, 2011-12-31 09:00:00 +1400"},
		{"Apia, midnight of a skipped day", "Pacific/Apia", "0 0 * * *", "2011-12-29T00:00:00Z", "2011-12-29 00:00:00 -1000, 2011-12-31 00:00:00 +1400, 2012-01-01 00:00:00 +1400"},
		{"Apia, only Fridays", "Pacific/Apia", "0 9 * * FRI", "2011-12-28T12:00:00Z", "2011-12-31 00:00:00 +1400, 2012-01-06 09:00:00 +1400"},
		{"Apia, every hour knows nothing of it", "Pacific/Apia", "0 * * * FRI", "2011-12-28T12:00:00Z", "2012-01-06 00:00:00 +1400"},
		{"Kwajalein without 21 August 1993", "Pacific/Kwajalein", "0 9 * * *", "1993-08-20T12:00:00Z", "1993-08-20 09:00:00 -1200, 1993-08-22 00:00:00 +1200, 1993-08-22 09:00:00 +1200"},
		{"São Paulo, no midnight", "America/Sao_Paulo", "0 0 * * *", "2018-11-03T12:00:00Z", "2018-11-04 01:00:00 -0200, 2018-11-05 00:00:00 -0200"},
		{"São Paulo, 23:30 twice", "America/Sao_Paulo", "30 23 * * *", "2018-02-17T12:00:00Z", "2018-02-17 23:30:00 -0200, 2018-02-18 23:30:00 -0300"},
		{"Beirut, no midnight", "Asia/Beirut", "0 0 * * *", "2027-03-27T12:00:00Z", "2027-03-28 01:00:00 +0300, 2027-03-29 00:00:00 +0300"},
		{"Beirut, the hour before midnight twice", "Asia/Beirut", "0 0 * * *", "2027-10-30T12:00:00Z", "2027-10-31 00:00:00 +0200, 2027-11-01 00:00:00 +0200"},
		{"Cairo, no midnight", "Africa/Cairo", "0 0 * * FRI", "2027-04-28T12:00:00Z", "2027-04-30 01:00:00 +0300, 2027-05-07 00:00:00 +0300"},
		{"Monrovia, 44 minutes and a half", "Africa/Monrovia", "30 0 * * *", "1972-01-06T12:00:00Z", "1972-01-07 00:44:30 +0000, 1972-01-08 00:30:00 +0000"},
		{"Monrovia, offsets with seconds", "Africa/Monrovia", "0 12 * * *", "1971-06-01T00:00:00Z", "1971-06-01 12:00:00 -0044"},
		{"Troll, two hours", "Antarctica/Troll", "30 1 * * *", "2027-03-27T12:00:00Z", "2027-03-28 03:00:00 +0200, 2027-03-29 01:30:00 +0200"},
		{"Troll, two hours twice", "Antarctica/Troll", "30 1,2 * * *", "2027-10-30T12:00:00Z", "2027-10-31 01:30:00 +0200, 2027-10-31 02:30:00 +0200, 2027-11-01 01:30:00 +0000"},
		{"Caracas, half an hour forward", "America/Caracas", "45 2 * * *", "2016-04-30T12:00:00Z", "2016-05-01 03:00:00 -0400, 2016-05-02 02:45:00 -0400"},
		{"Caracas, half an hour back", "America/Caracas", "45 2 * * *", "2007-12-08T12:00:00Z", "2007-12-09 02:45:00 -0400, 2007-12-10 02:45:00 -0430"},
		{"Dublin, whose winter is the exception", "Europe/Dublin", "30 1 * * *", "2027-03-27T12:00:00Z", "2027-03-28 02:00:00 +0100, 2027-03-29 01:30:00 +0100"},
		{"Dublin, back", "Europe/Dublin", "30 1 * * *", "2027-10-30T12:00:00Z", "2027-10-31 01:30:00 +0100, 2027-11-01 01:30:00 +0000"},
		{"Casablanca, back for Ramadan", "Africa/Casablanca", "30 2 * * *", "2027-02-06T12:00:00Z", "2027-02-07 02:30:00 +0100, 2027-02-08 02:30:00 +0000"},
		{"Casablanca, and forward again", "Africa/Casablanca", "30 2 * * *", "2027-03-13T12:00:00Z", "2027-03-14 03:00:00 +0100, 2027-03-15 02:30:00 +0100"},
		{"Manila without 31 December 1844", "Asia/Manila", "0 9 * * *", "1844-12-31T12:00:00Z", "1845-01-01 00:00:00 +0803, 1845-01-01 09:00:00 +0803"},
		{"New York, the end of a leap year", "America/New_York", "0 12 * * *", "2040-12-30T17:00:00Z", "2040-12-31 12:00:00 -0500, 2041-01-01 12:00:00 -0500"},
		{"New York, from the end of a leap year to summer", "America/New_York", "0 12 1 6 *", "2040-12-31T12:00:00Z", "2041-06-01 12:00:00 -0400"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := mustNew(t, Config{Expressions: []string{tt.expression}, Zone: tt.zone})
			at := instant(tt.from)
			for want := range strings.SplitSeq(tt.want, ", ") {
				next, _ := r.Next(at)
				if got := next.In(r.Location()).Format(local); got != want {
					t.Fatalf("Next(%s) = %s, want %s", at.In(r.Location()).Format(local), got, want)
				}
				at = next
			}
		})
	}
}

// What was excluded is the time that was planned, not the moment it moves to.
func TestExclusionsLookAtPlannedTimes(t *testing.T) {
	for _, tt := range []struct{ name, expression, exclude, want string }{
		{"planned outside, fires inside", "30 2 * * *", "* 03:00-04:00", "2027-03-28 03:00:00 +0200"},
		{"planned inside", "30 2 * * *", "* 02:00-03:00", "never"},
		{"half of the hour planned inside", "*/15 2 * * *", "* 02:00-02:30", "2027-03-28 03:00:00 +0200"},
		{"elapsed looks at the clock", "0 * * * *", "* 02:00-24:00", "2027-03-29 00:00:00 +0200"},
		{"@every after a gap that ends a window", "@every 10m", "* 01:00-02:30", "2027-03-28 03:00:00 +0200"},
		{"@every looks at the clock", "@every 1h", "* 02:00-04:00", "2027-03-28 04:00:00 +0200"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := mustNew(t, Config{Expressions: []string{tt.expression}, Zone: "Europe/Berlin", Exclude: []string{tt.exclude}})
			next, ok := r.Next(instant("2027-03-28T00:30:00Z"))
			got := "never"
			if ok {
				got = next.In(r.Location()).Format(local)
			}
			if got != tt.want {
				t.Errorf("%s, want %s", got, tt.want)
			}
		})
	}
}

// Before 1970 some zones had offsets with seconds, and changes in the middle of
// a minute: here the oracle walks by the second.
func TestNextAgreesWithAWalkBySeconds(t *testing.T) {
	for _, tt := range []struct{ zone, around string }{
		{"Africa/Monrovia", "1972-01-07T00:44:30Z"},
		{"Europe/Amsterdam", "1937-06-30T23:40:28Z"},
		{"Pacific/Apia", "1892-07-04T11:26:56Z"},
		{"America/Metlakatla", "1867-10-18T00:00:00Z"},
		{"Asia/Kathmandu", "1985-12-31T18:30:00Z"},
	} {
		t.Run(tt.zone, func(t *testing.T) {
			t.Parallel()
			loc, err := time.LoadLocation(tt.zone)
			if err != nil {
				t.Fatal(err)
			}
			at := instant(tt.around).Unix()
			tr := walk(loc, at-day, at+day)
			list, rules := ruled(t, place{name: tt.zone, loc: loc})
			for i := range list {
				compare(t, loc, list[i], rules[i], tr)
			}
		})
	}
}
