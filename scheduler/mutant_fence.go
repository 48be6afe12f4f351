//go:build mutant_fence

package scheduler

const mutant = "fence"
