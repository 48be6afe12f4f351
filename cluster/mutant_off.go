//go:build !mutant_ack && !mutant_read && !mutant_nosync

package cluster

// mutant names the safety that is taken out of this build, to prove that the chaos
// suite would see it missing (scripts/mutants.sh). It is "" in every program that is
// meant to work.
const mutant = ""

// acknowledgeEarly does nothing but in the mutant "ack".
func (p *proposer) acknowledgeEarly(*entry) {}
