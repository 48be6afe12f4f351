package fsm

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"os"
	"slices"

	"github.com/orrery-io/orrery/job"
)

// A database that was not closed has a part of its content in the write-ahead log
// beside it, and SQLite takes whatever log lies there: beside a file that somebody
// has put back, the old log gives a mixture of both, which no check of the pages has
// to notice. So each database file has an id, and counts its transactions. Both are
// in the row of meta, the stamp, which every transaction writes. A log that begins
// with transaction n and ends with m belongs to a file of the same id that has one of
// n-1 to m.

// stampSize is the length of a stamp: an id of 16 bytes, and the count.
const stampSize = 24

type stamp [stampSize]byte

// newStamp is for a file that has no log beside it.
func newStamp() (s stamp) {
	_, _ = rand.Read(s[:16]) // never fails
	return s
}

func (s stamp) count() uint64 { return binary.BigEndian.Uint64(s[16:]) }

func (s stamp) sameFile(t stamp) bool { return bytes.Equal(s[:16], t[:16]) }

// next is the stamp for the next transaction.
func (s stamp) next() stamp {
	binary.BigEndian.PutUint64(s[16:], s.count()+1)
	return s
}

const (
	sqlStamp     = "UPDATE meta SET stamp = ?"
	sqlReadStamp = "SELECT stamp FROM meta"
	// metaPage is the page with the row of meta, the first table of the schema.
	metaPage = 2
)

// readStamp reads the stamp as SQLite sees it, with the log.
func (s *store) readStamp(ctx context.Context) error {
	var b []byte
	if err := s.conn.QueryRowContext(ctx, sqlReadStamp).Scan(&b); err != nil {
		return err
	}
	if len(b) != stampSize {
		return job.Errorf(job.Unavailable, "database_damaged",
			"%s is a backup, not the database of a node; put back the file that was there, start this node, and give the backup to `orrery restore`", s.path)
	}
	s.stamp = stamp(b)
	return nil
}

// restamp makes a file that nobody has open one of its own.
func restamp(ctx context.Context, path string) error {
	s := newStamp()
	return rewrite(ctx, path, sqlStamp, s[:])
}

// checkLog refuses a database whose write-ahead log belongs to another one. Nobody
// has it open.
func checkLog(path string) error {
	first, last, ok, err := logStamps(path + "-wal")
	switch {
	case err != nil:
		return explainLog(path, err)
	case !ok, first.count() == 0 && first != stamp{}:
		return nil // there is nothing in it; or all of the database is
	}
	have, err := fileStamp(path)
	if err != nil {
		return explainLog(path, err)
	}
	if first == (stamp{}) || !have.sameFile(first) || !have.sameFile(last) || have.count()+1 < first.count() || have.count() > last.count() {
		return job.Errorf(job.Unavailable, "database_damaged",
			"the write-ahead log %s-wal belongs to another database than %s; one of the two was replaced: put back the one that was there, or restore the data folder from a backup, or remove this node and let it join again with an empty one", path, path)
	}
	return nil
}

func explainLog(path string, err error) error {
	return job.Errorf(job.Unavailable, "database_unreadable",
		"the database %s and its write-ahead log cannot be read (%s); check the disk, and make the data folder readable for the user that runs this node", path, pathReason(err))
}

// fileStamp is the stamp in the file itself, without its log; zero when it has none.
func fileStamp(path string) (stamp, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return stamp{}, nil
	}
	if err != nil {
		return stamp{}, err
	}
	defer f.Close()
	header := make([]byte, 18)
	if _, err := f.ReadAt(header, 0); err != nil {
		return stamp{}, notEOF(err)
	}
	size := int64(binary.BigEndian.Uint16(header[16:]))
	if size == 1 {
		size = 1 << 16
	}
	page := make([]byte, size)
	if _, err := f.ReadAt(page, (metaPage-1)*size); err != nil {
		return stamp{}, notEOF(err)
	}
	return pageStamp(page), nil
}

// notEOF makes no error of a file that is too short.
func notEOF(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil
	}
	return err
}

// logStamps are what the first and the last transaction in a write-ahead log have
// stamped, zero when that is nothing. It returns false when there is no whole
// transaction, so that SQLite passes over the log. The format is in
// https://www.sqlite.org/fileformat2.html#walformat.
func logStamps(path string) (first, last stamp, ok bool, err error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return first, last, false, nil
	}
	if err != nil {
		return first, last, false, err
	}
	defer f.Close()
	r := bufio.NewReaderSize(f, 1<<20)
	header := make([]byte, 32)
	if _, err := io.ReadFull(r, header); err != nil {
		return first, last, false, notEOF(err)
	}
	const magic = 0x377f0682 // or one more
	word, size := binary.BigEndian.Uint32(header), binary.BigEndian.Uint32(header[8:])
	sum := checksum{order: binary.LittleEndian}
	if word&1 == 1 {
		sum.order = binary.BigEndian
	}
	if sum.add(header[:24]); word&^1 != magic || size < 512 || size > 1<<16 || !sum.is(header[24:]) {
		return first, last, false, nil
	}
	frame := make([]byte, 24+size)
	var now stamp
	for {
		if _, err := io.ReadFull(r, frame); err != nil {
			return first, last, ok, notEOF(err)
		}
		sum.add(frame[:8])
		sum.add(frame[24:])
		if !bytes.Equal(frame[8:16], header[16:24]) || !sum.is(frame[16:]) {
			return first, last, ok, nil
		}
		if binary.BigEndian.Uint32(frame) == metaPage {
			now = pageStamp(frame[24:])
		}
		if binary.BigEndian.Uint32(frame[4:]) == 0 {
			continue
		}
		if !ok { // the end of the first transaction
			first, ok = now, true
		}
		last = now
	}
}

// checksum is that of write-ahead logs.
type checksum struct {
	order  binary.ByteOrder
	s0, s1 uint32
}

func (c *checksum) add(b []byte) {
	for p := range slices.Chunk(b, 8) {
		c.s0 += c.order.Uint32(p) + c.s1
		c.s1 += c.order.Uint32(p[4:]) + c.s0
	}
}

func (c *checksum) is(b []byte) bool {
	return c.s0 == binary.BigEndian.Uint32(b) && c.s1 == binary.BigEndian.Uint32(b[4:])
}

// pageStamp reads the stamp from the page of meta: a leaf with one row, whose first
// value in the record is the stamp. It is zero when the page is another one.
func pageStamp(page []byte) (s stamp) {
	const leaf, blob = 0x0d, 12 + 2*stampSize
	if page[0] != leaf || binary.BigEndian.Uint16(page[3:]) != 1 {
		return s
	}
	cell := page[min(int(binary.BigEndian.Uint16(page[8:])), len(page)):]
	for range 2 { // the size of the record, and the id
		n := slices.IndexFunc(cell, func(b byte) bool { return b < 0x80 })
		cell = cell[n+1:]
	}
	// The record: the size of its head, a type for each column, the values. The type
	// of the id is NULL.
	if len(cell) < 3 || cell[0] >= 0x80 || cell[1] != 0 || cell[2] != blob || len(cell) < int(cell[0])+stampSize {
		return s
	}
	return stamp(cell[cell[0]:][:stampSize])
}
