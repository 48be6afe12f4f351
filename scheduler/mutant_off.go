//go:build !mutant_fence

package scheduler

// mutant names the safety that is taken out of this build, to prove that the chaos
// suite would see it missing (scripts/mutants.sh). It is "" in every program that is
// meant to work.
const mutant = ""
