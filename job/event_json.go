package job

import (
	"encoding/json"
	"strconv"
)

// AppendJSON appends the JSON of the event to b. It is the same as what encoding/json
// makes of it, without reflection: every listener has every event encoded.
func (e *Event) AppendJSON(b []byte) []byte {
	b = append(b, `{"id":"`...)
	b = e.ID.append(b)
	b = append(b, `","time":"`...)
	if e.Time != 0 {
		b = e.Time.Time().AppendFormat(b, timeLayout)
	}
	b = append(b, `","type":"`...)
	b = append(b, e.Type.String()...)
	b = append(b, '"')
	b = appendField(b, "job", int64(e.Job))
	b = appendText(b, "job_type", e.JobType)
	b = appendText(b, "queue", e.Queue)
	if e.State != 0 {
		b = appendText(b, "state", e.State.String())
	}
	if e.Fence != 0 {
		b = append(b, `,"fence":`...)
		b = strconv.AppendUint(b, uint64(e.Fence), 10)
	}
	b = appendField(b, "attempt", int64(e.Attempt))
	b = appendText(b, "agent", e.Agent)
	b = appendText(b, "schedule", e.Schedule)
	b = appendText(b, "detail", e.Detail)
	return append(b, '}')
}

// append appends "index.n".
func (e EventID) append(b []byte) []byte {
	b = strconv.AppendUint(b, e.Index, 10)
	b = append(b, '.')
	return strconv.AppendUint(b, uint64(e.N), 10)
}

// appendField appends a number, unless it is zero.
func appendField(b []byte, name string, v int64) []byte {
	if v == 0 {
		return b
	}
	b = append(append(append(b, `,"`...), name...), `":`...)
	return strconv.AppendInt(b, v, 10)
}

// appendText appends a string, unless it is empty.
func appendText(b []byte, name, v string) []byte {
	if v == "" {
		return b
	}
	b = append(append(append(b, `,"`...), name...), `":`...)
	for i := range len(v) {
		if c := v[i]; c < ' ' || c >= 0x7f || c == '"' || c == '\\' {
			quoted, err := json.Marshal(v)
			if err != nil { // a string can always be encoded
				quoted = []byte(`""`)
			}
			return append(b, quoted...)
		}
	}
	b = append(b, '"')
	b = append(b, v...)
	return append(b, '"')
}
