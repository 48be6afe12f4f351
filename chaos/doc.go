// Package chaos proves the guarantees of Orrery with real processes: it starts
// nodes and agents of the real program, breaks what can break (processes,
// networks, disks, clocks) while clients work with them, and looks at the end,
// from outside, whether everything that was promised is true.
//
// All of it is in the tests of this package, so nothing of it is in the program.
// scripts/chaos.sh runs it; a plain go test runs only the tests of the checkers
// themselves.
//
//	seed ──▶ schedule of faults ──────────────┐
//	                                          ▼
//	clients ── proxies ──▶ nodes (orrery server, each its own disk) ◀── proxies ── agents
//	   │                      ▲  proxies between each two of them              │
//	   ▼                      │                                                ▼
//	history                 watch: terms, applied, event feed        executions, fake resource
//	   └──────────────────────────────┬────────────────────────────────────────┘
//	                                  ▼
//	                        eight invariants (check_*_test.go)
//
// The schedule is a function of the seed. What exactly a fault meets is not: that
// is up to the scheduler of the operating system. So a seed gives the same faults
// in the same order, and the history of a failed run is kept.
//
// As root on Linux each node has a small file system of its own, which can be
// frozen, filled, and cut off from its unwritten pages as by a loss of power;
// the process then also lives in namespaces of its own, so that nothing of it
// stays behind. Without root those faults are left out, and the run says so.
package chaos
