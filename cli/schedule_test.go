package cli

import (
	"strings"
	"testing"

	"github.com/orrery-io/orrery/client"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

const (
	nightly = `{"id":3,"name":"nightly","description":"for the board","expressions":["0 3 * * *","@every 7d"],"timezone":"Europe/Berlin","overlap":"queue_one","jitter":"5m","exclude":["12-24"],` +
		`"catch_up":{"policy":"all","window":"2h","max":5},"template":{"type":"report","queue":"slow","payload":{"a":1},"priority":4,"max_attempts":5,"delay":"10s","tags":["x"]},"revision":17,` +
		`"updated_at":"2027-01-30T08:00:00.000Z","ticks":{"fired":4,"missed":2,"skipped":1,"paused":0},"open":7,"open_jobs":[4,5,6,7,8,9],"last_tick":"2027-01-31T02:00:00.000Z","last_job":9,` +
		`"queued":"2027-02-01T02:00:00.000Z","state":"active","next_at":"2999-02-02T02:00:00.000Z","summary":"at 03:00 every day, Europe/Berlin","warnings":["watch\u001b out"]}`
	paused = `{"name":"old","expressions":["@daily"],"timezone":"UTC","template":{"type":"x","queue":"q"},"paused":true,"pause_reason":"too loud","paused_at":"2027-01-30T08:00:00.000Z",` +
		`"ticks":{"fired":0},"open":0,"state":"paused","summary":"at 00:00 every day"}`
	planned = `{"next":[{"planned_at":"2999-03-28T01:00:00.000Z","fires_at":"2999-03-28T01:01:30.000Z","local":"2999-03-28T03:00:00+02:00","zone":"CEST"}]}`
)

func TestScheduleCreate(t *testing.T) {
	tests := []struct {
		name string
		args []string
		sent string
	}{
		{"a command", []string{"s", "@daily", "--", "ls", "-l"}, `PUT /v1/schedules/s {"expressions":["@daily"],"template":{"type":"exec","payload":{"argv":["ls","-l"]}}}`},
		{"a command of another type", []string{"s", "--every", "90s", "--type", "run", "--", "ls"}, `PUT /v1/schedules/s {"expressions":["@every 90s"],"template":{"type":"run","payload":{"argv":["ls"]}}}`},
		{
			"expressions of all kinds",
			[]string{"a/b", "0 3 * * *", "0 4 * * *", "--every", "1h", "--at", "2027-01-01T09:00", "--type", "x"},
			`PUT /v1/schedules/a%2Fb {"expressions":["0 3 * * *","0 4 * * *","@every 1h","@at 2027-01-01T09:00"],"template":{"type":"x"}}`,
		},
		{
			"every flag", strings.Fields("s @daily --type x --timezone UTC --start 2027-01-01T00:00:00Z --end 2027-01-02T00:00:00Z --exclude 12-24 --exclude sat,sun --jitter 1m --catch-up all --catch-up-window 2h " +
				"--catch-up-max 5 --overlap skip --description d --payload {\"a\":1.0} --queue q --priority 0 --delay 1s --max-attempts 2 --timeout 3s --expires-in 4s --lease 5s --retention 6s --tag a,b --meta k=v --correlation-id c"),
			`PUT /v1/schedules/s {"description":"d","expressions":["@daily"],"timezone":"UTC","start":"2027-01-01T00:00:00.000Z","end":"2027-01-02T00:00:00.000Z","exclude":["12-24","sat,sun"],"jitter":"1m",` +
				`"catch_up":{"policy":"all","window":"2h","max":5},"overlap":"skip","template":{"type":"x","queue":"q","payload":{"a":1.0},"priority":0,"delay":"1s","max_attempts":2,"timeout":"3s","expires_in":"4s","lease":"5s",` +
				`"tags":["a","b"],"metadata":{"k":"v"},"correlation_id":"c","retention":"6s"}}`,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := setup(t)
			b.answer("PUT /v1/schedules/{name}", 201, nightly)
			b.answer("GET /v1/schedules/{name}/next", 200, planned)
			code, out, errs := b.run(append([]string{"schedule", "create"}, tt.args...)...)
			if code != 0 || errs != "" {
				t.Fatalf("exit code %d\n%s", code, errs)
			}
			if b.calls[0] != tt.sent {
				t.Errorf("sent\n%s, want\n%s", b.calls[0], tt.sent)
			}
			want := "schedule nightly is set: at 03:00 every day, Europe/Berlin\nwarning: watch· out\n\nnext\nThu 2999-03-28 03:00:00 CEST  in "
			if !strings.HasPrefix(out, want) || !strings.HasSuffix(out, "with a jitter of 1m30s\n") {
				t.Errorf("printed\n%s", out)
			}
		})
	}
}

