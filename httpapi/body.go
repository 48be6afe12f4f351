package httpapi

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/orrery-io/orrery/job"
)

// The limits on bodies, in bytes.
const (
	// maxSmall is for bodies of a few fields.
	maxSmall = 64 << 10
	// maxSubmission lets a payload of job.MaxPayload through, in base64 too, with
	// everything around it.
	maxSubmission = job.MaxPayload*4/3 + 256<<10
	// maxBatch is for many submissions.
	maxBatch = 16 << 20
	// maxAtomic is for those that become one command, and so one entry of the log.
	maxAtomic = 4 << 20
)

// bodyTime bounds how long a client may take to send its body.
const bodyTime = time.Minute

const (
	typeJSON   = "application/json"
	typeNDJSON = "application/x-ndjson"
	typeSSE    = "text/event-stream"
	typeText   = "text/plain"
)

// contentType checks the type of a body against those that are understood, and
// returns which one it is.
func contentType(r *http.Request, want ...string) (string, error) {
	got := r.Header.Get("Content-Type")
	if e := r.Header.Get("Content-Encoding"); e != "" && e != "identity" {
		return "", errEncoding(e)
	}
	for _, t := range want {
		if got == t {
			return t, nil
		}
	}
	media, params, err := mime.ParseMediaType(got)
	if err != nil {
		return "", errMediaType(got, want)
	}
	if c := params["charset"]; c != "" && !strings.EqualFold(c, "utf-8") {
		return "", errMediaType(got, want)
	}
	for _, t := range want {
		if media == t {
			return t, nil
		}
	}
	if media == "application/ndjson" || media == "application/jsonl" {
		for _, t := range want {
			if t == typeNDJSON {
				return t, nil
			}
		}
	}
	return "", errMediaType(got, want)
}

// read reads a body of at most limit bytes. The buffer goes back to a.buffers when
// the caller is done with it.
func (a *API) read(w *response, r *http.Request, limit int64) (*bytes.Buffer, error) {
	if r.ContentLength > limit {
		return nil, errTooLarge("", fmt.Sprintf("the body is %d bytes; the limit is %d", r.ContentLength, limit))
	}
	// The body must arrive in time. The deadline is taken back, because the server
	// watches the connection while the handler works.
	rc := http.NewResponseController(w.ResponseWriter)
	_ = rc.SetReadDeadline(time.Now().Add(bodyTime))
	b := a.buffers.get()
	if r.ContentLength > 0 {
		b.Grow(int(min(r.ContentLength, 1<<20)) + bytes.MinRead)
	}
	n, err := b.ReadFrom(io.LimitReader(r.Body, limit+1))
	_ = rc.SetReadDeadline(time.Time{})
	switch {
	case err != nil && errors.Is(err, os.ErrDeadlineExceeded):
		err = invalid("slow_body", "the body did not arrive within %s", bodyTime)
	case err != nil:
		err = invalid("broken_body", "the body ended early")
	case n > limit:
		err = errTooLarge("", fmt.Sprintf("the body is longer than the limit of %d bytes", limit))
	}
	if err != nil {
		a.buffers.put(b)
		return nil, err
	}
	return b, nil
}

// object reads a body of at most limit bytes into the fields that set knows. When optional, no body
// at all is as good as {}.
func (a *API) object(w *response, r *http.Request, limit int64, optional bool, names []string, set func(d *decoder, p path, name string, value []byte)) error {
	if optional && r.ContentLength == 0 {
		return nil
	}
	if _, err := contentType(r, typeJSON); err != nil {
		if optional && r.Header.Get("Content-Type") == "" && r.ContentLength < 0 {
			// A chunked body that may turn out to be empty.
			if b, err := a.read(w, r, 0); err == nil {
				a.buffers.put(b)
				return nil
			}
		}
		return err
	}
	b, err := a.read(w, r, limit)
	if err != nil {
		return err
	}
	defer a.buffers.put(b)
	if optional && len(trim(b.Bytes())) == 0 {
		return nil
	}
	if f := checkJSON("the body", b.Bytes()); f != nil {
		return f
	}
	var d decoder
	d.object(path{}, b.Bytes(), names, func(n int, value []byte) {
		set(&d, path{"", names[n]}, names[n], value)
	})
	return d.err()
}
