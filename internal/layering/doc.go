// Package layering holds no code, only tests that read the repository: which
// package may import which, what the state machine may do, how packages and
// files are named, and that every dependency has its reason written down.
//
// The order of the packages is the table in layering_test.go. It says the same
// as the picture in ARCHITECTURE.md; change both together.
package layering
