//go:build chaos

package cluster

import (
	"os"
	"strconv"
	"strings"
	"time"
)

// now is the clock from which entries get their time. In programs for the chaos
// suite it is ahead of the real one by as many milliseconds as the file says that
// ORRERY_CHAOS_CLOCK names.
func now() time.Time {
	t := time.Now()
	file := os.Getenv("ORRERY_CHAOS_CLOCK")
	if file == "" {
		return t
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return t
	}
	ahead, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	if err != nil {
		return t
	}
	return t.Add(time.Duration(ahead) * time.Millisecond)
}
