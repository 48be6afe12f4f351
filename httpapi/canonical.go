package httpapi

import (
	"bytes"
	"slices"
	"strconv"
)

// canonical returns a form of valid JSON that is the same for all texts of one
// value: no white space, the fields of objects in the order of their names,
// strings by their content. Numbers keep their text. It is meant for hashing, not
// for reading back. What is nested deeper than any payload may be is taken as
// it is.
func canonical(raw []byte) []byte { return canonicalAt(nil, raw, 0) }

const deepest = 100

func canonicalAt(to, raw []byte, depth int) []byte {
	raw = trim(raw)
	if len(raw) == 0 || depth > deepest {
		return append(to, raw...)
	}
	switch raw[0] {
	case '"':
		return canonicalString(to, raw)
	case '[':
		to = append(to, '[')
		for _, value := range elements(raw) {
			to = append(canonicalAt(to, value, depth+1), ',')
		}
		return append(to, ']')
	case '{':
		type member struct{ key, value []byte }
		var all []member
		for key, value := range members(raw) {
			all = append(all, member{canonicalString(nil, key), value})
		}
		slices.SortStableFunc(all, func(a, b member) int { return bytes.Compare(a.key, b.key) })
		to = append(to, '{')
		for _, m := range all {
			to = append(append(to, m.key...), ':')
			to = append(canonicalAt(to, m.value, depth+1), ',')
		}
		return append(to, '}')
	}
	return append(to, raw...)
}

// canonicalString writes length and content, so that no content can look like
// the end of the string.
func canonicalString(to, raw []byte) []byte {
	s, err := unquote(raw)
	if err != nil {
		return append(to, raw...)
	}
	to = strconv.AppendInt(append(to, '"'), int64(len(s)), 10)
	return append(append(to, ':'), s...)
}
