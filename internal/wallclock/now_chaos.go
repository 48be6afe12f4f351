//go:build chaos

package wallclock

import (
	"os"
	"strconv"
	"strings"
	"time"
)

// Now returns what the machine's clock shows, and is ahead of it by as many
// milliseconds as the file says that ORRERY_CHAOS_CLOCK names.
func Now() time.Time {
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
