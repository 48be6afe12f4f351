package cron

import "testing"

func TestDescribe(t *testing.T) {
	for text, want := range map[string]string{
		"* * * * *":           "every minute, UTC",
		"* * * * * *":         "every second, UTC",
		"*/10 * * * * *":      "every 10 seconds, UTC",
		"30 * * * * *":        "at second 30 of every minute, UTC",
		"* 30 * * * *":        "every second of minute 30 of every hour, UTC",
		"0,30 5 * * * *":      "at seconds 0 and 30 of minute 5 of every hour, UTC",
		"*/20 * 9-12 * * *":   "every 20 seconds from 09:00 to 12:59:40, UTC",
		"30 0 9 * * *":        "at 09:00:30 every day, UTC",
		"*/15 * * * *":        "every 15 minutes, UTC",
		"0,30 * * * *":        "every 30 minutes, UTC",
		"5-59/15 * * * *":     "at minutes 5, 20, 35 and 50 of every hour, UTC",
		"*/25 * * * *":        "at minutes 0, 25 and 50 of every hour, UTC",
		"0 * * * *":           "every hour, UTC",
		"30 * * * *":          "every hour at minute 30, UTC",
		"0 */2 * * *":         "every 2 hours from 00:00, UTC",
		"30 */6 * * *":        "every 6 hours from 00:30, UTC",
		"0 0,12 * * *":        "at 00:00 and 12:00 every day, UTC",
		"0 9-17 * * *":        "every hour from 09:00 to 17:00, UTC",
		"30 9-17 * * 1-5":     "every hour from 09:30 to 17:30 on Monday to Friday, UTC",
		"*/15 9-17 * * *":     "every 15 minutes from 09:00 to 17:45, UTC",
		"*/15 9,17 * * *":     "at 09:00, 09:15, 09:30, 09:45, 17:00, 17:15, 17:30 and 17:45 every day, UTC",
		"* 9-17 * * *":        "every minute from 09:00 to 17:59, UTC",
		"1-3,7 9-11,14 * * *": "at minutes 1 to 3 and 7 of hours 9 to 11 and 14 every day, UTC",
		"* 9,17 * * *":        "every minute of hours 9 and 17, UTC",
		"0 9 * * *":           "at 09:00 every day, UTC",
		"0 9 * * MON-FRI":     "at 09:00 on Monday to Friday, UTC",
		"0 9 * * FRI-MON":     "at 09:00 on Monday and Friday to Sunday, UTC",
		"0 9 * * 0-6":         "at 09:00 every day, UTC",
		"* * * * SUN":         "every minute on Sunday, UTC",
		"0 0 1 * *":           "at 00:00 on day 1 of the month, UTC",
		"0 0 1-7,15 * *":      "at 00:00 on days 1 to 7 and 15 of the month, UTC",
		"0 0 L * *":           "at 00:00 on the last day of the month, UTC",
		"0 0 L-1 * *":         "at 00:00 on the day 1 day before the last of the month, UTC",
		"0 0 L-3 * *":         "at 00:00 on the day 3 days before the last of the month, UTC",
		"0 0 15W * *":         "at 00:00 on the working day nearest to day 15 of the month, UTC",
		"0 0 LW * *":          "at 00:00 on the last working day of the month, UTC",
		"0 0 1W,15,L * *":     "at 00:00 on day 15, the working day nearest to day 1 and the last day of the month, UTC",
		"0 0 24 12 *":         "at 00:00 on 24 December, UTC",
		"0 0 24-26 12 *":      "at 00:00 on 24 to 26 December, UTC",
		"0 0 L 2 *":           "at 00:00 on the last day of February, UTC",
		"0 0 1 */3 *":         "at 00:00 on day 1 of January, April, July and October, UTC",
		"0 0 * 1,6-8 *":       "at 00:00 every day in January and June to August, UTC",
		"* * * 1 *":           "every minute in January, UTC",
		"0 0 * 1 MON":         "at 00:00 on Monday in January, UTC",
		"0 0 * * 5#3":         "at 00:00 on the third Friday of the month, UTC",
		"0 0 * * 5L":          "at 00:00 on the last Friday of the month, UTC",
		"0 0 * * MON,5#1,6L":  "at 00:00 on Monday, the first Friday and the last Saturday of the month, UTC",
		"0 0 13 * 5":          "at 00:00 on day 13 of the month or on Friday, UTC",
		"0 0 13 6 5":          "at 00:00 on day 13 of the month or on Friday in June, UTC",
		"H H * * *":           "at 17:50 every day, UTC",
		"@daily":              "at 00:00 every day, UTC",
		"@hourly":             "every hour, UTC",
		"@yearly":             "at 00:00 on 1 January, UTC",
		"@every 1s":           "every second",
		"@every 90s":          "every 90 seconds",
		"@every 60m":          "every hour",
		"@every 36h":          "every 36 hours",
		"@every 7d":           "every 7 days",
		"@every 1h from 2027-01-01T00:00:00+01:00": "every hour from 2026-12-31T23:00:00Z",
		"@at 2027-01-01T09:00":                     "once at 09:00 on 1 January 2027, UTC",
	} {
		if got := mustNew(t, Config{Expressions: []string{text}, HashKey: "x"}).Describe(); got != want {
			t.Errorf("%s\n is %s\nwant %s", text, got, want)
		}
	}
}

func TestDescribeWithTheRest(t *testing.T) {
	workdays := []string{"0 9 * * MON-FRI"}
	for _, tt := range []struct {
		name string
		cfg  Config
		want string
	}{
		{"a yearly day", Config{Expressions: workdays, Zone: "Europe/Berlin", Exclude: []string{"12-24"}}, "at 09:00 on Monday to Friday, Europe/Berlin, except 24 December"},
		{"joined", Config{Expressions: []string{"0 9 * * MON-FRI", "30 10 * * SAT"}, Zone: "Europe/Berlin"}, "at 09:00 on Monday to Friday and also at 10:30 on Saturday, Europe/Berlin"},
		{"bounds", Config{Expressions: workdays, Zone: "Europe/Berlin", Start: instant("2027-01-01T00:00:00Z"), End: instant("2027-07-01T00:00:00Z")}, "at 09:00 on Monday to Friday, Europe/Berlin, starting at 01:00 on 1 January 2027, ending before 02:00 on 1 July 2027"},
		{"dates", excluding("@hourly", "2026-12-24", "2026-12-24..2027-01-01", "12-24..01-01"), "every hour, UTC, except 24 December 2026, 24 December 2026 to 1 January 2027, 24 December to 1 January"},
		{"windows", excluding("@every 1h", "sat,sun", "mon-fri 22:00-06:00", "* 12:00-13:30", "fri 18:00-24:00", "*"), "every hour, UTC, except Saturday and Sunday, Monday to Friday from 22:00 to 06:00, every day from 12:00 to 13:30, Friday from 18:00 to 24:00, every day"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := mustNew(t, tt.cfg).Describe(); got != tt.want {
				t.Errorf("\n got %s\nwant %s", got, tt.want)
			}
		})
	}
}
