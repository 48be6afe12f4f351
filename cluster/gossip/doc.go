// Package gossip finds the other nodes and tells who is there: it spreads where each
// node is, which cluster it belongs to and whether it still answers, with the SWIM
// protocol of hashicorp/memberlist, over the cluster port.
//
// Nothing is decided by what it says. Who is a member, who votes and who leads is in
// the log; gossip brings a new node to a first contact, knows the newest address of a
// node id, and lets people see what is going on. A cluster works on while gossip
// fails.
//
// # Names and addresses
//
// To memberlist each start of a process is a node of its own, named after the node's
// id and the time of the start. So a node that was killed and comes back at another
// address is taken in at once; memberlist alone would call that a conflict until it
// has given up the old address. Peers are told by node id: of several starts the
// newest one that answers counts. When two starts of one id go on answering beside
// each other, somebody runs two processes on copies of one data folder; that is logged
// as an error.
//
// # Joining
//
// A node knows addresses from three sources: Config.Join, Config.Known (the members
// as it last knew them), and everybody whom it has seen. It tries all that are not
// alive, again and again, resolving names anew each time: until somebody answers in
// quick succession, later now and then, so that two halves find each other again
// after a cut however long it was.
//
// # Encryption
//
// Streams come from the cluster port and are mutual TLS already. Packets are sealed in
// the transport with AES-256-GCM under the keys of the key file: the first seals, any
// of them opens, read anew for every packet, so a key can change while nodes run.
// memberlist's own keyring is not used: it would encrypt the streams a second time,
// it changes its list under the feet of those who read it when a key is removed, and
// what it refuses it only logs. Here packets that don't open are dropped before
// anything looks into them, and counted.
//
// # Other clusters
//
// A node of another cluster is never taken in, not by joining, not by hearsay, also
// when it was new when it was first seen.
package gossip

//go:generate go tool -modfile=../../tools.mod msgp -unexported=true -tests=false -io=false -file=meta.go -o=meta_gen.go
