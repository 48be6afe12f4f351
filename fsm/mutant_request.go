//go:build mutant_request

package fsm

const mutant = "request"