func TestScheduleCreate_usage(t *testing.T) {
	for name, tt := range map[string]struct {
		args []string
		want string
	}{
		"no name":               {nil, "takes a name, and when it fires"},
		"no name but a command": {[]string{"--", "ls"}, "takes a name, and when it fires"},
		"no time":               {[]string{"s", "--type", "x"}, "when does it fire?"},
		"no job":                {[]string{"s", "@daily"}, "what does it run?"},
		"no command":            {[]string{"s", "@daily", "--"}, "a command is missing after --"},
		"a payload twice":       {[]string{"s", "@daily", "--payload", "1", "--", "ls"}, "not both"},
		"not quoted":            {[]string{"s", "0", "3", "1", "1", "1", "--type", "x"}, "hint: quote it for the shell: '0 3 1 1 1'"},
		"a policy that is none": {[]string{"s", "@daily", "--overlap", "never"}, `--overlap: "never" is not one of the overlap policies`},
		"another":               {[]string{"s", "@daily", "--catch-up", "never"}, `--catch-up: "never" is not one of the catch-up policies`},
		"replaced and kept":     {[]string{"s", "@daily", "--type", "x", "--replace", "--if-not-exists"}, "not both"},
	} {
		t.Run(name, func(t *testing.T) {
			b := setup(t)
			code, out, errs := b.run(append([]string{"schedule", "create"}, tt.args...)...)
			if code != exitUsage || out != "" || !strings.Contains(errs, tt.want) || len(b.calls) != 0 {
				t.Errorf("exit code %d\n%s%s", code, out, errs)
			}
		})
	}
	for _, args := range [][]string{
		{"backfill", "s"}, {"pause"}, {"pause", "s", "--for", "1h", "--until", "2h"}, {"next", "s", "-n", "0"}, {"ticks", "s", "--limit", "-1"}, {"apply"}, {"edit", "s"}, {"show"}, {"rm"}, {"run"},
	} {
		b := setup(t)
		if code, _, errs := b.run(append([]string{"schedule"}, args...)...); code != exitUsage || len(b.calls) != 0 {
			t.Errorf("%v: exit code %d\n%s", args, code, errs)
		}
	}
}

func TestScheduleCreate_exists(t *testing.T) {
	b := setup(t)
	b.answer("PUT /v1/schedules/s", 412, `{"code":"precondition_failed","detail":"schedule s is there already"}`)
	b.answer("GET /v1/schedules/s", 200, nightly)
	code, out, errs := b.run("schedule", "create", "s", "@daily", "--type", "x")
	if code != exitFailure || out != "" || !strings.HasPrefix(errs, "orrery: schedule s is there already\nhint: --replace gives it this definition") {
		t.Errorf("exit code %d\n%s%s", code, out, errs)
	}
	code, out, errs = b.run("schedule", "create", "s", "@daily", "--type", "x", "--if-not-exists")
	if code != 0 || errs != "" || !strings.Contains(out, "is there already and stays as it is") {
		t.Errorf("exit code %d\n%s%s", code, out, errs)
	}
}

