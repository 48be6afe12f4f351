package keyring

import (
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"math/big"
	"strings"
	"time"
)

// keySize is the length of a key in bytes.
const keySize = 32

// Certificates are valid from the beginning to the end of what X.509 can write.
var (
	begin = time.Date(1970, 1, 1, 0, 0, 0, 0, time.UTC)
	end   = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)
)

// Generate makes a new key: 32 random bytes as base64, without a newline.
func Generate() string {
	secret := make([]byte, keySize)
	_, _ = rand.Read(secret) // never fails
	return base64.StdEncoding.EncodeToString(secret)
}

// key is one cluster key and what comes from it.
type key struct {
	id     string // names it in logs; says nothing about the secret
	gossip []byte
	ca     *x509.Certificate
	sign   ed25519.PrivateKey
}

// parse reads a key as Generate writes it. Its error begins with "is", to follow a
// word for where it was found, and never repeats the text: that may be the key.
func parse(text string) (*key, error) {
	secret, err := base64.RawStdEncoding.Strict().DecodeString(strings.TrimRight(text, "="))
	switch {
	case err != nil:
		return nil, fmt.Errorf("is no cluster key, because it is not base64; `orrery cluster key` makes one")
	case len(secret) != keySize:
		return nil, fmt.Errorf("is no cluster key, because it is %d bytes long instead of %d; `orrery cluster key` makes one", len(secret), keySize)
	}
	return derive(secret)
}

// derive is the same function on every node and in every version: each output has a
// label of its own, and what is made from them contains no chance and no time.
func derive(secret []byte) (*key, error) {
	prk, err := hkdf.Extract(sha256.New, secret, []byte("orrery cluster key"))
	if err != nil {
		return nil, err
	}
	var firstErr error
	expand := func(label string, size int) []byte {
		out, err := hkdf.Expand(sha256.New, prk, "orrery v1 "+label, size)
		if firstErr == nil {
			firstErr = err
		}
		return out
	}
	id, gossip := expand("id", 4), expand("gossip", keySize)
	seed, serial := expand("ca", ed25519.SeedSize), expand("ca serial", 16)
	if firstErr != nil {
		return nil, firstErr
	}
	serial[0] = serial[0]&0x7f | 0x40 // positive, and always of the same length
	k := &key{id: hex.EncodeToString(id), gossip: gossip, sign: ed25519.NewKeyFromSeed(seed)}
	template := &x509.Certificate{
		SerialNumber:          new(big.Int).SetBytes(serial),
		Subject:               pkix.Name{CommonName: "Orrery cluster key " + k.id},
		SubjectKeyId:          serial,
		NotBefore:             begin,
		NotAfter:              end,
		IsCA:                  true,
		BasicConstraintsValid: true,
		MaxPathLenZero:        true,
		KeyUsage:              x509.KeyUsageCertSign,
	}
	// Ed25519 signatures need no randomness.
	der, err := x509.CreateCertificate(nil, template, template, k.sign.Public(), k.sign)
	if err != nil {
		return nil, fmt.Errorf("make the certificate authority: %w", err)
	}
	if k.ca, err = x509.ParseCertificate(der); err != nil {
		return nil, fmt.Errorf("make the certificate authority: %w", err)
	}
	return k, nil
}

// issue makes a certificate for a node, with a private key of its own.
func (k *key) issue(node string) (*tls.Certificate, error) {
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	serial := make([]byte, 16)
	_, _ = rand.Read(serial) // never fails
	serial[0] = serial[0]&0x7f | 0x40
	template := &x509.Certificate{
		SerialNumber: new(big.Int).SetBytes(serial),
		Subject:      pkix.Name{CommonName: node},
		NotBefore:    begin,
		NotAfter:     end,
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, k.ca, public, k.sign)
	if err != nil {
		return nil, fmt.Errorf("issue a certificate for node %s: %w", node, err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("issue a certificate for node %s: %w", node, err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: private, Leaf: leaf}, nil
}
