package httpapi

import (
	"crypto/sha256"
	"fmt"

	"github.com/orrery-io/orrery/command"
	"github.com/orrery-io/orrery/job"
)

// Submission is the body of POST /v1/jobs, and each element of a batch. It is
// read by decodeSubmission; the struct is what the OpenAPI document says of it,
// and a test compares the two.
type Submission struct {
	Type           string            `json:"type" doc:"Selects the handler." minLength:"1" maxLength:"200" example:"email.send"`
	Queue          string            `json:"queue,omitempty" doc:"The queue; it comes into being with the first job in it." maxLength:"200" default:"default"`
	Payload        anyJSON           `json:"payload,omitzero" doc:"Any JSON value, up to 1 MiB and 64 levels deep. The handler gets it as it was sent."`
	PayloadBytes   []byte            `json:"payload_bytes,omitempty" doc:"Raw bytes in base64, instead of payload."`
	Priority       int               `json:"priority,omitempty" doc:"Higher first; in order of arrival within one priority." minimum:"0" maximum:"9" default:"4"`
	RunAt          momentText        `json:"run_at,omitzero" doc:"When the job may first run."`
	Delay          durationText      `json:"delay,omitzero" doc:"How long from now until the job may first run, instead of run_at."`
	MaxAttempts    int               `json:"max_attempts,omitempty" doc:"How many executions may fail or time out. 1 means that the job runs at most once." minimum:"1" maximum:"100" default:"5"`
	Retry          RetryPolicy       `json:"retry,omitzero" doc:"The delays between attempts."`
	Timeout        durationText      `json:"timeout,omitzero" doc:"Bounds one attempt; without it there is no limit."`
	Lease          durationText      `json:"lease,omitzero" doc:"How long the agent may be silent before the attempt is lost; it lengthens the node's own lease (15s) and never shortens it. At least 2s."`
	ExpiresIn      durationText      `json:"expires_in,omitzero" doc:"The job ends as expired when it was not started within this time."`
	StartBy        momentText        `json:"start_by,omitzero" doc:"The job ends as expired when it was not started by then, instead of expires_in."`
	Tags           []string          `json:"tags,omitempty" doc:"Words to find the job by." maxItems:"32"`
	Metadata       map[string]string `json:"metadata,omitempty" doc:"Up to 64 keys and values to find the job by; the handler gets them too."`
	CorrelationID  string            `json:"correlation_id,omitempty" doc:"Ties together what belongs together." maxLength:"256"`
	Traceparent    string            `json:"traceparent,omitempty" doc:"W3C trace context; the header of this name is taken when the field is absent." maxLength:"64"`
	IdempotencyKey string            `json:"idempotency_key,omitempty" doc:"The same key with the same body returns the first job, with a different body it is refused (422). May be sent as the header Idempotency-Key." maxLength:"256"`
	Retention      durationText      `json:"retention,omitzero" doc:"How long the job is kept after it ended."`
}

// RetryPolicy is what the OpenAPI document says of job.Retry.
type RetryPolicy struct {
	Backoff    string         `json:"backoff,omitempty" doc:"How the delay grows." enum:"exponential,linear,fixed,list" default:"exponential"`
	Initial    durationText   `json:"initial,omitzero" doc:"The first delay; 1s by default."`
	Max        durationText   `json:"max,omitzero" doc:"The longest delay; 10m by default."`
	Multiplier float64        `json:"multiplier,omitempty" doc:"Of exponential; 2 by default." minimum:"1" maximum:"100"`
	Delays     []durationText `json:"delays,omitzero" doc:"Of list: the delay before each attempt; the last one repeats." maxItems:"100"`
	NoJitter   bool           `json:"no_jitter,omitempty" doc:"Switches the jitter (±25 %) off."`
}

// The fields of a submission. The numbers are their places in submissionFields.
const (
	fieldType = iota
	fieldQueue
	fieldPayload
	fieldPayloadBytes
	fieldPriority
	fieldRunAt
	fieldDelay
	fieldMaxAttempts
	fieldRetry
	fieldTimeout
	fieldLease
	fieldExpiresIn
	fieldStartBy
	fieldTags
	fieldMetadata
	fieldCorrelationID
	fieldTraceparent
	fieldIdempotencyKey
	fieldRetention
)

func submissionFields() []string { return submissionNames[:] }

var submissionNames = [...]string{
	"type", "queue", "payload", "payload_bytes", "priority", "run_at", "delay", "max_attempts", "retry", "timeout",
	"lease", "expires_in", "start_by", "tags", "metadata", "correlation_id", "traceparent", "idempotency_key", "retention",
}

var retryNames = [...]string{"backoff", "initial", "max", "multiplier", "delays", "no_jitter"}

// submission is a decoded body, before the clock has been asked.
type submission struct {
	spec                      job.Spec
	delay, expiresIn          job.Duration
	hasRunAt, hasDelay, hasIn bool
}

