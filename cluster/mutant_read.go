//go:build mutant_read

package cluster

const mutant = "read"

func (p *proposer) acknowledgeEarly(*entry) {}
