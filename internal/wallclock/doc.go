// Package wallclock is the clock by which entries of the log get their time and
// schedules come due. It is time.Now, in all programs but those for the chaos suite,
// which lets it jump.
package wallclock