// decodeSubmission reads one submission at p. What it returns shares no memory
// with raw. raw must have passed checkJSON.
func decodeSubmission(p path, raw []byte) (*submission, error) {
	var d decoder
	s := &submission{}
	s.spec.Priority = job.DefaultPriority
	s.spec.MaxAttempts = job.DefaultMaxAttempts
	payload := 0
	parent := p.String()
	d.object(p, raw, submissionFields(), func(name int, value []byte) {
		if name == fieldPayload {
			if payload = len(value); payload <= job.MaxPayload {
				s.spec.Payload = append(job.JSON(nil), value...)
			}
			return
		}
		s.field(&d, path{parent, submissionNames[name]}, name, value)
	})
	if n := max(payload, len(s.spec.PayloadBytes)); n > job.MaxPayload {
		return nil, errTooLarge(path{parent, "payload"}.String(), fmt.Sprintf("is %d bytes; the limit is %d", n, job.MaxPayload))
	}
	if s.hasRunAt && s.hasDelay {
		d.fail("invalid_value", path{parent, "delay"}, "give run_at or delay, not both")
	}
	if s.hasIn && s.spec.ExpiresAt != 0 {
		d.fail("invalid_value", path{parent, "expires_in"}, "give expires_in or start_by, not both")
	}
	return s, d.err()
}

func (s *submission) field(d *decoder, p path, name int, value []byte) {
	switch name {
	case fieldType:
		s.spec.Type = d.text(p, value)
	case fieldQueue:
		s.spec.Queue = d.text(p, value)
	case fieldPayloadBytes:
		s.spec.PayloadBytes = d.bytes(p, value)
	case fieldPriority:
		s.spec.Priority = int(d.number(p, value, 0, job.MaxPriority))
	case fieldRunAt:
		s.spec.RunAt, s.hasRunAt = d.moment(p, value), true
	case fieldDelay:
		s.delay, s.hasDelay = d.duration(p, value, true), true
	case fieldMaxAttempts:
		s.spec.MaxAttempts = int(d.number(p, value, 1, job.MaxAttempts))
	case fieldRetry:
		s.spec.Retry = decodeRetry(d, p, value)
	case fieldTimeout:
		s.spec.Timeout = d.duration(p, value, false)
	case fieldLease:
		s.spec.Lease = d.duration(p, value, false)
	case fieldExpiresIn:
		s.expiresIn, s.hasIn = d.duration(p, value, false), true
	case fieldStartBy:
		s.spec.ExpiresAt = d.moment(p, value)
	case fieldTags:
		s.spec.Tags = d.texts(p, value, job.MaxTags)
	case fieldMetadata:
		s.spec.Metadata = d.labels(p, value)
	case fieldCorrelationID:
		s.spec.CorrelationID = d.text(p, value)
	case fieldTraceparent:
		s.spec.Traceparent = d.text(p, value)
	case fieldIdempotencyKey:
		s.spec.IdempotencyKey = d.text(p, value)
	case fieldRetention:
		s.spec.Retention = d.duration(p, value, false)
	}
}

func decodeRetry(d *decoder, p path, raw []byte) (r job.Retry) {
	parent := p.String()
	d.object(p, raw, retryNames[:], func(name int, value []byte) {
		at := path{parent, retryNames[name]}
		switch retryNames[name] {
		case "backoff":
			d.parse(at, value, &r.Backoff)
		case "initial":
			r.Initial = d.duration(at, value, false)
		case "max":
			r.Max = d.duration(at, value, false)
		case "multiplier":
			r.Multiplier = d.float(at, value)
		case "delays":
			d.list(at, value, "durations", job.MaxAttempts, func(p path, raw []byte) {
				r.Delays = append(r.Delays, d.duration(p, raw, true))
			})
		case "no_jitter":
			r.NoJitter = d.boolean(at, value)
		}
	})
	return r
}

// command makes the command, with now as the moment from which delays count. p
// is where the submission stood.
func (s *submission) command(p path, now job.Time) (*command.Submit, error) {
	c := &command.Submit{Spec: s.spec}
	c.Spec.Normalize()
	if s.spec.IdempotencyKey != "" {
		c.BodyHash = s.hash()
	}
	if s.hasDelay && s.delay > 0 {
		c.Spec.RunAt = now.Add(s.delay)
	}
	if s.hasIn {
		c.Spec.ExpiresAt = now.Add(s.expiresIn)
	}
	fields := c.Spec.Check()
	if c.Spec.ExpiresAt != 0 && c.Spec.ExpiresAt <= now {
		fields = append(fields, job.FieldError{Pointer: "/start_by", Detail: "is in the past"})
	}
	if len(fields) == 0 {
		return c, nil
	}
	if parent := p.String(); parent != "" {
		for i := range fields {
			fields[i].Pointer = parent + fields[i].Pointer
		}
	}
	return nil, invalidFields("invalid_value", fields)
}

// hash tells two submissions apart. It is computed over what was asked for, not
// over its text: neither white space nor the order of fields matters, in the
// payload neither. The idempotency key and the trace, which may differ between two
// tries, are left out; so are the moments that a delay works out to.
func (s *submission) hash() []byte {
	spec := s.spec
	spec.IdempotencyKey, spec.Traceparent = "", ""
	spec.Normalize()
	spec.Payload = canonical(spec.Payload)
	h := sha256.New()
	// Rows are encoded without maps, so equal Specs have equal encodings.
	b, err := spec.MarshalMsg(nil)
	if err != nil {
		// Nothing in a Spec can fail to encode; a hash of nothing matches nothing.
		return []byte{0}
	}
	fmt.Fprintf(h, "%d %d ", s.delay, s.expiresIn)
	_, _ = h.Write(b)
	return h.Sum(nil)
}
