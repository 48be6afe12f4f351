// Package clustertest runs several nodes of a cluster in one process, over a network in
// memory that can be cut, slowed down and repeated in every direction.
//
// The nodes are real: package cluster with its log on disk. Their state machine is
// either fsm's, or one in memory that is quick enough for hours of virtual time in a
// bubble of testing/synctest, where a slow disk is no time at all.
//
//	c := clustertest.Start(t, clustertest.Config{Nodes: 3})
//	l := c.Leader()
//	c.Net.Isolate(l.ID)
//	…
//	c.Net.Heal()
//	c.Agree()
package clustertest
