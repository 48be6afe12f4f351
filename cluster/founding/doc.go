// Package founding decides who begins a new cluster: nodes that were started together
// with --bootstrap-expect n agree on one list of n founders and on the id of their
// cluster, in such a way that halves that cannot see each other never begin two.
//
// # How it goes
//
// Each new node looks, by gossip, for members of a cluster and for other new nodes
// that expect the same number. When it sees a member, it joins that cluster and never
// founds one. When n new nodes see each other, the one with the lowest id proposes the
// n lowest:
//
//	proposer                                   each of the others
//	  ready? (list)  ────────────────────────▶  sees the same n lowest, is free
//	  writes its proposal to disk
//	  promise (number, list, cluster id) ────▶  writes the promise to disk
//	  has all n promises: writes "begun",
//	  then the first entry of the log
//	                     status? (number) ◀──── until it is known what became of it
//
// A proposal that is not promised by all n at the first try is given up: the proposer
// writes that down, and answers so when it is asked. There is no majority here: all n
// must promise.
//
// # Why two lists with a common node never both begin
//
// A node has at most one promise at a time, on disk before it is given. It is free of
// it only when the proposer itself says that this proposal, by its number, was given
// up, or replaces it by a later one of its own, which it makes only after that. A
// proposer writes "given up" and "begun" into the same file, each for ever: one of the
// two excludes the other, and it begins at most one proposal in its life. Numbers are
// never used twice.
//
// Suppose that (p, k) and (q, j) have both begun and have a node x in common. x has
// promised both; say (p, k) first. If p = q, it has begun twice, which its file
// excludes. Otherwise x was free of (p, k) before it promised (q, j), so p had given k
// up, and can't have begun it, before or after.
//
// So with fewer than 2n new nodes at most one list ever begins. With 2n or more, two
// groups that never saw each other can each have all that they were told to wait for.
// Nobody but the operator can know then that it should have been one cluster.
//
// # What if somebody dies
//
// A node that dies before its promise holds nobody up longer than one try. A proposer
// that dies in the middle gives its proposal up when it comes back. One that died after
// it has begun is already a member, and brings the others in when it comes back;
// Found gives the same answer again if it had not written its log yet. A node whose
// proposer never comes back waits, and says so: it can't know whether the cluster has
// begun. Its data folder holds nothing yet and may be removed.
package founding
