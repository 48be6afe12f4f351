// Logstore measures two stores for the log side by side: raft-boltdb, as package
// cluster opens it, and raft-wal; and for comparison the same bytes appended to a
// file. Each write is fsynced. The stores take turns, so that whatever else the
// machine does meets all of them alike.
//
//	cd scripts/logstore && go run . [-rounds 7] [-dir FOLDER]
//
// It is a module of its own, so that raft-wal is no dependency of the product.
package main

import (
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	wal "github.com/hashicorp/raft-wal"
	"go.etcd.io/bbolt"
)

// store is what raft asks of a log, as far as it is measured.
type store interface {
	StoreLogs(logs []*raft.Log) error
	DeleteRange(first, last uint64) error
	Close() error
}

// file appends to a file: the least that a write with fsync can cost.
type file struct{ *os.File }

func (f file) StoreLogs(logs []*raft.Log) error {
	for _, l := range logs {
		if _, err := f.Write(l.Data); err != nil {
			return err
		}
	}
	return f.Sync()
}

func (file) DeleteRange(uint64, uint64) error { return nil }

var stores = []struct {
	name string
	open func(dir string) (store, error)
}{
	{"raft-boltdb", func(dir string) (store, error) {
		return raftboltdb.New(raftboltdb.Options{
			Path:                    filepath.Join(dir, "raft.db"),
			BoltOptions:             &bbolt.Options{NoFreelistSync: true, FreelistType: bbolt.FreelistMapType},
			MsgpackUseNewTimeFormat: true,
		})
	}},
	{"raft-wal", func(dir string) (store, error) { return wal.Open(dir) }},
	{"file", func(dir string) (store, error) {
		f, err := os.Create(filepath.Join(dir, "file"))
		return file{f}, err
	}},
}

// keep is how many entries the log holds; what is older is deleted, as snapshots do.
const keep = 1024

func main() {
	rounds := flag.Int("rounds", 7, "how often each store takes its turn")
	dir := flag.String("dir", ".", "a folder on the disk to be measured")
	flag.Parse()
	if err := run(*rounds, *dir); err != nil {
		fmt.Fprintln(os.Stderr, "logstore:", err)
		os.Exit(1)
	}
}

func run(rounds int, dir string) error {
	fmt.Println("entry bytes  store        p50 us  p99 us  entries/s  MB on disk  times boltdb")
	for _, size := range []int{350, 3_500, 35_000, 350_000} {
		entries := 2000
		if size > 100_000 {
			entries = 400
		}
		took := make([][]time.Duration, len(stores))
		disk := make([]int64, len(stores))
		for range rounds {
			for i := range stores {
				t, bytes, err := turn(i, dir, size, entries)
				if err != nil {
					return fmt.Errorf("%s: %w", stores[i].name, err)
				}
				took[i], disk[i] = append(took[i], t...), bytes
			}
		}
		var bolt time.Duration
		for i, s := range stores {
			slices.Sort(took[i])
			p50, p99 := took[i][len(took[i])/2], took[i][len(took[i])*99/100]
			if i == 0 {
				bolt = p50
			}
			var sum time.Duration
			for _, d := range took[i] {
				sum += d
			}
			fmt.Printf("%11d  %-11s %7d %7d %10.0f %11.1f %13.2f\n", size, s.name, p50.Microseconds(), p99.Microseconds(),
				float64(len(took[i]))/sum.Seconds(), float64(disk[i])/1e6, float64(bolt)/float64(p50))
		}
	}
	return nil
}

// turn has a store write entries one by one, and deletes old ones now and then.
func turn(i int, dir string, size, entries int) (took []time.Duration, disk int64, err error) {
	dir, err = os.MkdirTemp(dir, "logstore-")
	if err != nil {
		return nil, 0, err
	}
	defer os.RemoveAll(dir)
	s, err := stores[i].open(dir)
	if err != nil {
		return nil, 0, err
	}
	defer s.Close()
	data := make([]byte, size)
	first := uint64(1)
	for n := range uint64(entries) {
		start := time.Now()
		if err := s.StoreLogs([]*raft.Log{{Index: n + 1, Term: 1, Data: data, AppendedAt: start}}); err != nil {
			return nil, 0, err
		}
		took = append(took, time.Since(start))
		if n+1-first >= keep {
			if err := s.DeleteRange(first, n+1-keep/2); err != nil {
				return nil, 0, err
			}
			first = n + 2 - keep/2
		}
	}
	err = filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		info, err := e.Info()
		if err == nil {
			disk += info.Size()
		}
		return err
	})
	return took, disk, err
}
