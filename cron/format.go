package cron

import (
	"fmt"
	"math/bits"
	"strconv"
	"strings"
)

// String writes the fields with numbers only. Seconds stand in front unless they
// are 0.
func (c *calendar) String() string {
	fields := []string{
		setText(c.minutes, &minuteField), setText(uint64(c.hours), &hourField),
		c.dom.String(), setText(uint64(c.months), &monthField), c.dow.String(),
	}
	if c.seconds != 1 {
		fields = append([]string{setText(c.seconds, &secondField)}, fields...)
	}
	return strings.Join(fields, " ")
}

// setText is "*" for all values, else a list of them and of their ranges.
func setText(set uint64, f *field) string {
	if bits.OnesCount64(set) == f.hi-f.lo+1 {
		return "*"
	}
	return strings.Join(setItems(set), ",")
}

func setItems(set uint64) (items []string) {
	for _, r := range runs(set) {
		if r.lo == r.hi {
			items = append(items, strconv.Itoa(r.lo))
		} else {
			items = append(items, fmt.Sprintf("%d-%d", r.lo, r.hi))
		}
	}
	return items
}

// run is a row of values that follow each other.
type run struct{ lo, hi int }

// runs cuts a set into rows; two neighbours are no row, as people write them.
func runs(set uint64) (list []run) {
	for set != 0 {
		lo := bits.TrailingZeros64(set)
		hi := lo + bits.TrailingZeros64(^(set >> lo)) - 1
		set &^= (1<<(hi-lo+1) - 1) << lo
		if hi == lo+1 {
			list = append(list, run{lo, lo})
			lo = hi
		}
		list = append(list, run{lo, hi})
	}
	return list
}

func (f *monthDays) String() string {
	if f.any {
		return "*"
	}
	items := setItems(uint64(f.days))
	for b := f.nearest; b != 0; b &= b - 1 {
		items = append(items, strconv.Itoa(bits.TrailingZeros32(b))+"W")
	}
	for b := f.beforeLast; b != 0; b &= b - 1 {
		if n := bits.TrailingZeros32(b); n > 0 {
			items = append(items, "L-"+strconv.Itoa(n))
		} else {
			items = append(items, "L")
		}
	}
	if f.lastWorkday {
		items = append(items, "LW")
	}
	return strings.Join(items, ",")
}

func (f *weekDays) String() string {
	if f.any {
		return "*"
	}
	items := setItems(uint64(f.days))
	for b := f.nth; b != 0; b &= b - 1 {
		i := bits.TrailingZeros64(b)
		items = append(items, fmt.Sprintf("%d#%d", i/8, i%8))
	}
	for b := f.last; b != 0; b &= b - 1 {
		items = append(items, strconv.Itoa(bits.TrailingZeros8(uint8(b)))+"L")
	}
	return strings.Join(items, ",")
}
