package httpapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"iter"
	"unicode/utf8"

	"github.com/orrery-io/orrery/job"
)

// These functions walk JSON that checkJSON has found valid, without decoding it
// and without allocating. They never read past the end, whatever they are given.

// checkJSON says what is wrong with a text, which the answer calls what; nil means
// that it is one JSON value in valid UTF-8.
func checkJSON(what string, b []byte) *fault {
	if job.JSON(b).Valid() {
		return nil
	}
	if len(trim(b)) == 0 {
		return invalid("invalid_json", "%s is empty; it must be JSON", what)
	}
	if !utf8.Valid(b) {
		at := 0
		for at < len(b) {
			r, n := utf8.DecodeRune(b[at:])
			if r == utf8.RuneError && n == 1 {
				break
			}
			at += n
		}
		return invalid("invalid_utf8", "%s is not valid UTF-8 at byte %d", what, at)
	}
	var ignored json.RawMessage
	err := json.Unmarshal(b, &ignored)
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
		line, column := position(b, int(syntax.Offset))
		return invalid("invalid_json", "%s is not valid JSON at line %d, column %d: %s", what, line, column, syntax.Error())
	}
	return invalid("invalid_json", "%s is not valid JSON: %v", what, err)
}

// position turns an offset into line and column, counted from 1.
func position(b []byte, offset int) (line, column int) {
	line, column = 1, 1
	for _, c := range b[:max(0, min(offset-1, len(b)))] {
		column++
		if c == '\n' {
			line, column = line+1, 1
		}
	}
	return line, column
}

// trim drops white space at both ends.
func trim(b []byte) []byte {
	for len(b) > 0 && space(b[0]) {
		b = b[1:]
	}
	for len(b) > 0 && space(b[len(b)-1]) {
		b = b[:len(b)-1]
	}
	return b
}

func space(c byte) bool { return c == ' ' || c == '\n' || c == '\t' || c == '\r' }

func skipSpace(b []byte, i int) int {
	for i < len(b) && space(b[i]) {
		i++
	}
	return i
}

// skipValue returns the index after the value that begins at i.
func skipValue(b []byte, i int) int {
	if i >= len(b) {
		return i
	}
	switch b[i] {
	case '"':
		return skipString(b, i)
	case '{', '[':
		depth := 0
		for i < len(b) {
			switch b[i] {
			case '"':
				i = skipString(b, i)
				continue
			case '{', '[':
				depth++
			case '}', ']':
				depth--
			}
			i++
			if depth == 0 {
				return i
			}
		}
		return i
	}
	for i < len(b) && !space(b[i]) && b[i] != ',' && b[i] != '}' && b[i] != ']' {
		i++
	}
	return i
}

func skipString(b []byte, i int) int {
	for i++; i < len(b); i++ {
		switch b[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return len(b)
}

// members goes through the object b: each key with its quotes, and its value.
func members(b []byte) iter.Seq2[[]byte, []byte] {
	return func(yield func(key, value []byte) bool) {
		i := skipSpace(b, 1)
		for i < len(b) && b[i] == '"' {
			end := skipString(b, i)
			key := b[i:end]
			i = skipSpace(b, end) + 1 // the colon
			i = skipSpace(b, min(i, len(b)))
			end = skipValue(b, i)
			if !yield(key, b[i:end]) {
				return
			}
			i = skipSpace(b, end) + 1 // the comma
			i = skipSpace(b, min(i, len(b)))
		}
	}
}

// elements goes through the array b.
func elements(b []byte) iter.Seq2[int, []byte] {
	return func(yield func(n int, value []byte) bool) {
		i := skipSpace(b, 1)
		for n := 0; i < len(b) && b[i] != ']'; n++ {
			end := skipValue(b, i)
			if end == i || !yield(n, b[i:end]) {
				return
			}
			i = skipSpace(b, end) + 1 // the comma
			i = skipSpace(b, min(i, len(b)))
		}
	}
}

// kindOf says what sort of value b is, for people.
func kindOf(b []byte) string {
	if len(b) == 0 {
		return "nothing"
	}
	switch b[0] {
	case '"':
		return "a string"
	case '{':
		return "an object"
	case '[':
		return "an array"
	case 't', 'f':
		return "a boolean"
	case 'n':
		return "null"
	}
	return "a number"
}

var errNotString = errors.New("not a string")

func isNull(b []byte) bool { return len(b) == 4 && b[0] == 'n' }

// unquote decodes a JSON string.
func unquote(b []byte) (string, error) {
	if len(b) < 2 {
		return "", errNotString
	}
	if bytes.IndexByte(b, '\\') >= 0 {
		var s string
		err := json.Unmarshal(b, &s)
		return s, err
	}
	return string(b[1 : len(b)-1]), nil
}