func TestScheduleFaults(t *testing.T) {
	b := setup(t)
	b.answer("PUT /v1/schedules/s", 400, `{"code":"invalid_schedule","detail":"things are wrong","errors":[{"pointer":"/expressions/1","detail":"at position 4: ü is no hour","position":4},`+
		`{"pointer":"/timezone","detail":"\"x\" is no time zone"},{"pointer":"/exclude/0","detail":"at position 1: no day","position":1}]}`)
	code, out, errs := b.run("schedule", "create", "s", "@daily", "0 ü\u001b ä * *", "--exclude", "32-24", "--type", "x")
	want := "orrery: it is not clear when it fires:\n  timezone: \"x\" is no time zone\n  0 ü· ä * *\n     ^ ü is no hour\n  32-24\n  ^ no day\nhint: nothing was changed"
	if code != exitFailure || out != "" || !strings.HasPrefix(errs, want) {
		t.Errorf("exit code %d\n%s%s", code, out, errs)
	}
	b = setup(t)
	b.answer("PUT /v1/schedules/s", 400, `{"code":"invalid_value","detail":"one thing in the request is wrong","errors":[{"pointer":"/jitter","detail":"is 25h"}]}`)
	if _, _, errs := b.run("schedule", "create", "s", "@daily", "--type", "x", "--jitter", "25h"); !strings.HasPrefix(errs, "orrery: one thing in the request is wrong: jitter is 25h\n") {
		t.Errorf("%s", errs)
	}
}

func TestScheduleEdit(t *testing.T) {
	for name, tt := range map[string]struct {
		args []string
		want string
	}{
		"times":            {[]string{"0 4 * * *", "--every", "1h"}, `{"expressions":["0 4 * * *","@every 1h"]}`},
		"a policy":         {[]string{"--overlap", "skip"}, `{"overlap":"skip"}`},
		"the default":      {[]string{"--overlap", "allow", "--catch-up", "last"}, `{"catch_up":{"policy":null},"overlap":null}`},
		"taken away":       {[]string{"--jitter", "0s", "--description", "", "--tag", ""}, `{"description":null,"jitter":null,"template":{"tags":null}}`},
		"inside the job":   {[]string{"--priority", "0", "--payload", `{"n":1.0}`, "--queue", "q"}, `{"template":{"payload":{"n":1.0},"priority":0,"queue":"q"}}`},
		"another command":  {[]string{"--", "ls", "-l"}, `{"template":{"payload":{"argv":["ls","-l"]}}}`},
		"inside of others": {[]string{"--catch-up-max", "7", "--catch-up-window", "1h"}, `{"catch_up":{"max":7,"window":"1h"}}`},
	} {
		t.Run(name, func(t *testing.T) {
			b := setup(t)
			b.answer("PATCH /v1/schedules/s", 200, nightly)
			b.answer("GET /v1/schedules/{name}/next", 200, planned)
			code, _, errs := b.run(append([]string{"schedule", "edit", "s"}, tt.args...)...)
			if code != 0 || b.calls[0] != "PATCH /v1/schedules/s "+tt.want {
				t.Errorf("exit code %d\n%s\nsent %s, want %s", code, errs, b.calls[0], tt.want)
			}
		})
	}
}

// TestScheduleFlags: every flag that says what a schedule is belongs to a field.
func TestScheduleFlags(t *testing.T) {
	cmd, d := &cobra.Command{}, client.ScheduleDefinition{}
	new(scheduleFlags).declare(cmd, &d)
	fields := fieldsOf()
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if fields[f.Name] == "" {
			t.Errorf("--%s sets no field", f.Name)
		}
		delete(fields, f.Name)
	})
	for name := range fields {
		t.Errorf("there is no --%s", name)
	}
}

