//go:build race

package cluster

// raceDetector is true when tests run with it. Raft v1.8 reads the id of a follower
// (replication.go, updateLastAppended) while it writes the same id again, with a new
// address: harmless, but the detector doesn't know that. Tests leave changes of
// addresses out then.
const raceDetector = true
