package keyring

import (
	"bytes"
	"crypto/tls"
	"errors"
)

// Reasons for refusing the other side of a connection.
var (
	// ErrWrongKey means that its certificate was made with none of the keys here.
	ErrWrongKey = errors.New("the other side has another cluster key")
	// ErrNoCertificate means that it showed none.
	ErrNoCertificate = errors.New("the other side has shown no certificate")
)

// Peer is who is on the other side of a connection.
type Peer struct {
	// Node is its id.
	Node string
	// Key is the name of the key it has shown to have; see Ring.Has.
	Key string
}

// ServerConfig is for accepting connections as that node, over the protocols in alpn.
// Both sides must show a certificate. The configuration follows the ring: each
// handshake uses and accepts the keys of its moment.
func (r *Ring) ServerConfig(node string, alpn ...string) *tls.Config {
	return &tls.Config{
		MinVersion:             tls.VersionTLS13,
		ClientAuth:             tls.RequireAnyClientCert, // checked by VerifyConnection
		GetCertificate:         func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return r.leaf(node) },
		VerifyConnection:       r.verify,
		NextProtos:             alpn,
		SessionTicketsDisabled: true, // a resumed session would outlive its key
	}
}

// ClientConfig is for connecting as that node, over the protocol alpn. What
// ServerConfig says applies. Whether the other side is the node one looks for, and
// whether it speaks alpn, is for the caller to check.
func (r *Ring) ClientConfig(node, alpn string) *tls.Config {
	return &tls.Config{
		MinVersion:           tls.VersionTLS13,
		InsecureSkipVerify:   true, // checked by VerifyConnection: names are ids here, not hosts
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return r.leaf(node) },
		VerifyConnection:     r.verify,
		NextProtos:           []string{alpn},
	}
}

// leaf returns the certificate of a node by the key that is used now.
func (r *Ring) leaf(node string) (*tls.Certificate, error) {
	s := r.state.Load()
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := s.leaves[node]; c != nil {
		return c, nil
	}
	c, err := s.keys[0].issue(node)
	if err != nil {
		return nil, err
	}
	s.leaves[node] = c
	return c, nil
}

func (r *Ring) verify(cs tls.ConnectionState) error {
	_, err := r.Peer(cs)
	return err
}

// Peer tells who is on the other side, by the keys that are accepted now: the same
// connection may be refused after a change. Errors: ErrNoCertificate, ErrWrongKey.
func (r *Ring) Peer(cs tls.ConnectionState) (Peer, error) {
	if len(cs.PeerCertificates) == 0 {
		return Peer{}, ErrNoCertificate
	}
	leaf := cs.PeerCertificates[0]
	for _, k := range r.state.Load().keys {
		if !bytes.Equal(leaf.AuthorityKeyId, k.ca.SubjectKeyId) {
			continue
		}
		// The handshake has shown that the other side has the private key of leaf.
		// A node's certificate never signs others.
		if leaf.CheckSignatureFrom(k.ca) == nil && !leaf.IsCA && leaf.Subject.CommonName != "" {
			return Peer{Node: leaf.Subject.CommonName, Key: k.id}, nil
		}
	}
	return Peer{}, ErrWrongKey
}
