package cluster

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"

	"go.etcd.io/bbolt"
)

// findDamage reads through the file of a log before it is opened for good. Bolt
// collects the free pages of a file in a goroutine of its own, and what is wrong
// with a page ends the process there, by a panic or a fault. Here it becomes an
// error. Entries are not looked into; there is nothing to compare them with.
func findDamage(path string) (err error) {
	info, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) || err == nil && info.Size() == 0 {
		return nil // a new log
	}
	if err != nil {
		return err
	}
	// The file is mapped: to read behind its end is a fault.
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("%w: %v", errDamaged, v)
		}
	}()
	if info.Size() < leastFile {
		return fmt.Errorf("%w: it has only %d bytes", errDamaged, info.Size())
	}
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true, Timeout: openTimeout})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	return db.View(func(tx *bbolt.Tx) error {
		if tx.Size() > info.Size() {
			return fmt.Errorf("%w: it was cut to %d of %d bytes", errDamaged, info.Size(), tx.Size())
		}
		return tx.ForEach(func(_ []byte, b *bbolt.Bucket) error { return readAll(b) })
	})
}

// leastFile is what bolt writes into a new file: four pages, in bytes.
const leastFile = 4 * 4096

var errDamaged = errors.New("the file is damaged")

// readAll touches every page of a bucket, and checks that its keys are in order.
func readAll(b *bbolt.Bucket) error {
	var before []byte
	var last byte
	c := b.Cursor()
	for k, v := c.First(); k != nil; k, v = c.Next() {
		if before != nil && bytes.Compare(before, k) >= 0 {
			return fmt.Errorf("%w: keys are out of order", errDamaged)
		}
		before = k
		if len(v) > 0 {
			last ^= v[len(v)-1] // a wrong length is a fault now, not later
		}
	}
	runtime.KeepAlive(last)
	return nil
}
