//go:build mutant_time

package fsm

const mutant = "time"
