package client

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// What a node may take until a backup begins, and for a whole restore, beyond
// Config.Timeout; and how long nothing may arrive of a backup that has begun.
const (
	backupWait  = 30 * time.Minute
	restoreWait = 24 * time.Hour
	stallTime   = time.Minute
)

// Progress is told how many bytes of a backup or a restore are done, of how many;
// total is -1 when that is not known. It is called by one goroutine, often.
type Progress func(done, total int64)

// Backup writes a backup of the whole cluster to a file: everything that was
// acknowledged before the call. The file appears at path, and takes the place of an
// older one, only when it is complete, has the checksum that the node gave, and is
// synced. progress may be nil.
func (c *Client) Backup(ctx context.Context, path string, progress Progress) (size int64, err error) {
	dir := filepath.Dir(path)
	file, err := os.CreateTemp(dir, "."+filepath.Base(path)+".*")
	if err != nil {
		return 0, fmt.Errorf("back up: %w", err)
	}
	defer func() {
		if err != nil {
			_ = file.Close()
			_ = os.Remove(file.Name())
		}
	}()
	if size, err = c.BackupTo(ctx, file, progress); err != nil {
		return 0, err
	}
	if err = errors.Join(file.Sync(), file.Close()); err != nil {
		return 0, fmt.Errorf("back up: %w", err)
	}
	if err = os.Rename(file.Name(), path); err != nil {
		return 0, fmt.Errorf("back up: %w", err)
	}
	return size, syncDir(dir)
}

// syncDir makes the name of a new file last.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("back up: %w", err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("back up: %w", err)
	}
	return nil
}

// BackupTo writes a backup to w. What w got is a backup only when the error is nil.
func (c *Client) BackupTo(ctx context.Context, w io.Writer, progress Progress) (size int64, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	resp, err := c.do(ctx, request{
		method: http.MethodGet, path: "/v1/cluster/backup", wait: backupWait, stream: true,
		header: http.Header{"Accept": {"application/octet-stream"}},
	})
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	stalled := time.AfterFunc(stallTime, func() { cancel(errSlow) })
	defer stalled.Stop()
	sum := sha256.New()
	from := &counted{r: resp.Body, total: resp.ContentLength, tell: func(done, total int64) {
		stalled.Reset(stallTime)
		if progress != nil {
			progress(done, total)
		}
	}}
	to := &blamed{w: io.MultiWriter(sum, w)}
	size, err = io.Copy(to, from)
	switch {
	case to.err != nil:
		return size, fmt.Errorf("back up: %w", to.err)
	case errors.Is(context.Cause(ctx), errSlow):
		return size, brokenBackup(resp, size, errSlow)
	case ctx.Err() != nil:
		return size, context.Cause(ctx)
	case err != nil:
		return size, brokenBackup(resp, size, err)
	case !sameDigest(resp.Header.Get("Repr-Digest"), sum):
		return size, &Error{
			Status: resp.StatusCode, Code: CodeBadAnswer,
			Detail: fmt.Sprintf("the backup arrived with another checksum than %s gave: it was changed on the way", base(resp)),
			Hint:   "try again, and look at what is between here and the node",
		}
	}
	return size, nil
}

func brokenBackup(resp *http.Response, size int64, err error) *Error {
	return &Error{
		Code: CodeNoAnswer, cause: err,
		Detail: fmt.Sprintf("the backup broke off after %d of %d bytes from %s", size, resp.ContentLength, base(resp)),
		Hint:   "try again; the node's log may say why",
	}
}

// sameDigest compares a Repr-Digest header with a sum. A proxy may have removed it.
func sameDigest(header string, sum hash.Hash) bool {
	for part := range strings.SplitSeq(header, ",") {
		if text, ok := strings.CutPrefix(strings.TrimSpace(part), "sha-256=:"); ok {
			want, err := base64.StdEncoding.DecodeString(strings.TrimSuffix(text, ":"))
			return err == nil && bytes.Equal(want, sum.Sum(nil))
		}
	}
	return true
}

// Restore replaces everything in the cluster with what a backup holds. The cluster
// checks the file before it replaces anything. When the error is of the code
// CodeNoAnswer, look at the cluster: it may be restored, or not. progress is told
// how much was sent, and may be nil.
func (c *Client) Restore(ctx context.Context, path string, progress Progress) (*Cluster, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("restore: %w", err)
	}
	defer file.Close()
	sum := sha256.New()
	size, err := io.Copy(sum, file)
	if err != nil {
		return nil, fmt.Errorf("restore: %w", err)
	}
	r := request{
		method: http.MethodPost, path: "/v1/cluster/restore", wait: restoreWait,
		query: url.Values{"confirm": {"true"}},
		header: http.Header{
			"Content-Type": {"application/octet-stream"},
			"Repr-Digest":  {"sha-256=:" + base64.StdEncoding.EncodeToString(sum.Sum(nil)) + ":"},
			// What is refused shall be refused before it is sent.
			"Expect": {"100-continue"},
		},
		size: size,
		open: func() io.Reader {
			return &counted{r: io.NewSectionReader(file, 0, size), total: size, tell: progress}
		},
	}
	cl := new(Cluster)
	if err := c.call(ctx, r, cl); err != nil {
		return nil, err
	}
	return cl, nil
}

// counted tells how much of it was read.
type counted struct {
	r           io.Reader
	done, total int64
	tell        Progress
}

// Read implements io.Reader.
func (c *counted) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.done += int64(n)
	if n > 0 && c.tell != nil {
		c.tell(c.done, c.total)
	}
	return n, err
}

// blamed keeps the error of writing, to tell it from one of reading.
type blamed struct {
	w   io.Writer
	err error
}

// Write implements io.Writer.
func (b *blamed) Write(p []byte) (int, error) {
	n, err := b.w.Write(p)
	if err != nil {
		b.err = err
	}
	return n, err
}
