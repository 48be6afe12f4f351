package client

import (
	"bytes"
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"
)

func readAllSSE(r io.Reader, limit int) ([]sseEvent, error) {
	s := newSSEReader(r)
	s.limit = limit
	var all []sseEvent
	for {
		ev, err := s.Next()
		if err != nil {
			return all, err
		}
		all = append(all, ev)
	}
}

func TestSSE(t *testing.T) {
	tests := []struct {
		name string
		in   string
		want []sseEvent
		err  error
	}{
		{"nothing", "", nil, io.EOF},
		{"one", "id: 1\nevent: a\ndata: x\n\n", []sseEvent{{"1", "a", []byte("x")}}, io.EOF},
		{"no space after the colon", "data:x\n\n", []sseEvent{{"", "message", []byte("x")}}, io.EOF},
		{"only one space is taken", "data:  x\n\n", []sseEvent{{"", "message", []byte(" x")}}, io.EOF},
		{"several lines of data", "data: x\ndata\ndata: y\n\n", []sseEvent{{"", "message", []byte("x\n\ny")}}, io.EOF},
		{"CRLF and CR", "data: x\r\n\r\ndata: y\r\r", []sseEvent{{"", "message", []byte("x")}, {"", "message", []byte("y")}}, io.EOF},
		{"byte order mark", "\ufeffdata: x\n\n", []sseEvent{{"", "message", []byte("x")}}, io.EOF},
		{"comments and unknown fields", ": hi\nretry: 3\nfoo: bar\ndata: x\n\n", []sseEvent{{"", "message", []byte("x")}}, io.EOF},
		{"the id stays", "id: 1\ndata: x\n\ndata: y\n\n", []sseEvent{{"1", "message", []byte("x")}, {"1", "message", []byte("y")}}, io.EOF},
		{"an id with NUL is ignored", "id: 1\ndata: x\n\nid: 2\x00\ndata: y\n\n", []sseEvent{{"1", "message", []byte("x")}, {"1", "message", []byte("y")}}, io.EOF},
		{"the name of an event without data is forgotten", "event: a\n\ndata: x\n\n", []sseEvent{{"", "message", []byte("x")}}, io.EOF},
		{"an id without data counts", "id: 1\ndata: x\n\nid: 2\n\ndata: y\n\n", []sseEvent{{"1", "message", []byte("x")}, {"2", "message", []byte("y")}}, io.EOF},
		{"an unfinished event is dropped", "data: x\n\ndata: y\n", []sseEvent{{"", "message", []byte("x")}}, io.EOF},
		{"cut in the middle of a line", "data: x\n\ndata: y", []sseEvent{{"", "message", []byte("x")}}, io.ErrUnexpectedEOF},
		{"a line too long", "data: " + strings.Repeat("x", 200) + "\n\n", nil, errEventTooLong},
		{"too many lines", strings.Repeat("data: x\n", 40) + "\n", nil, errEventTooLong},
		{"comments don't add up over events", strings.Repeat(": keep alive\n\n", 40) + "data: x\n\n", []sseEvent{{"", "message", []byte("x")}}, io.EOF},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := readAllSSE(strings.NewReader(tt.in), 128)
			if !reflect.DeepEqual(got, tt.want) || !errors.Is(err, tt.err) {
				t.Errorf("got %q, %v\nwant %q, %v", got, err, tt.want, tt.err)
			}
		})
	}
}

// FuzzSSE checks that the parser stays within its bound, and that the way in
// which the bytes arrive makes no difference.
func FuzzSSE(f *testing.F) {
	f.Add([]byte("id: 1\nevent: a\ndata: x\n\n"))
	f.Add([]byte("data: x\r\n\r\ndata: y\r\r: c\n\n"))
	f.Add([]byte("\ufeffdata\n\n\x00"))
	f.Fuzz(func(t *testing.T, in []byte) {
		const limit = 64
		got, err := readAllSSE(bytes.NewReader(in), limit)
		again, err2 := readAllSSE(iotest.OneByteReader(bytes.NewReader(in)), limit)
		if !reflect.DeepEqual(got, again) || !errors.Is(err2, err) {
			t.Errorf("at once %q, %v; byte by byte %q, %v", got, err, again, err2)
		}
		for _, ev := range got {
			if len(ev.Data) > limit || ev.Name == "" || strings.ContainsAny(ev.Name+ev.ID, "\r\n") {
				t.Errorf("event %q", ev)
			}
		}
	})
}

// A stream that breaks off in the middle of an event must be taken up before it.
func TestSSE_idOfAnUnfinishedEvent(t *testing.T) {
	s := newSSEReader(strings.NewReader("id: 1\ndata: x\n\nid: 2\ndata: y\n"))
	for range 2 {
		_, _ = s.Next()
	}
	if s.id != "1" {
		t.Errorf("last id %q, want that of the last whole event", s.id)
	}
}
