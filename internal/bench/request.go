package bench

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/orrery-io/orrery/job"
)

// JobType is the type of every job of a measurement.
const JobType = "bench.noop"

// stampDigits is the length of the time in a payload.
const stampDigits = 16

// form is a request that submits jobs, rendered once. Before it is sent again only
// the digits change: those of the request's id, and the time in each payload.
type form struct {
	raw []byte
	// body is where the body begins, id where the digits of the id are, stamps where
	// those of the times are.
	body   int
	id     int
	stamps []int
}

// idDigits is the length of the part of a request's id that changes.
const idDigits = 16

// formConfig is what a form is rendered from.
type formConfig struct {
	host, path, token string
	// prefix begins the ids of requests.
	prefix    string
	queue     string
	retention time.Duration
	jobs      int
	payload   int
	batch     bool
}

func newForm(c formConfig) *form {
	item := c.item()
	var body bytes.Buffer
	var stamps []int
	if c.batch {
		body.WriteByte('[')
	}
	for i := range c.jobs {
		if i > 0 {
			body.WriteByte(',')
		}
		stamps = append(stamps, body.Len()+bytes.Index(item, []byte(zeroStamp)))
		body.Write(item)
	}
	path := c.path + "/v1/jobs"
	if c.batch {
		body.WriteByte(']')
		path += "/batch"
	}
	var head bytes.Buffer
	fmt.Fprintf(&head, "POST %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: orrery-bench\r\nAccept: application/json\r\n"+
		"Content-Type: application/json\r\nContent-Length: %d\r\n", path, c.host, body.Len())
	if c.token != "" {
		fmt.Fprintf(&head, "Authorization: Bearer %s\r\n", c.token)
	}
	fmt.Fprintf(&head, "Orrery-Request-Id: %s-", c.prefix)
	f := &form{id: head.Len()}
	head.WriteString(zeroStamp + "\r\n\r\n")
	f.body = head.Len()
	for _, at := range stamps {
		f.stamps = append(f.stamps, f.body+at)
	}
	f.raw = append(head.Bytes(), body.Bytes()...)
	return f
}

const zeroStamp = "0000000000000000"

// item is one job. Its payload is a string that begins with the time.
func (c formConfig) item() []byte {
	payload := make([]byte, c.payload-2-stampDigits)
	for i := range payload {
		payload[i] = 'x'
	}
	s := struct {
		Type      string       `json:"type"`
		Queue     string       `json:"queue"`
		Payload   string       `json:"payload"`
		Retention job.Duration `json:"retention,omitempty"`
	}{JobType, c.queue, zeroStamp + string(payload), job.For(c.retention)}
	b, err := json.Marshal(s)
	if err != nil {
		panic(err) // strings and numbers can be encoded
	}
	return b
}

// fill writes the id of the request, and the time at which its jobs are due.
func (f *form) fill(id uint64, due time.Duration) {
	putDigits(f.raw[f.id:f.id+idDigits], id)
	if len(f.stamps) == 0 {
		return
	}
	first := f.raw[f.stamps[0] : f.stamps[0]+stampDigits]
	putDigits(first, uint64(max(due, 0)))
	for _, at := range f.stamps[1:] {
		copy(f.raw[at:at+stampDigits], first)
	}
}

// putDigits writes n in decimal, right-aligned.
func putDigits(b []byte, n uint64) {
	for i := len(b) - 1; i >= 0; i-- {
		b[i] = byte('0' + n%10)
		n /= 10
	}
}

// stampOf reads the time from a payload; false when it isn't one of ours.
func stampOf(payload []byte) (time.Duration, bool) {
	if len(payload) < 1+stampDigits {
		return 0, false
	}
	n, err := strconv.ParseInt(string(payload[1:1+stampDigits]), 10, 64)
	return time.Duration(n), err == nil
}
