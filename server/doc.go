// Package server builds one node out of the packages below it and runs it: the
// state machine, consensus, the leader's scheduler, the hub of agents, and the
// HTTP API, in one process and one data folder.
//
// New checks the configuration and opens everything, so that what is wrong with
// the folder or the address is said before anything runs. Run blocks until its
// context ends or a part fails; it stops the parts in the opposite order.
//
// A data folder holds:
//
//	LOCK       held while a node runs, so that two never share a folder
//	node.json  who this node is, and which layout the folder has
//	db/        the state machine's database, by generation
//	raft/      the log, and what Raft must remember about votes
//	backups/   the backups that the node makes of itself
//	scratch/   files that nobody needs after a restart
//
// founding.json is there while nodes agree on who begins a cluster.
package server
