// Package cron says when a schedule fires.
//
// [New] reads what people write (cron expressions, "@every 90s", "@at
// 2027-01-01T09:00", a time zone, times to leave out) and makes a [Rule] of it,
// or says what is wrong, where, and what to write instead. [Rule.Next] gives the
// first tick after an instant. docs/schedules.md has the language as users see
// it.
//
// # Wall clocks and instants
//
// Let W(t) be what a wall clock in the rule's zone shows at the instant t, and
// call what a wall clock can show a civil time. Civil times are counted as if
// the zone were UTC, so days that a zone skipped have theirs too. An expression
// is a set of civil times; how it becomes a set of instants depends on its
// hours:
//
//   - When it names fewer than all 24 hours, it has fixed hours. Each civil time
//     c of the set becomes the first instant at which the clock has reached it,
//     min{t: W(t) >= c}. So a time that a clock change leaves out fires at the
//     first moment after the gap, a time that comes twice fires the first time,
//     and civil times that become the same instant are one tick.
//   - When it names all 24 hours, it follows elapsed time: it fires whenever the
//     clock shows one of the set. So both passes of a repeated hour fire, and
//     what is left out doesn't.
//
// "@every" counts elapsed seconds and knows no clock. Exclusions look at civil
// times: at c for fixed hours, at W(t) for everything else.
//
// # How Next finds a tick
//
// A zone's history is a row of stretches with one offset each. Within a stretch
// instants and civil times differ by a constant, so Next looks up one or two
// stretches and otherwise works on civil times: the days of a month are bits of
// a word, exclusions of whole days have been taken out of it beforehand, and the
// times of a day are found in three more words. Nothing is stepped through, and
// nothing but the zones read so far is remembered between calls.
//
// The package is a leaf: it imports nothing of ours and reads no clock. Zone
// data is the system's where there is some, else what is compiled in.
package cron
