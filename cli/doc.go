// Package cli is the command line of Orrery: one file per command, on top of the
// packages server (for commands that run a node), agent (for those that run an
// agent) and client (for all others, which speak with a running node).
//
// Main is what the program's main function calls. Run is the same without the
// process around it: arguments, streams and environment come in, an exit code
// comes out; tests use it.
//
// How commands speak is decided in output.go, what their exit codes mean in
// exit.go.
package cli
