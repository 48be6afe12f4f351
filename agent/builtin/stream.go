package builtin

import (
	"bytes"
	"fmt"
	"strings"
)

const (
	// maxLine is where a line is broken that doesn't end, in bytes.
	maxLine = 32 << 10
	// lastLines and lastBytes bound what of stderr stands in a failure.
	lastLines = 10
	lastBytes = 2 << 10
)

// stream takes what a program writes: it passes line after line on, and keeps the
// head and the tail. One goroutine writes; the rest is called after it has ended.
type stream struct {
	line func(string)
	// part is the beginning of a line.
	part []byte
	// head is the first half of what is kept, tail the rest so far, cut to the last
	// half now and then. total counts everything.
	head, tail []byte
	half       int
	total      int
}

func newStream(most int, line func(string)) *stream {
	return &stream{line: line, half: most / 2}
}

// Write implements io.Writer; it never fails.
func (s *stream) Write(p []byte) (int, error) {
	s.keep(p)
	rest := p
	for len(rest) > 0 {
		i := bytes.IndexByte(rest, '\n')
		if i >= 0 && len(s.part)+i <= maxLine {
			s.line(string(append(s.part, rest[:i]...)))
			s.part, rest = s.part[:0], rest[i+1:]
			continue
		}
		n := min(len(rest), maxLine-len(s.part))
		s.part, rest = append(s.part, rest[:n]...), rest[n:]
		if len(s.part) == maxLine {
			s.flush()
		}
	}
	return len(p), nil
}

// flush passes on a line that has no end.
func (s *stream) flush() {
	if len(s.part) > 0 {
		s.line(string(s.part))
		s.part = s.part[:0]
	}
}

func (s *stream) keep(p []byte) {
	s.total += len(p)
	n := min(len(p), s.half-len(s.head))
	s.head = append(s.head, p[:n]...)
	s.tail = append(s.tail, p[n:]...)
	if len(s.tail) > 2*s.half {
		n := copy(s.tail, s.tail[len(s.tail)-s.half:])
		s.tail = s.tail[:n]
	}
}

// text returns what was written, at most about so many bytes of it and saying what
// was left out, as valid UTF-8.
func (s *stream) text(most int) string {
	half := min(most/2, s.half)
	if s.total <= 2*half {
		return strings.ToValidUTF8(string(s.head)+string(s.tail), "\uFFFD")
	}
	head := s.head[:min(half, len(s.head))]
	tail := append(append([]byte(nil), s.head[len(head):]...), s.tail...)
	tail = tail[max(0, len(tail)-half):]
	return strings.ToValidUTF8(string(head), "\uFFFD") +
		fmt.Sprintf("\n[… %d bytes left out …]\n", s.total-len(head)-len(tail)) +
		strings.ToValidUTF8(string(tail), "\uFFFD")
}

// last returns the last lines.
func (s *stream) last() string {
	b := bytes.TrimRight(append(append([]byte(nil), s.head...), s.tail...), "\r\n\t ")
	b = b[max(0, len(b)-lastBytes):]
	lines := strings.Split(strings.ToValidUTF8(string(b), "\uFFFD"), "\n")
	return strings.Join(lines[max(0, len(lines)-lastLines):], "\n")
}
