package gossip

import (
	"crypto/aes"
	"crypto/cipher"
	"errors"
	"fmt"
)

// A sealed packet is this byte, 12 random bytes, the ciphertext and a tag of 16.
const (
	sealVersion = 1
	sealCost    = 1 + 12 + 16
)

// header is what every packet begins with; it is authenticated too.
func header() []byte { return []byte{sealVersion} }

var errSealed = errors.New("the packet is no packet of a node with the same cluster key")

// seal encrypts a packet under the first key.
func seal(keys [][]byte, packet []byte) ([]byte, error) {
	if len(keys) == 0 {
		return nil, errors.New("there is no key to seal packets with")
	}
	aead, err := opener(keys[0])
	if err != nil {
		return nil, err
	}
	out := append(make([]byte, 0, sealCost+len(packet)), header()...)
	return aead.Seal(out, nil, packet, header()), nil
}

// open decrypts a packet with whichever key fits.
func open(keys [][]byte, packet []byte) ([]byte, error) {
	if len(packet) < sealCost || packet[0] != sealVersion {
		return nil, errSealed
	}
	for _, key := range keys {
		aead, err := opener(key)
		if err != nil {
			return nil, err
		}
		if plain, err := aead.Open(nil, nil, packet[1:], header()); err == nil {
			return plain, nil
		}
	}
	return nil, errSealed
}

func opener(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("gossip key: %w", err)
	}
	return cipher.NewGCMWithRandomNonce(block)
}
