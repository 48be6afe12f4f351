package cli

import (
	"errors"
	"slices"
	"strconv"
	"strings"

	"github.com/orrery-io/orrery/client"
)

// faulty shows the mistakes of expressions and exclusions where they are:
//
//	0 0 30 2 *
//	    ^ there is never such a day: February has no day 30
//
// Every other error comes back as it is.
func faulty(err error, expressions, exclude []string) error {
	e, ok := errors.AsType[*client.Error](err)
	if !ok {
		return err
	}
	var fields, places []string
	for _, f := range e.Errors {
		line := placed(f.Pointer, expressions, exclude)
		if f.Position == 0 || line == "" {
			fields = append(fields, strings.TrimLeft(f.Pointer, "/")+": "+f.Detail)
			continue
		}
		_, what, _ := strings.Cut(f.Detail, ": ")
		places = append(places, printable(line), strings.Repeat(" ", f.Position-1)+"^ "+what)
	}
	if len(places) == 0 {
		return err
	}
	all := slices.Concat([]string{"it is not clear when it fires:"}, fields, places)
	return failuref("nothing was changed; docs/schedules.md has the language, and --dry-run shows what an expression does", "%s", strings.Join(all, "\n  "))
}

// placed is the text of a list that a pointer means, "" for none.
func placed(pointer string, expressions, exclude []string) string {
	for prefix, list := range map[string][]string{"/expressions/": expressions, "/exclude/": exclude} {
		number, ok := strings.CutPrefix(pointer, prefix)
		if i, err := strconv.Atoi(number); ok && err == nil && i < len(list) {
			return list[i]
		}
	}
	return ""
}
