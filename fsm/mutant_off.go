//go:build !mutant_cursor && !mutant_fence && !mutant_request && !mutant_time

package fsm

// mutant names the safety that is taken out of this build, to prove that the chaos
// suite would see it missing (scripts/mutants.sh). It is "" in every program that is
// meant to work.
const mutant = ""
