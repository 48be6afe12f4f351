// Package scheduler takes the leader's decisions: which waiting job goes to which
// agent, when an attempt is given up for lost, whether a failed job runs again and
// when, what has come due, what has expired and what may be forgotten.
//
// It runs on the leader only, for one term at a time. Lead loads what a term needs
// to know, follows the change feed, and proposes commands; nothing that it knows
// is durable, and nothing is true before the state machine has applied it. What
// lives here is soft: the sessions of the agents, their leases, what they hold, and
// windows on the waiting work. A new leader rebuilds it from the state machine and
// from what the agents say when they come Up.
//
//	agents ── Deliver ─▶ inbox ─┐                  ┌─▶ record loop ── Propose ─▶ log
//	                            ├─▶ term (a mutex) ┤                              │
//	feed  ◀── Subscribe ── events                  └─▶ dispatch loop ─ Propose ──▶│
//	  ▲                                                                           │
//	  └────────────────────────────── state machine ◀─────────────────────────────┘
//
// Waiting work is grouped by (queue, type); a group has a bounded window in memory
// on the jobs that come first, and the rest of it stays in the database (window.go).
// Agents that serve the same queues and types form a class, which knows its agents
// with credit and its groups with work (match.go). Whatever changes either of the
// two wakes the class, and the dispatch loop decides all that can be decided, in
// one proposal (dispatch.go). A submission for which an agent is free is dispatched
// by the very entry that records it (prepare.go).
//
// # Ticks
//
// What a schedule plans is a function of its row (package cron); what has become of it
// is in the row's cursor: every planned time up to it has been decided. Two loops
// (tick_loop.go) take the schedules that have come due, by the wall clock, decide by
// their rows as they are applied here (tick.go), and propose the decisions. Apply
// refuses one that is not behind the cursor or was made for another definition, so
// it does no harm that a leader before, or this one, has proposed it already and does
// not know what became of it: the row is looked at again.
//
//	          due ──▶ decide ──▶ Tick{planned, action, next} ──▶ log
//	           ▲                                                  │
//	plans ─────┘◀── the row, once the decision is applied ────────┘
//
// A row says when its next tick is, so a term begins without making any rule.
//
// # One holder
//
// An attempt belongs to one agent until the log says otherwise. Three things end it
// without a result, and each only when the agent, if it obeys the protocol, can no
// longer be executing it or has been told in the same ordered stream to drop it:
//
//   - its lease has run out (lease.go): the agent has cancelled its work before;
//   - the agent itself said what it has, and the attempt was not in the list;
//   - it was not acknowledged in time, and the agent, which is alive, does not list
//     it (attempt.go).
//
// # At most once
//
// A job with MaxAttempts 1 is executed at most once. Whenever the dispatch of such
// an attempt was sent and the agent did not explicitly reject it, the handler may
// have begun: not having been acknowledged proves nothing, because the
// acknowledgement, or the agent's whole process, may have been lost after the
// handler began. So a lost attempt and a revoked one both end the job as failed
// with the kind "lost". It waits again only if the agent rejected the dispatch, or
// if this leader knows that it never reached the agent: because it was not sent, or
// because the agent's node says so when it ends the session or announces it again
// (lease.go). A dispatch that was lost on its way to a session that is open is sent
// again.
package scheduler
