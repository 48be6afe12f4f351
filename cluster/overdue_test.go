package cluster

import (
	"bufio"
	"fmt"
	"os"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestOverdue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var late atomic.Int32
		began := time.Now()
		o := newOverdue(5*time.Second, func() { late.Add(1) })
		time.Sleep(5*time.Second - time.Nanosecond)
		synctest.Wait()
		if late.Load() != 0 {
			t.Errorf("late after %s", time.Since(began))
		}
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		if late.Load() != 1 {
			t.Error("not late after the limit")
		}
		o.stop()
		newOverdue(5*time.Second, func() { late.Add(1) }).stop()
		time.Sleep(time.Minute)
		synctest.Wait()
		if late.Load() != 1 {
			t.Errorf("late %d times", late.Load())
		}
	})
}

const overdueChild = "ORRERY_TEST_OVERDUE"

// pausedLimit is the limit of the child; it is paused for longer.
const pausedLimit = 2 * time.Second

// TestOverdueChild is no test of its own: it is the process that TestOverduePaused
// pauses while it waits for something.
func TestOverdueChild(t *testing.T) {
	if os.Getenv(overdueChild) == "" {
		t.Skip("runs as a child of TestOverduePaused only")
	}
	o := newOverdue(pausedLimit, func() { fmt.Println("late"); os.Exit(0) })
	fmt.Println("waiting")
	_, _ = bufio.NewReader(os.Stdin).ReadString('\n')
	o.stop()
	fmt.Println("in time")
}
