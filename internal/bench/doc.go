// Package bench measures a running cluster from outside, as its users meet it: HTTP
// for those who submit, a WebSocket for the agents that execute. `orrery bench` is
// its command line.
//
// Run does one measurement. It makes a queue of its own, loads the cluster, compares
// what it counted with what the cluster counted, executes whatever is left in its
// queue, and returns a Report. Two ways of loading answer two questions:
//
//   - In a closed loop each connection sends its next request when the one before has
//     been answered. That finds the highest rate; its latencies are those of exactly
//     so many callers, who wait politely while the cluster is slow.
//   - In an open loop (Config.Rate) requests have times at which they are due,
//     whatever became of those before. Every latency counts from that moment, also
//     when the request could not be sent then, because that is what a user would
//     have waited for. A cluster that can't follow shows latencies that grow, and
//     the report says how many requests were late.
//
// The load comes from the same machine's processors when the cluster runs there, so
// it is cheap: requests are rendered once, and each connection writes and reads its
// own socket without a goroutine in between. With a server that answers at once, which
// takes its part, a request costs 25 µs of processor time this way and 60 µs by package
// client; a node's work on a job takes 40. Agents are those of package agent.
package bench
