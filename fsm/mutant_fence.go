//go:build mutant_fence

package fsm

const mutant = "fence"
