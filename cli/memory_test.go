package cli

import "testing"

func TestGCPercent(t *testing.T) {
	for _, tt := range []struct {
		name string
		live uint64
		want int
	}{
		{"nothing is known yet", 0, mostGCPercent},
		{"an idle node", 8 << 20, mostGCPercent},
		{"a busy node stays below the aim", heapAim / 4, 300},
		{"half of the aim", heapAim / 2, leastGCPercent},
		{"more than the aim", 3 * heapAim, leastGCPercent},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := gcPercent(tt.live); got != tt.want {
				t.Errorf("got %d, want %d", got, tt.want)
			}
		})
	}
}
