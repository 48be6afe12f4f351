// Package cluster makes every change durable and gives it its place in one order:
// it runs Raft, hands what is committed to the state machine (fsm), and tells the
// leader when it leads.
//
// # Proposing
//
// All changes go through Node.Propose. One goroutine collects the commands of all
// callers, whatever their kind, and puts as many as there are into one log entry as
// soon as the entry before has returned: an idle node records at once, a busy one
// commits many commands with one fsync. Nothing waits for a batch to fill.
//
//	callers → queue → proposer: Prepare, encode → raft: log, fsync, commit
//	                                                  ↓
//	callers ← completer: done, results ←──────── Machine.Apply
//
// A caller learns one of three things: the result, that nothing was recorded
// (job.ErrNotLeader, job.ErrClosed, the context's error), or that nobody can tell
// (job.ErrOutcomeUnknown).
//
// A node that doesn't lead forwards: the calls of all its clients leave together, in
// few requests, and the leader puts them into its queue. While there is no leader they
// wait a few seconds for one. Afterwards the follower waits until it has applied what
// was recorded, so that a client reads its own writes; a notice from the leader tells
// it at once what is committed.
//
// The leader encodes anew what was forwarded. While versions are mixed it refuses what
// has a field or a kind that it doesn't know, so that nothing is acknowledged in part.
//
// The leader refuses commands that make new jobs (job.Overloaded) while a living server
// is so far behind that the log might no longer reach back to it.
//
// # Reading
//
// Node.ReadIndex gives an index for a linearizable read on any node: the leader's, once
// a majority of the voters has said that it knows no later term. All who wait at the
// same time share one question.
//
// # Terms
//
// When this node wins an election it waits until everything committed before is
// applied, gives an empty cluster its schema and id, opens the proposer, and calls
// Config.Lead. When it loses the leadership, the context of Lead ends, and the next
// term waits until Lead has returned. What is proposed with that context is recorded in
// its term or not at all.
//
// A leader that stops ends its term, lets what is in flight finish, hands the leadership
// to the voter with the longest log that answers, and sends the calls that it still has
// there.
//
// # Members
//
// A node that is no member announces itself to whoever Config.Contacts names
// (join.go). The leader adds it without a vote, and gives it one when it has applied
// what the leader had applied a moment ago, hears the leader, and has answered every
// question for two seconds (tend.go): so a node that comes and goes, or that could
// not keep up, never counts.
//
//	fresh → announced → added, no vote → log or a copy of the database → voter
//	                                                  removed ← silent for days, or by hand
//
// What the leader knows of the others it asks them, four times a second, for as long
// as it leads (census.go). Nothing is decided on hearsay. Addresses may change: a node
// that finds itself in the configuration at another address than its own says so, and
// the leader corrects its own. To replace a node, let the new one join, and remove the
// old one when the new one has its vote.
//
// A node that was removed remembers it and ends with ErrRemoved, now and at every
// start; one that was away then is told when it comes back. An id never comes back.
//
// # Snapshots
//
// The local database is the snapshot. What Raft calls a snapshot is a marker here, a
// row in that database which says up to which entry it is complete on disk, so that
// the log before it may go. Only when another node needs a snapshot is the database
// copied, while work goes on, and streamed. See snapshot.go for the rules that keep
// markers, copies and the log in step, and start.go for what is checked at start:
// a log or a database that was lost or cut is never passed over in silence.
//
// A node of several that has lost its database gets it again from the leader. Until it
// has what it had acknowledged, it gives no vote to a node that lacks that, and asks
// for none (floor.go, guard.go). A backup is restored through Raft, so that nobody can
// miss it (restore.go), and when the majority is gone for good one node can go on alone
// under a new cluster id (recover.go).
//
// # Transport
//
// Transport is Raft's own network transport over the connections of the cluster port,
// with what it lacks. Nodes are addressed by id and found at their newest address. A
// database travels over a connection of its own, which may take as long as it likes
// but never stand still: Raft receives it in its main loop, so until a frozen sender
// is given up (5s) the receiver has no vote. Raft's own limit on the whole, by size,
// doesn't apply, and its TimeoutScale has no part. A vote is asked for again when the
// idle connection it was sent over turns out to be from before a restart. Entries for
// a node that can't be reached wait for the next heartbeat that gets through, because
// Raft by itself would leave the node alone for up to ten seconds after it is back.
package cluster
