package httpapi

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// response is the ResponseWriter of one request; it remembers what was answered.
// It belongs to the request's goroutine.
type response struct {
	http.ResponseWriter
	// status is 0 until the answer begins.
	status int
	size   int64
	// stream means that how long the request took says nothing.
	stream bool
	// covers is the index that was stated last; zero for none.
	covers uint64
}

// statusClientGone is what is counted when the client left before the answer. It
// is never sent.
const statusClientGone = 499

// WriteHeader implements http.ResponseWriter.
func (w *response) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (w *response) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	n, err := w.ResponseWriter.Write(b)
	w.size += int64(n)
	return n, err
}

// Unwrap lets http.ResponseController and a WebSocket upgrade get through.
func (w *response) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// index states how fresh the answer is: the log index that it includes at least.
func (w *response) index(i uint64) {
	w.covers = i
	w.Header().Set("Orrery-Index", strconv.FormatUint(i, 10))
}

// coversAtLeast raises the index that index has stated.
func (w *response) coversAtLeast(i uint64) {
	if i > w.covers {
		w.index(i)
	}
}

// buffers are for bodies, both ways. Those that grew large are dropped.
type buffers struct{ pool sync.Pool }

const keepBuffer = 256 << 10

func (p *buffers) get() *bytes.Buffer {
	if b, ok := p.pool.Get().(*bytes.Buffer); ok {
		return b
	}
	return bytes.NewBuffer(make([]byte, 0, 2048))
}

func (p *buffers) put(b *bytes.Buffer) {
	if b.Cap() <= keepBuffer {
		b.Reset()
		p.pool.Put(b)
	}
}

// reply answers with v as JSON.
func (a *API) reply(w *response, status int, v any) error {
	b := a.buffers.get()
	defer a.buffers.put(b)
	if err := encode(b, v); err != nil {
		return err
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(b.Len()))
	w.WriteHeader(status)
	if b.Len() <= socketBuffer {
		_, _ = w.Write(b.Bytes())
		return nil
	}
	rc := http.NewResponseController(w.ResponseWriter)
	_ = rc.SetWriteDeadline(time.Now().Add(answerTime))
	_, _ = w.Write(b.Bytes())
	_ = rc.SetWriteDeadline(time.Time{})
	return nil
}

const (
	// socketBuffer is what the kernel takes without the client reading, in bytes.
	socketBuffer = 32 << 10
	// answerTime bounds how long a client may take to read an answer that is larger.
	answerTime = time.Minute
)

// encode appends v as JSON and a newline, without turning <, > and & into
// escapes: payloads stay as users wrote them.
func encode(b *bytes.Buffer, v any) error {
	enc := json.NewEncoder(b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return fmt.Errorf("encode answer: %w", err)
	}
	return nil
}
