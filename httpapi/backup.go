package httpapi

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
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/orrery-io/orrery/internal/obs"
	"github.com/orrery-io/orrery/job"
	"golang.org/x/sys/unix"
)

const (
	typeBinary = "application/octet-stream"
	// maxRestore bounds the body of a restore, in bytes; the disk bounds it first.
	maxRestore = 1 << 40
	// keepFree is what a body leaves free on the disk of the data folder, because a
	// node that can't write its log stops.
	keepFree = 256 << 20
	// roomEvery is after how many bytes the disk is looked at again.
	roomEvery = 64 << 20
	// pieceTime bounds how long a client may take for each piece of a file.
	pieceTime = time.Minute
	pieceSize = 1 << 20
	// restoreTime bounds the replacement once the file is there.
	restoreTime = time.Hour
)

// fileBody is a file as a body.
type fileBody struct{}

func (a *API) backupRoutes() []route {
	digest := param{name: "Repr-Digest", in: "header", kind: "string", doc: "SHA-256 of the file (RFC 9530); a file that arrives otherwise is refused.", example: "sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:"}
	return []route{
		{
			method: http.MethodGet, path: "/v1/cluster/backup", id: "getBackup", tag: "cluster",
			summary: "Get a backup of the whole cluster in one file",
			doc:     "A copy of the database that holds everything that was acknowledged before the request; the work goes on meanwhile. The header Repr-Digest has its SHA-256, and Content-Length its size: an answer that is shorter is none.",
			answers: []answer{{status: http.StatusOK, doc: "The file.", media: map[string]string{typeBinary: "An SQLite database."}}}, refusals: []int{http.StatusServiceUnavailable},
			curl:   `-fOJ $ORRERY/v1/cluster/backup`,
			handle: a.backup,
		},
		{
			method: http.MethodPost, path: "/v1/cluster/restore", id: "restoreBackup", tag: "cluster",
			summary: "Replace everything in the cluster with a backup",
			doc:     "The file is checked before anything is replaced. Afterwards all nodes hold what it holds, and what was recorded since it was made is gone. Make a backup of the present first.",
			params: []param{
				{name: "confirm", kind: "boolean", doc: "Must be true: everything is replaced."},
				digest,
			},
			body: typeOf[fileBody](), bodyTypes: []string{typeBinary},
			answers:  []answer{{status: http.StatusOK, doc: "The cluster holds what the file holds.", body: typeOf[ClusterInfo]()}},
			refusals: []int{http.StatusConflict, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType, http.StatusUnprocessableEntity, http.StatusServiceUnavailable, http.StatusInsufficientStorage},
			curl:     `-H 'Content-Type: application/octet-stream' -T backup.db -X POST "$ORRERY/v1/cluster/restore?confirm=true"`,
			handle:   a.restore,
		},
	}
}

// backup sends a copy of the database. When it breaks off in the middle the
// connection is cut, so that nobody takes a part for the whole.
func (a *API) backup(w *response, r *http.Request, _ *query) error {
	c, err := a.nodes()
	if err != nil {
		return err
	}
	if _, err := accept(r, typeBinary); err != nil {
		return err
	}
	w.stream = true
	began := time.Now()
	applied, _ := a.machine.Applied()
	file, err := c.Backup(r.Context())
	if err != nil {
		return err
	}
	defer file.Close()
	sum := sha256.New()
	size, err := io.Copy(sum, &whileWanted{r.Context(), file})
	if err == nil {
		_, err = file.Seek(0, io.SeekStart)
	}
	if err != nil {
		return fmt.Errorf("read the backup: %w", err)
	}
	w.index(applied)
	h := w.Header()
	h.Set("Content-Type", typeBinary)
	h.Set("Content-Length", strconv.FormatInt(size, 10))
	h.Set("Content-Disposition", `attachment; filename="orrery-`+began.UTC().Format("20060102T150405Z")+`.db"`)
	h.Set("Repr-Digest", digestText(sum))
	h.Set("Cache-Control", "no-store")
	// The deadlines below stay on the connection, so it serves no other request.
	h.Set("Connection", "close")
	w.WriteHeader(http.StatusOK)
	if r.Method == http.MethodHead {
		return nil
	}
	rc := http.NewResponseController(w.ResponseWriter)
	piece := make([]byte, pieceSize)
	for left := size; left > 0; {
		n, err := io.ReadFull(file, piece[:min(left, pieceSize)])
		if err != nil {
			a.log.ErrorContext(r.Context(), "backup broke off", obs.Err(err))
			panic(http.ErrAbortHandler)
		}
		_ = rc.SetWriteDeadline(time.Now().Add(pieceTime))
		if _, err := w.Write(piece[:n]); err != nil {
			return fmt.Errorf("send the backup: %w", err)
		}
		left -= int64(n)
	}
	a.log.InfoContext(r.Context(), "backup sent", obs.Bytes(size), obs.Took(time.Since(began)))
	return nil
}

// whileWanted reads until the request ends.
type whileWanted struct {
	ctx context.Context //nolint:containedctx // it lives as long as one call of io.Copy
	r   io.Reader
}

// Read implements io.Reader.
func (w *whileWanted) Read(p []byte) (int, error) {
	if err := context.Cause(w.ctx); err != nil {
		return 0, err
	}
	return w.r.Read(p)
}

// digestText is the value of a Repr-Digest header.
func digestText(sum hash.Hash) string {
	return "sha-256=:" + base64.StdEncoding.EncodeToString(sum.Sum(nil)) + ":"
}

