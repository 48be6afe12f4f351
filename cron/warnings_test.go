package cron

import (
	"slices"
	"strings"
	"testing"
)

func TestWarnings(t *testing.T) {
	berlin := func(list ...string) Config { return Config{Expressions: list, Zone: "Europe/Berlin"} }
	for _, tt := range []struct {
		name string
		cfg  Config
		from string
		want []string
	}{
		{"nothing to say", berlin("0 9 * * MON-FRI"), "2026-11-28T12:00:00Z", nil},
		{"nothing to say of elapsed time", berlin("*/30 * * * *", "@every 2h"), "2026-11-28T12:00:00Z", nil},

		{"the end is past", Config{Expressions: []string{"@daily"}, End: instant("2026-01-01T00:00:00Z")}, "2026-11-28T12:00:00Z", []string{
			"fires 0 times after 2026-11-28T12:00:00Z: it ended at 2026-01-01T00:00:00Z",
		}},
		{"the end comes before the next time", Config{Expressions: []string{"@yearly"}, End: instant("2026-12-31T00:00:00Z")}, "2026-11-28T12:00:00Z", []string{
			"fires 0 times after 2026-11-28T12:00:00Z: its next time would be 2027-01-01T00:00:00Z, and it ends before",
		}},
		{"everything excluded", excluding("* * * * *", "*"), "2026-11-28T12:00:00Z", []string{
			"fires 0 times after 2026-11-28T12:00:00Z: everything it plans is excluded",
		}},
		{"its time is past", expr("@at 2026-01-01T00:00:00Z"), "2026-11-28T12:00:00Z", []string{
			"fires 0 times after 2026-11-28T12:00:00Z: its last time was 2026-01-01T00:00:00Z",
		}},

		{"months without day 31", expr("0 0 31 * *"), "2026-11-28T12:00:00Z", []string{
			`"0 0 31 * *" skips 5 of the next 12 months, for lack of day 31 (L is the last day of any month)`,
		}},
		{"months without days 30 and 31", expr("0 0 30,31 * *"), "2026-11-28T12:00:00Z", []string{
			`"0 0 30,31 * *" skips 1 of the next 12 months, for lack of days 30 and 31 (L is the last day of any month)`,
		}},
		{"some months without one of its days", expr("0 0 15,31 * *"), "2026-11-28T12:00:00Z", []string{
			`"0 0 15,31 * *" misses its day 31 in 5 of the next 12 months (L is the last day of any month)`,
		}},
		{"a range means what there is", expr("0 0 1-31/2 * *"), "2026-11-28T12:00:00Z", nil},
		{"leap days", expr("0 0 29 2 *"), "2026-11-28T12:00:00Z", []string{
			`"0 0 29 2 *" skips 9 of the next 12 months that it names, for lack of day 29 (L is the last day of any month)`,
		}},
		{"a working day", expr("0 0 31W * *"), "2026-11-28T12:00:00Z", []string{
			`"0 0 31W * *" skips 5 of the next 12 months, for lack of the working day nearest to day 31 (LW is the last working day of any month)`,
		}},
		{"the fifth Friday", expr("0 0 * * FRI#5"), "2026-11-28T12:00:00Z", []string{
			`"0 0 * * FRI#5" skips 8 of the next 12 months, for lack of the fifth Friday of the month (5L is the last one of any month)`,
		}},
		{"both day fields", expr("0 0 13 * FRI"), "2026-11-28T12:00:00Z", []string{
			`"0 0 13 * FRI" fires when either of its day fields matches: on day 13 of the month, and also on Friday`,
		}},

		{"a time that doesn't exist, and comes twice", berlin("30 2 * * *"), "2026-11-28T12:00:00Z", []string{
			"02:30 doesn't exist on 2027-03-28 in Europe/Berlin; it fires at 03:00 instead",
			"02:30 comes twice on 2027-10-31 in Europe/Berlin; it fires the first time",
		}},
		{"many times", berlin("*/15 2 * * *"), "2026-11-28T12:00:00Z", []string{
			"02:00 and 3 other times don't exist on 2027-03-28 in Europe/Berlin; they fire at 03:00 instead",
			"02:00 and 3 other times come twice on 2027-10-31 in Europe/Berlin; they fire the first time",
		}},
		{"very many times", berlin("* * 2 * * *"), "2027-04-01T00:00:00Z", []string{
			"02:00 and many other times come twice on 2027-10-31 in Europe/Berlin; they fire the first time",
			"02:00 and many other times don't exist on 2028-03-26 in Europe/Berlin; they fire at 03:00 instead",
		}},
		{"said once for two expressions", berlin("30 2 * * *", "30 2 * * SUN"), "2027-03-01T00:00:00Z", []string{
			"02:30 doesn't exist on 2027-03-28 in Europe/Berlin; it fires at 03:00 instead",
			"02:30 comes twice on 2027-10-31 in Europe/Berlin; it fires the first time",
			"02:30 doesn't exist on 2028-03-26 in Europe/Berlin; it fires at 03:00 instead",
		}},
		{"not on days when it doesn't fire", berlin("30 2 * * MON-FRI"), "2026-11-28T12:00:00Z", nil},
		{"not after its end", Config{Expressions: []string{"30 2 * * *"}, Zone: "Europe/Berlin", End: instant("2027-03-01T00:00:00Z")}, "2026-11-28T12:00:00Z", nil},
		{"not what is excluded", Config{Expressions: []string{"30 2 * * *"}, Zone: "Europe/Berlin", Exclude: []string{"sun"}}, "2026-11-28T12:00:00Z", nil},
		{"once, at a time that doesn't exist", berlin("@at 2027-03-28T02:30"), "2026-11-28T12:00:00Z", []string{
			"02:30 doesn't exist on 2027-03-28 in Europe/Berlin; it fires at 03:00 instead",
		}},
		{"once, in a repeated hour but said in UTC", berlin("@at 2027-10-31T01:30:00Z"), "2026-11-28T12:00:00Z", nil},
		{"a skipped day", Config{Expressions: []string{"0 9 * * *"}, Zone: "Pacific/Apia"}, "2011-12-01T00:00:00Z", []string{
			"09:00 doesn't exist on 2011-12-30 in Pacific/Apia; it fires at 00:00 on 2011-12-31 instead",
		}},
		{"half an hour", Config{Expressions: []string{"15 2 * * *"}, Zone: "Australia/Lord_Howe"}, "2027-06-01T00:00:00Z", []string{
			"02:15 doesn't exist on 2027-10-03 in Australia/Lord_Howe; it fires at 02:30 instead",
		}},

		{"exclusions that remove nothing", excluding("0 9 * * MON-FRI", "sat,sun", "12-24", "* 08:00-09:00", "2020-01-01..2025-01-01", "2031-01-04", "2031-01-06"), "2026-11-28T12:00:00Z", []string{
			`the exclusion "sat,sun" removes nothing`,
			`the exclusion "* 08:00-09:00" removes nothing`,
			`the exclusion "2020-01-01..2025-01-01" removes nothing`,
			`the exclusion "2031-01-04" removes nothing`,
		}},
		{"exclusions of what fires often", excluding("* * * * *", "mon 03:00-03:01", "02-01", "2027-06-07"), "2026-11-28T12:00:00Z", nil},
		{"exclusions of what fires seldom", excluding("0 0 1 1 *", "tue"), "2026-11-28T12:00:00Z", nil},
		{"an exclusion for one of two", excluding2("mon 12:00-13:00", "0 9 * * *", "30 12 * * *"), "2026-11-28T12:00:00Z", nil},
		{"an exclusion after the end", Config{Expressions: []string{"* * * * *"}, End: instant("2027-01-01T00:00:00Z"), Exclude: []string{"2027-06-07"}}, "2026-11-28T12:00:00Z", []string{
			`the exclusion "2027-06-07" removes nothing`,
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := mustNew(t, tt.cfg).Warnings(instant(tt.from))
			if !slices.Equal(got, tt.want) {
				t.Errorf("\n got %s\nwant %s", strings.Join(got, "\n     "), strings.Join(tt.want, "\n     "))
			}
		})
	}
}

func excluding2(exclude string, expressions ...string) Config {
	return Config{Expressions: expressions, Exclude: []string{exclude}}
}
