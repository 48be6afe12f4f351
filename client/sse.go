package client

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
)

// maxEvent bounds one server-sent event, in bytes of its lines. The largest that
// a node sends carries a job with its payload and result.
const maxEvent = 8 << 20

// errEventTooLong ends a stream whose sender does not keep to the bound.
var errEventTooLong = fmt.Errorf("a server-sent event is longer than %d bytes", maxEvent)

// sseEvent is one event of a stream.
type sseEvent struct {
	// ID is the last id seen on the stream, of this event or an earlier one.
	ID string
	// Name is "message" when the sender gave none.
	Name string
	// Data are the data lines, joined by newlines.
	Data []byte
}

// sseReader reads the events of one text/event-stream, as the HTML standard has
// it, section 9.2.6: lines end in LF, CR or CRLF, comments and unknown fields
// are skipped, an event without data is dropped, an unfinished one at the end of
// the stream too.
type sseReader struct {
	r *bufio.Reader
	// id is the last one that a finished event had, with or without data.
	id    string
	limit int
	// afterCR means that a LF that follows belongs to the line before.
	afterCR bool
	begun   bool
	line    []byte
}

func newSSEReader(r io.Reader) *sseReader {
	return &sseReader{r: bufio.NewReaderSize(r, 32<<10), limit: maxEvent}
}

// Next returns the next event. It returns io.EOF at the end of the stream.
func (s *sseReader) Next() (sseEvent, error) {
	ev := sseEvent{}
	hasData, size, id := false, 0, s.id
	for {
		line, err := s.readLine()
		if err != nil {
			return sseEvent{}, err
		}
		if size += len(line); size > s.limit {
			return sseEvent{}, errEventTooLong
		}
		if len(line) == 0 {
			s.id = id
			if !hasData {
				ev.Name, size = "", 0
				continue
			}
			ev.ID = s.id
			if ev.Name == "" {
				ev.Name = "message"
			}
			return ev, nil
		}
		field, value, _ := bytes.Cut(line, []byte(":"))
		value = bytes.TrimPrefix(value, []byte(" "))
		switch string(field) {
		case "data":
			if hasData {
				ev.Data = append(ev.Data, '\n')
			}
			ev.Data = append(ev.Data, value...)
			hasData = true
		case "event":
			ev.Name = strings.Clone(string(value))
		case "id":
			if !bytes.ContainsRune(value, 0) {
				id = string(value)
			}
		}
	}
}

// readLine returns the next line without its end. The slice is valid until the
// next call.
func (s *sseReader) readLine() ([]byte, error) {
	s.line = s.line[:0]
	for {
		b, err := s.r.ReadByte()
		if err != nil {
			if errors.Is(err, io.EOF) && len(s.line) > 0 {
				return nil, io.ErrUnexpectedEOF
			}
			return nil, err
		}
		skip := b == '\n' && s.afterCR
		s.afterCR = b == '\r'
		switch {
		case skip:
			continue
		case b == '\n' || b == '\r':
			if !s.begun {
				s.begun = true
				s.line = bytes.TrimPrefix(s.line, []byte("\ufeff"))
			}
			return s.line, nil
		case len(s.line) >= s.limit:
			return nil, errEventTooLong
		}
		s.line = append(s.line, b)
	}
}
