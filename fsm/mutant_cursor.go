//go:build mutant_cursor

package fsm

const mutant = "cursor"