func TestScheduleLs(t *testing.T) {
	b := setup(t)
	b.answer("GET /v1/schedules", 200, `{"schedules":[`+nightly+`,`+paused+`]}`)
	code, out, _ := b.run("schedule", "ls", "--state", "active,paused", "--text", "x")
	rows := strings.Split(out, "\n")
	if code != 0 || !strings.Contains(rows[1], "at 03:00 every day  Europe/Berlin  in ") || !strings.HasSuffix(rows[1], "7     active") {
		t.Errorf("exit code %d\n%s", code, out)
	}
	if got := strings.Join(strings.Fields(rows[2]), " "); got != "old at 00:00 every day UTC - - 0 paused (too loud)" {
		t.Errorf("%s", got)
	}
	if b.calls[0] != "GET /v1/schedules?consistency=linearizable&limit=500&state=active%2Cpaused&text=x" {
		t.Errorf("asked %s", b.calls[0])
	}
}

func TestScheduleShow(t *testing.T) {
	b := setup(t)
	b.answer("GET /v1/schedules/nightly", 200, nightly)
	b.answer("GET /v1/schedules/old", 200, paused)
	b.answer("GET /v1/schedules/nightly/next", 200, planned)
	b.answer("GET /v1/schedules/old/next", 200, `{"paused":true,`+planned[1:])
	b.answer("GET /v1/schedules/old/ticks", 200, `{"ticks":[]}`)
	b.answer("GET /v1/schedules/nightly/ticks", 200, `{"ticks":[{"seq":3,"planned_at":"2027-01-31T02:00:00.000Z","count":1,"action":"caught_up","late":"1m30s","job":9},`+
		`{"seq":2,"planned_at":"2027-01-29T02:00:00.000Z","through":"2027-01-30T02:00:00.000Z","count":2,"at_least":true,"action":"missed","reason":"too late"}]}`)
	code, out, _ := b.run("schedule", "show", "nightly")
	for _, want := range []string{
		"when         at 03:00 every day, Europe/Berlin\n", "expressions  0 3 * * * | @every 7d\n", "catch up     all, up to 2h late, 5 at once\n",
		"job          report in queue slow, priority 4, up to 5 attempts\n", "ticks        4 fired, 2 missed, 1 skipped\n", "open         7 jobs: 5, 6, 7, 8, 9 and 2 more\n",
		"\npayload\n  {\n    \"a\": 1\n  }\n", "\nwarning: watch· out\n", "\nnext\nThu 2999-03-28 03:00:00 CEST", "\nhistory\nPLANNED ",
		"2027-01-31T02:00:00.000Z  caught_up   1m30s  9    -\n", "2027-01-29T02:00:00.000Z  missed ×2+  -      -    up to 2027-01-30T02:00:00.000Z: too late\n",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing", want)
		}
	}
	if code != 0 || t.Failed() {
		t.Errorf("exit code %d\n%s", code, out)
	}
	code, out, _ = b.run("schedule", "show", "old")
	if code != 0 || !strings.Contains(out, ": too loud\n") || !strings.Contains(out, "\nnext, if it were resumed\n") || strings.Contains(out, "history") {
		t.Errorf("exit code %d\n%s", code, out)
	}
}

func TestScheduleChanges(t *testing.T) {
	b := setup(t)
	b.answer("POST /v1/schedules/{name}/pause", 200, paused)
	b.answer("POST /v1/schedules/{name}/resume", 200, nightly)
	b.answer("DELETE /v1/schedules/{name}", 204, "")
	for _, tt := range []struct {
		args []string
		out  string
		sent string
	}{
		{[]string{"pause", "a", "b", "--reason", "why"}, "schedule a is paused\nschedule b is paused\n", `POST /v1/schedules/a/pause {"reason":"why"}|POST /v1/schedules/b/pause {"reason":"why"}`},
		{[]string{"pause", "a", "--until", "2027-01-31T08:00:00Z"}, "schedule a is paused\n", `POST /v1/schedules/a/pause {"until":"2027-01-31T08:00:00.000Z"}`},
		{[]string{"rm", "a", "b"}, "schedule a is gone\nschedule b is gone\n", "DELETE /v1/schedules/a|DELETE /v1/schedules/b"},
		{[]string{"rm", "a", "--json"}, "", "DELETE /v1/schedules/a"},
	} {
		b.forget()
		code, out, errs := b.run(append([]string{"schedule"}, tt.args...)...)
		if code != 0 || out != tt.out || strings.Join(b.calls, "|") != tt.sent {
			t.Errorf("%v: exit code %d\n%s%s\nsent %s", tt.args, code, out, errs, strings.Join(b.calls, "|"))
		}
	}
	if code, out, _ := b.run("schedule", "resume", "a"); code != 0 || !strings.HasPrefix(out, "schedule a is resumed, it fires in ") {
		t.Errorf("exit code %d\n%s", code, out)
	}
}

