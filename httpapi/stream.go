package httpapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/orrery-io/orrery/internal/obs"
	"github.com/orrery-io/orrery/job"
)

const (
	// keepAliveEvery is how often a stream without news says that it is alive.
	keepAliveEvery = 15 * time.Second
	// writeTime bounds how long a client may take to read what was written to it.
	// One that takes longer is cut off; it can resume.
	writeTime = 10 * time.Second
	// streamBuffer is how much is gathered before it is written, in bytes.
	streamBuffer = 64 << 10
)

var errStuckClient = errors.New("the client does not read")

// stream writes server-sent events, NDJSON or plain lines. What it gathers is
// written by flush. It belongs to the request's goroutine.
type stream struct {
	w      *response
	rc     *http.ResponseController
	format string
	buf    bytes.Buffer
	enc    *json.Encoder
}

// newStream begins an answer that goes on. A nil stream means that only the
// headers were asked for.
func newStream(w *response, r *http.Request, format string) *stream {
	s := &stream{w: w, rc: http.NewResponseController(w.ResponseWriter), format: format}
	s.enc = json.NewEncoder(&s.buf)
	s.enc.SetEscapeHTML(false)
	h := w.Header()
	h.Set("Content-Type", format)
	if format == typeText {
		h.Set("Content-Type", typeText+"; charset=utf-8")
	}
	h.Set("Cache-Control", "no-store")
	h.Set("X-Accel-Buffering", "no")
	// The write deadline stays on the connection, so it serves no other request.
	h.Set("Connection", "close")
	w.stream = true
	w.WriteHeader(http.StatusOK)
	if r.Method == http.MethodHead {
		return nil
	}
	_ = s.rc.Flush()
	return s
}

// event adds one event. In NDJSON and plain text it is a line: v, or text. id and
// name are for server-sent events only; without an id the client's last one stays.
func (s *stream) event(id, name string, v any) error {
	switch s.format {
	case typeSSE:
		if id != "" {
			s.buf.WriteString("id: ")
			s.buf.WriteString(id)
			s.buf.WriteByte('\n')
		}
		s.buf.WriteString("event: ")
		s.buf.WriteString(name)
		s.buf.WriteString("\ndata: ")
		if err := s.encode(v); err != nil {
			return err
		}
		s.buf.WriteByte('\n')
	case typeText:
		s.buf.WriteString(fmt.Sprint(v))
		s.buf.WriteByte('\n')
	default:
		if err := s.encode(v); err != nil {
			return err
		}
	}
	if s.buf.Len() >= streamBuffer {
		return s.flush()
	}
	return nil
}

// encode adds a value as a line of JSON.
func (s *stream) encode(v any) error {
	if e, ok := v.(*job.Event); ok {
		s.buf.Write(append(e.AppendJSON(s.buf.AvailableBuffer()), '\n'))
		return nil
	}
	if err := s.enc.Encode(v); err != nil {
		return fmt.Errorf("encode event: %w", err)
	}
	return nil
}

// alive tells the client, and what stands between, that the stream goes on. The id
// is the last event that was looked at, sent or not, so that a client whose filter
// lets little through resumes close to the end.
func (s *stream) alive(id string) error {
	switch s.format {
	case typeSSE:
		s.buf.WriteString(": keep-alive\n")
		if id != "" {
			s.buf.WriteString("id: " + id + "\n")
		}
		s.buf.WriteByte('\n')
	case typeNDJSON:
		s.buf.WriteByte('\n')
	default:
		return nil
	}
	return s.flush()
}

// flush writes what was gathered. The client gets writeTime to take it.
func (s *stream) flush() error {
	if s.buf.Len() == 0 {
		return nil
	}
	_ = s.rc.SetWriteDeadline(time.Now().Add(writeTime))
	_, err := s.w.Write(s.buf.Bytes())
	s.buf.Reset()
	if err == nil {
		err = s.rc.Flush()
	}
	if err != nil {
		return errors.Join(errStuckClient, err)
	}
	return nil
}

// retry tells an EventSource how long to wait before it connects again.
func (s *stream) retry() {
	if s.format == typeSSE {
		s.buf.WriteString("retry: 1000\n\n")
	}
}

// fail ends a stream with the reason, where the format has a place for it.
func (a *API) fail(ctx context.Context, s *stream, err error) {
	if errors.Is(err, errStuckClient) || ctx.Err() != nil {
		a.log.DebugContext(ctx, "stream ended", obs.Err(err))
		return
	}
	p := a.problem(ctx, err)
	if s.format == typeSSE {
		_ = s.event("", "error", p)
		_ = s.flush()
	}
}

// open returns a context for something that may last: it ends with the request,
// and when the API closes. The caller calls stop.
func (a *API) open(ctx context.Context) (_ context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.lastOpen++
	n := a.lastOpen
	if a.closed {
		cancel(job.ErrClosed)
	} else {
		a.streams[n] = cancel
	}
	return ctx, func() {
		a.mu.Lock()
		delete(a.streams, n)
		a.mu.Unlock()
		cancel(nil)
	}
}

// subscribed hands the events of sub to each, batch by batch, until ctx ends, each
// has had enough, or the client is stuck. Between batches it flushes, and when
// nothing comes it keeps the stream alive.
func (a *API) subscribed(ctx context.Context, s *stream, sub subscription, each func(e *job.Event) (more bool, err error)) error {
	last := ""
	for {
		next, cancel := context.WithTimeout(ctx, keepAliveEvery)
		events, err := sub.Next(next)
		cancel()
		if ctx.Err() != nil {
			return nil //nolint:nilerr // the stream was ended, which is no error
		}
		switch {
		case errors.Is(err, context.DeadlineExceeded):
			if err := s.alive(last); err != nil {
				return err
			}
			continue
		case err != nil:
			return err
		}
		more := true
		for i := range events {
			if more, err = each(&events[i]); err != nil {
				return err
			}
			if !more {
				break
			}
		}
		if err := s.flush(); err != nil {
			return err
		}
		if !more {
			return nil
		}
		if n := len(events); n > 0 {
			last = events[n-1].ID.String()
		}
	}
}

// oneLine keeps a line of plain text on one line.
func oneLine(s string) string {
	if !strings.ContainsAny(s, "\r\n") {
		return s
	}
	return strings.NewReplacer("\r\n", "\\n", "\n", "\\n", "\r", "\\r").Replace(s)
}
