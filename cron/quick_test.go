package cron

import ("testing";"time")

func TestQuick(t *testing.T) {
	from := time.Date(2026,11,28,19,47,0,0,time.UTC)
	for _, e := range []string{"* * * * *","0 9 * * MON-FRI","30 2 * * *","0 0 L * *","0 0 LW * *","0 0 31W * *","0 0 ? 2 MON#5","H H * * *","H/15 * * * *","@every 90s","@at 2027-01-01T09:00","@hourly","0 0 29 2 ?","*/10 * * * * *","0 12 13 * FRI","0~30 ~ * * *","0 0 L-3 * 5L"} {
		r, err := New(Config{Expressions: []string{e}, Zone: "Europe/Berlin", HashKey: "x"})
		if err != nil { t.Error(e, err); continue }
		at := from
		t.Log(e, r.Expressions())
		for range 3 { n, ok := r.Next(at); t.Log("   ", n.In(r.Location()), ok); if !ok {break}; at = n }
	}
	for _, e := range []string{"", "* * * *", "* * * * * * *", "60 * * * *", "*/0 * * * *", "*/90 * * * *", "30-10 * * * *", "1,,2 * * * *", "x * * * *", "* * * MAI *", "* * * * MONDAY", "* * * * 5#6", "0 0 31 2 *", "0 0 31 2,4 *", "0 0 31W 4 *", "* * 0 * *", "@dayly", "@every 1", "@every 1.5s", "@every", "@at 1", "* * * * L", "H(30-10) * * * *","H(3 * * * *", "30~10 * * * *", "5-/3 * * * *", "TZ=UTC * * * * *", "* * L-31 * *", "* ? * * *", "1;2 * * * *", "* * * * *\n", "@daily x"} {
		_, err := New(Config{Expressions: []string{e}})
		t.Logf("%q: %v", e, err)
	}
	for _, e := range []string{"", "12-24", "2026-02-30", "2026-12-24..2026-12-01", "12-24..01-01", "sat,sun", "fri-mon 22:00-06:00", "22:00-06:00", "* 12:00-12:00", "mo", "* 12:00", "* 1:00-2:00", "* 24:00-25:00","sat 12:00-24:00 x", "12-24..2026-12-24"} {
		_, err := New(Config{Expressions: []string{"* * * * *"}, Exclude: []string{e}})
		t.Logf("%q: %v", e, err)
	}
	_, err := New(Config{Zone: "Berlin"}); t.Log(err)
	_, err = New(Config{Zone: "europe/berlin"}); t.Log(err)
	_, err = New(Config{Zone: "Europe/Kiew"}); t.Log(err)
	_, err = New(Config{Zone: "Local"}); t.Log(err)
}
func bench(b *testing.B, cfg Config) {
	r, err := New(cfg)
	if err != nil { b.Fatal(err) }
	b.ReportAllocs()
	from := time.Date(2027,3,3,3,3,3,3,time.UTC)
	at := from
	for b.Loop() { n, ok := r.Next(at); if !ok { at = from } else { at = n } }
}
func BenchmarkQ(b *testing.B) {
	for _, e := range []string{"* * * * *","0 9 * * *","0 0 L * *","@every 90s"} { for _, z := range []string{"", "Europe/Berlin"} {
		b.Run(e+z, func(b *testing.B) { bench(b, Config{Expressions: []string{e}, Zone: z}) })
	}}
	b.Run("excl", func(b *testing.B) { bench(b, Config{Expressions: []string{"*/5 * * * *"}, Zone: "Europe/Berlin", Exclude: []string{"sat,sun","mon-fri 18:00-08:00", "12-24..01-01"}}) })
	b.Run("never", func(b *testing.B) { bench(b, Config{Expressions: []string{"* * * * * *"}, Zone: "Europe/Berlin", Exclude: []string{"*"}}) })
	b.Run("new", func(b *testing.B) { b.ReportAllocs(); for b.Loop() { New(Config{Expressions: []string{"* * * * *"}, Zone: "Europe/Berlin"}) } })
}
