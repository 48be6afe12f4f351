// Package port is the cluster port of a node: one address, TCP and UDP, over which the
// nodes of a cluster speak, and nobody else gets a word.
//
// Everything over TCP is TLS 1.3 in which both sides show to have the cluster key (see
// cluster/keyring). Several protocols share the port: the one who connects names what
// it wants to speak (ALPN), and the connection comes out of the Listener of that
// protocol. After the handshake each side says hello: its node id, which must be that
// of its certificate, the id of its cluster, and its version. Nodes of two different
// clusters refuse each other, even when they have the same key.
//
//	dial ── TCP ── TLS, both certificates ── hello → ── ← hello ── Conn
//	                 wrong key, protocol       foreign cluster, busy
//
// # Strangers
//
// Until the handshake is done, nothing is known about the other side, and nothing that
// it sends is interpreted but the handshake itself. Such connections have five seconds
// and are bounded in number; when there are too many, the oldest one of the host with
// the most of them goes, so that a flood from one host keeps nobody else out. Refused
// ones are counted by reason.
//
// UDP carries gossip packets, which that package encrypts with a key from the same
// secret. This package only binds the socket.
package port