// restore takes a file and lets the cluster replace its state with it.
func (a *API) restore(w *response, r *http.Request, q *query) error {
	c, err := a.nodes()
	if err != nil {
		return err
	}
	confirmed := q.boolean("confirm", false)
	if err := q.err(); err != nil {
		return err
	}
	if !confirmed {
		return &fault{public: job.Errorf(job.Invalid, "not_confirmed", "a restore replaces everything in the cluster with what the file holds").
			WithHint("make a backup of the present first; then send the request with ?confirm=true")}
	}
	if r.Header.Get("Content-Type") != "" { // curl -T sends none
		if _, err := contentType(r, typeBinary, "application/vnd.sqlite3"); err != nil {
			return err
		}
	}
	want, err := digestWanted(r)
	if err != nil {
		return err
	}
	if !a.restoring.TryLock() {
		return job.Errorf(job.Conflict, "restore_runs", "this node is taking another restore at the moment").WithHint("wait until it is done")
	}
	defer a.restoring.Unlock()
	w.stream = true
	file, err := a.receive(w, r, want)
	if err != nil {
		return err
	}
	defer os.Remove(file)
	// From here on the client's leaving changes nothing: it ends as a whole.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), restoreTime)
	defer cancel()
	if err := c.Restore(ctx, file); err != nil {
		if errors.Is(err, job.ErrOutcomeUnknown) {
			e := *job.ErrOutcomeUnknown
			e.Message = "leadership changed during the restore: the cluster holds what the file holds, or is as it was"
			e.Hint = "look at it; restoring the same file again does no harm"
			return &e
		}
		return err
	}
	return a.replyCluster(w, r)
}

// digestWanted reads which SHA-256 the client says that the body has; nil when it
// says none.
func digestWanted(r *http.Request) ([]byte, error) {
	for _, name := range []string{"Repr-Digest", "Content-Digest"} {
		for part := range strings.SplitSeq(r.Header.Get(name), ",") {
			text, ok := strings.CutPrefix(strings.TrimSpace(part), "sha-256=:")
			if !ok {
				continue
			}
			sum, err := base64.StdEncoding.DecodeString(strings.TrimSuffix(text, ":"))
			if err != nil || len(sum) != sha256.Size || !strings.HasSuffix(text, ":") {
				return nil, headerInvalid(name, "must be a SHA-256 such as sha-256=:…: with the sum in base64")
			}
			return sum, nil
		}
	}
	return nil, nil
}

// receive writes the body into a file and returns its path. The caller removes it.
func (a *API) receive(w *response, r *http.Request, want []byte) (_ string, err error) {
	if r.ContentLength > maxRestore {
		return "", errTooLarge("", fmt.Sprintf("the body is %s; the limit is %s", byteText(r.ContentLength), byteText(maxRestore)))
	}
	if err := a.room(r.ContentLength); err != nil {
		return "", err
	}
	file, err := os.CreateTemp(a.scratch, "restore-*.db")
	if err != nil {
		return "", fmt.Errorf("take a restore: %w", err)
	}
	defer func() {
		err = errors.Join(err, file.Close())
		if err != nil {
			_ = os.Remove(file.Name())
		}
	}()
	sum := sha256.New()
	size, err := a.copyBody(w, r, io.MultiWriter(file, sum))
	switch {
	case errors.Is(err, syscall.ENOSPC):
		return "", errNoRoom(size, 0)
	case err != nil:
		return "", err
	case size == 0:
		return "", invalid("no_body", "the request has no body; send the file that a backup gave")
	case want != nil && !bytes.Equal(want, sum.Sum(nil)):
		return "", invalid("digest_mismatch", "the body is not what its digest says: it was changed on the way; send it again")
	}
	return file.Name(), nil
}

// copyBody copies the body while the client goes on sending and the disk has room.
func (a *API) copyBody(w *response, r *http.Request, to io.Writer) (size int64, err error) {
	rc := http.NewResponseController(w.ResponseWriter)
	defer func() { _ = rc.SetReadDeadline(time.Time{}) }()
	piece := make([]byte, pieceSize)
	for looked := int64(0); ; {
		_ = rc.SetReadDeadline(time.Now().Add(pieceTime))
		n, err := r.Body.Read(piece)
		size += int64(n)
		if n > 0 {
			if _, err := to.Write(piece[:n]); err != nil {
				return size, fmt.Errorf("take a restore: %w", err)
			}
		}
		switch {
		case errors.Is(err, io.EOF): // a body that breaks off ends with another error
			return size, nil
		case errors.Is(err, os.ErrDeadlineExceeded):
			return size, invalid("slow_body", "nothing of the body arrived for %s", pieceTime)
		case err != nil:
			return size, invalid("broken_body", "the body ended early")
		case size > maxRestore:
			return size, errTooLarge("", "the body is longer than the limit of "+byteText(maxRestore))
		}
		if size-looked >= roomEvery {
			looked = size
			if err := a.room(max(r.ContentLength-size, 0)); err != nil {
				return size, err
			}
		}
	}
}

// room refuses what would fill the disk of the data folder.
func (a *API) room(more int64) error {
	var st unix.Statfs_t
	dir := a.scratch
	if dir == "" {
		dir = os.TempDir()
	}
	if err := unix.Statfs(dir, &st); err != nil {
		return fmt.Errorf("look at the disk: %w", err)
	}
	free := int64(st.Bavail) * int64(st.Bsize) //nolint:gosec,unconvert // no disk has 2^63 bytes; the types differ between systems
	if max(more, 0)+keepFree > free {
		return errNoRoom(more, free)
	}
	return nil
}

func errNoRoom(more, free int64) error {
	return &fault{
		public: job.Errorf(job.Unavailable, "disk_full", "the disk of this node has no room for a file of %s and what the node itself needs: %s are free", byteText(max(more, 0)), byteText(free)).
			WithHint("make room, or send it to a node that has some"),
		status: http.StatusInsufficientStorage,
	}
}
