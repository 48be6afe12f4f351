package cluster

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"sync"
	"time"

	"github.com/orrery-io/orrery/fsm"
	"github.com/orrery-io/orrery/job"
)

// methodRestore brings a backup to the leader, in pieces; the last one has it
// restored.
const methodRestore = "cluster.restore"

const (
	// uploadPiece is how much of a backup one request carries, in bytes.
	uploadPiece = 256 << 10
	// uploadIdle is how long the leader waits for the next piece.
	uploadIdle = time.Minute
)

// piece is a part of a backup on its way to the leader.
type piece struct {
	// ID tells one upload from another.
	ID string `json:"id"`
	// Size is that of the whole file, Offset where Data belongs.
	Size   int64  `json:"size"`
	Offset int64  `json:"offset"`
	Data   []byte `json:"data,omitempty"`
	// Sum is the SHA-256 of the whole file, in the last piece only.
	Sum string `json:"sum,omitempty"`
}

// received answers a piece.
type pieceTaken struct {
	// Index is where the log is after the restore; 0 as long as pieces are missing.
	Index uint64 `json:"index,omitempty"`
}

// upload is the backup that a leader is receiving. There is one at a time.
type upload struct {
	mu    sync.Mutex
	id    string
	file  *os.File
	sum   hash.Hash
	at    int64
	timer *time.Timer
}

func (n *Node) restoreHandlers() map[string]Handler {
	return map[string]Handler{methodRestore: answer(n.takePiece)}
}

// sendBackup sends a backup to the leader and has it restored. It returns the index
// behind it.
func (n *Node) sendBackup(ctx context.Context, leader, path string, info fsm.BackupInfo) (uint64, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, job.Errorf(job.Invalid, "backup_unreadable", "the file %s cannot be read (%v)", path, err)
	}
	defer f.Close()
	sum := sha256.New()
	p := piece{ID: rand.Text(), Size: info.Size, Data: make([]byte, uploadPiece)}
	buffer := p.Data
	for p.Offset < p.Size {
		k, err := io.ReadFull(f, buffer)
		if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
			return 0, fmt.Errorf("read the backup: %w", err)
		}
		p.Data = buffer[:k]
		sum.Write(p.Data)
		if _, err := request[pieceTaken](ctx, n.cfg.Peers, leader, methodRestore, p); err != nil {
			if job.KindOf(err) == job.Unknown { // nothing was restored by a piece alone
				err = job.Errorf(job.Unavailable, codeUnreachable, "the leader was lost while the backup was sent to it")
			}
			return 0, err
		}
		p.Offset += int64(k)
	}
	p.Data, p.Sum = nil, hex.EncodeToString(sum.Sum(nil))
	taken, err := request[pieceTaken](ctx, n.cfg.Peers, leader, methodRestore, p)
	return taken.Index, err
}

// takePiece takes a piece of a backup from another node.
func (n *Node) takePiece(ctx context.Context, _ string, p piece) (pieceTaken, error) {
	if n.term.Load() == 0 {
		return pieceTaken{}, job.ErrNotLeader
	}
	if p.Sum == "" {
		return pieceTaken{}, n.upload.take(n.snaps, &p)
	}
	path, err := n.upload.finish(&p)
	if err != nil {
		return pieceTaken{}, err
	}
	if err := n.restoreHere(ctx, path); err != nil {
		return pieceTaken{}, err
	}
	applied, _ := n.cfg.Machine.Applied()
	return pieceTaken{Index: applied}, nil
}

func (u *upload) take(s *snapshots, p *piece) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	switch {
	case p.Offset == 0 && u.id == "":
		f, err := s.spare(p.Size)
		if err != nil {
			return err
		}
		u.id, u.file, u.sum, u.at = p.ID, f, sha256.New(), 0
		u.timer = time.AfterFunc(uploadIdle, func() { u.expire(p.ID) })
	case u.id != "" && u.id != p.ID:
		return job.Errorf(job.Conflict, "restore_running", "another backup is being sent to the leader at the moment").WithHint("try again in a minute")
	case u.id == "" || p.Offset != u.at:
		return job.Errorf(job.Unavailable, "restore_interrupted", "the backup did not reach the leader in one piece").WithHint("try again")
	}
	u.timer.Reset(uploadIdle)
	if u.at+int64(len(p.Data)) > p.Size {
		u.drop()
		return job.Errorf(job.Invalid, "backup_damaged", "more came than was announced")
	}
	if _, err := u.file.Write(p.Data); err != nil {
		u.drop()
		return err
	}
	u.sum.Write(p.Data)
	u.at += int64(len(p.Data))
	return nil
}

// finish returns the file when it is whole.
func (u *upload) finish(p *piece) (path string, err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.id == "" || u.id != p.ID || u.at != p.Size || hex.EncodeToString(u.sum.Sum(nil)) != p.Sum {
		if u.id == p.ID {
			u.drop()
		}
		return "", job.Errorf(job.Unavailable, "restore_interrupted", "the backup did not reach the leader in one piece").WithHint("try again")
	}
	path = u.file.Name()
	err = u.file.Close()
	u.id, u.file = "", nil
	u.timer.Stop()
	return path, err
}

// expire drops an upload that doesn't go on.
func (u *upload) expire(id string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.id == id {
		u.drop()
	}
}

func (u *upload) drop() {
	u.timer.Stop()
	_ = u.file.Close()
	_ = os.Remove(u.file.Name())
	u.id, u.file = "", nil
}
