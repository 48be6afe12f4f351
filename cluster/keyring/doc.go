// Package keyring turns the cluster key, one secret that all nodes share, into
// everything that protects the traffic between them.
//
// A key is 32 random bytes, written as one line of base64. From it come, by HKDF, the
// key of the gossip packets and the private key of a certificate authority that is the
// same on every node. At start each node issues itself a certificate that carries its
// id; two nodes speak TLS 1.3, and each shows the other a certificate of that
// authority. So who has the key is a node, who doesn't have it is nobody, and there is
// nothing to issue, distribute or renew.
//
// # Rotation
//
// A key file may hold several keys, one per line: the first is used, all are accepted.
// A new key goes through every node's file in three steps, while the nodes run:
//
//	add    old, new   accepted everywhere
//	use    new, old   used, the old one still accepted
//	drop   new        connections made with the old one are closed
//
// A Ring follows its file; TLS configurations made by it follow the ring.
//
// # Time
//
// Certificates don't expire, and no clock is asked when they are checked: a node with a
// wrong clock is not refused for it. Their life is that of the process, and of the key.
package keyring