func TestScheduleBackfill(t *testing.T) {
	const from = "2027-01-01T00:00:00Z"
	for name, tt := range map[string]struct {
		args []string
		in   string
		code int
		out  string
		n    int // requests
	}{
		"asked and confirmed": {nil, "y\n", 0, "2 jobs made, for 2027-01-01T00:00:00.000Z to 2027-01-02T00:00:00.000Z\n", 2},
		"asked and denied":    {nil, "n\n", exitFailure, "", 1},
		"not asked":           {[]string{"--yes"}, "", 0, "2 jobs made, for 2027-01-01T00:00:00.000Z to 2027-01-02T00:00:00.000Z\n", 1},
		"only counted":        {[]string{"--dry-run"}, "", 0, "2 jobs would be made, for 2027-01-01T00:00:00.000Z to 2027-01-02T00:00:00.000Z\n", 1},
	} {
		t.Run(name, func(t *testing.T) {
			b := setup(t)
			b.in = strings.NewReader(tt.in)
			b.answer("POST /v1/schedules/s/backfill", 200, `{"count":2,"first":"2027-01-01T00:00:00.000Z","last":"2027-01-02T00:00:00.000Z","jobs":[7,8]}`)
			code, out, errs := b.run(append([]string{"schedule", "backfill", "s", "--from", from, "--to", "2027-01-03T00:00:00Z"}, tt.args...)...)
			if code != tt.code || out != tt.out || len(b.calls) != tt.n {
				t.Errorf("exit code %d\n%s%s%q", code, out, errs, b.calls)
			}
			if asked := strings.Contains(b.calls[0], `"dry_run":true`); asked != (name != "not asked") {
				t.Errorf("%q", b.calls)
			}
		})
	}
	b := setup(t)
	b.answer("POST /v1/schedules/s/backfill", 200, `{"count":0,"jobs":[]}`)
	if code, out, _ := b.run("schedule", "backfill", "s", "--from", from); code != 0 || out != "0 jobs would be made: nothing was planned then\n" || len(b.calls) != 1 {
		t.Errorf("exit code %d\n%s%q", code, out, b.calls)
	}
}

func TestScheduleCompletion(t *testing.T) {
	b := setup(t)
	b.answer("GET /v1/schedules", 200, `{"schedules":[`+nightly+`]}`)
	for _, args := range []string{"schedule show n", "schedule pause other n", "job ls --schedule n", "schedule edit n"} {
		b.forget()
		code, out, _ := b.run(append([]string{"__complete"}, strings.Fields(args)...)...)
		if code != 0 || !strings.HasPrefix(out, "nightly\tat 03:00 every day") || !strings.HasPrefix(b.calls[0], "GET /v1/schedules?limit=200&prefix=n") {
			t.Errorf("%s: exit code %d\n%s%q", args, code, out, b.calls)
		}
	}
	for args, want := range map[string]string{"schedule create n": ":4\n", "schedule show a n": ":4\n", "schedule create s --overlap ": "allow\nskip\nqueue_one\ncancel_running\n:4\n"} {
		parts := strings.Split(args, " ")
		if code, out, _ := b.run(append([]string{"__complete"}, parts...)...); code != 0 || !strings.HasPrefix(out, want) {
			t.Errorf("%s: exit code %d\n%s", args, code, out)
		}
	}
}
