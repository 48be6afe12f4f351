package command

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/orrery-io/orrery/job"
)

// samples holds one command of every kind with all fields set.
func samples() []Command {
	code := 3
	failure := &job.Failure{Kind: "exit", Message: "no", Stack: "at main", ExitCode: &code, Permanent: true}
	spec := job.Spec{
		Type: "email.send", Queue: "default", Payload: job.JSON(`{"a":1}`), PayloadBytes: []byte{0, 1}, Priority: 9, MaxAttempts: 3,
		Retry:   job.Retry{Backoff: job.List, Initial: 1, Max: 2, Multiplier: 1.5, Delays: []job.Duration{5, 6}, NoJitter: true},
		Timeout: 7, Lease: 8, ExpiresAt: 9, RunAt: 10, Tags: []string{"t"}, Metadata: job.Labels{{Key: "k", Value: "v"}},
		CorrelationID: "c", Traceparent: "00-1", IdempotencyKey: "key", Retention: 11,
	}
	assign := Assign{Agent: "a", Session: "s", Node: "n"}
	submit := Submit{Spec: spec, BodyHash: []byte{9}, Assign: &assign}
	return []Command{
		&submit,
		&SubmitAll{Jobs: []Submit{submit, {Spec: job.Spec{Type: "x", Queue: "q", Metadata: job.Labels{{Key: "k", Value: "v"}}}}}},
		&Ready{Jobs: []job.ID{1, 2}},
		&Dispatch{Job: 1, Assign: assign},
		&Start{Job: 1, Fence: 2},
		&Progress{Job: 1, Fence: 2, Progress: job.Progress{Percent: 50.5, Step: 1, Steps: 2, Message: "m", At: 5}},
		&AppendLog{Job: 1, Fence: 2, Lines: []job.LogLine{{Seq: 1, Time: 2, Level: "info", Text: "hello"}}},
		&Finish{Job: 1, Fence: 2, Outcome: job.OutcomeFailed, Next: job.Scheduled, RunAt: 5, Result: job.JSON(`1`), ResultBytes: []byte{1}, Error: failure},
		&Cancel{Job: 1, Reason: "r"},
		&Expire{Job: 1},
		&Retry{Job: 1},
		&Promote{Job: 1},
		&Redrive{Jobs: []job.ID{1}, Payload: job.JSON(`2`), Queue: "q"},
		&Delete{Jobs: []job.ID{1}, OnlyDead: true},
		&SetQueue{Queue: "q", Paused: true, Reason: "r"},
		&SetAgent{Agent: job.Agent{
			ID: "a", Name: "n", Group: "g", Labels: job.Labels{{Key: "k", Value: "v"}}, Capabilities: []job.Capability{{Type: "t", Version: "1"}},
			Queues: []string{"q"}, Slots: 4, Version: "v", Status: job.AgentDraining, Session: "s", Node: "n", FirstSeenAt: 1, ConnectedAt: 2, DisconnectedAt: 3,
		}},
		&AgentGone{ID: "a", Session: "s", Status: job.AgentLost},
		&ForgetAgents{IDs: []string{"a"}},
		&Init{ClusterID: "c", Replaces: "before"},
		&Migrate{To: 2},
		&TrimFeed{Through: 1 << 40},
		&Verify{},
		&SetSchedule{
			Name: "n", Rev: 4, Anchor: 5, Cursor: 6, Next: 7,
			Spec: job.ScheduleSpec{
				Description: "d", Expressions: []string{"@daily"}, Timezone: "UTC", Start: 1, End: 2, Exclude: []string{"12-25"}, Jitter: 3,
				CatchUp: job.CatchUp{Policy: job.CatchUpAll, Window: 4, Max: 5}, Overlap: job.OverlapQueueOne,
				Template: job.Template{Spec: spec, Delay: 6, ExpiresIn: 7},
			},
		},
		&PauseSchedule{Name: "n", Paused: true, Reason: "r", Until: 5, Rev: 6},
		&DeleteSchedule{Name: "n", Rev: 6},
		&Tick{Schedule: "n", Rev: 1, Planned: 2, Through: 3, Count: 4, AtLeast: true, Action: job.TickMissed, Reason: "r", Next: 5},
		&RunSchedule{Schedule: "n", Times: []job.Time{1, 2}, Reason: "r"},
	}
}

func encode(t testing.TB, e *Entry) []byte {
	t.Helper()
	b, err := e.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestSamplesAreComplete(t *testing.T) {
	last := KindRunSchedule
	if New(last+1) != nil {
		t.Fatalf("there is a kind after %d: put it into the samples", last)
	}
	seen := make(map[Kind]bool)
	for _, c := range samples() {
		seen[c.Kind()] = true
		// Every field is set, so that none can be forgotten in the encoding.
		v := reflect.ValueOf(c).Elem()
		for i := range v.NumField() {
			if v.Field(i).IsZero() {
				t.Errorf("%T: field %s is not set", c, v.Type().Field(i).Name)
			}
		}
	}
	for k := Kind(1); k <= last; k++ {
		if c := New(k); c == nil || c.Kind() != k {
			t.Errorf("New(%d) is %T", k, c)
		}
		if !seen[k] {
			t.Errorf("no sample of kind %d", k)
		}
	}
	if New(0) != nil {
		t.Error("there is a kind 0")
	}
}

func TestEntry(t *testing.T) {
	t.Run("every kind comes back as it was", func(t *testing.T) {
		e := &Entry{Time: 1_700_000_000_000, Version: "v1.2.3"}
		for i, c := range samples() {
			e.Items = append(e.Items, Item{RequestID: fmt.Sprint("request-", i), Command: c}, Item{Command: c})
		}
		b := encode(t, e)
		got, err := Decode(b)
		if err != nil || !reflect.DeepEqual(got, e) {
			t.Errorf("got %+v, %v", got, err)
		}
	})
	t.Run("the result shares no memory with the input", func(t *testing.T) {
		e := &Entry{Time: 1, Version: "v", Items: []Item{{RequestID: "r", Command: samples()[0]}}}
		b := encode(t, e)
		got, err := Decode(b)
		if err != nil {
			t.Fatal(err)
		}
		for i := range b {
			b[i] = 0xff
		}
		if !reflect.DeepEqual(got, e) {
			t.Errorf("it changed to %+v", got)
		}
	})
	t.Run("an entry without items", func(t *testing.T) {
		got, err := Decode(encode(t, &Entry{Time: 5}))
		if err != nil || got.Time != 5 || len(got.Items) != 0 {
			t.Errorf("got %+v, %v", got, err)
		}
	})
	t.Run("Size is an upper bound", func(t *testing.T) {
		for _, c := range samples() {
			it := Item{RequestID: strings.Repeat("r", MaxRequestID), Command: c}
			b, err := it.append(nil)
			if err != nil || len(b) > it.Size() {
				t.Errorf("%T: %d bytes, Size says %d, %v", c, len(b), it.Size(), err)
			}
		}
	})
	t.Run("unknown fields are skipped", func(t *testing.T) {
		b := encode(t, &Entry{Items: []Item{{Command: &Expire{Job: 7}}}})
		// {"j":7} becomes {"j":7,"zz":[1,"x"]}.
		i := bytes.LastIndexByte(b, 0x81)
		b[i] = 0x82
		b = append(b, 0xa2, 'z', 'z', 0x92, 1, 0xa1, 'x')
		got, err := Decode(b)
		if err != nil || !reflect.DeepEqual(got.Items[0].Command, &Expire{Job: 7}) {
			t.Errorf("got %+v, %v", got, err)
		}
	})
}

// TestEncodedIsDecoded makes every list and every byte string of every command
// long: an entry that was encoded and cannot be decoded stops all nodes for good.
func TestEncodedIsDecoded(t *testing.T) {
	for _, n := range []int{100_000, 100_001, job.MaxPayload, 5 << 20} {
		for i, c := range samples() {
			for _, f := range slicesOf(reflect.ValueOf(c)) {
				name := fmt.Sprintf("%T: a %s of %d", c, f.Type(), n)
				if f.Type().Elem().Size() > 64 && n > 100_001 {
					continue // heavy, and said already
				}
				old := reflect.ValueOf(f.Interface())
				f.Set(reflect.MakeSlice(f.Type(), n, n))
				e := &Entry{Items: []Item{{Command: samples()[i]}, {Command: c}}}
				if b, err := e.Append(nil); err == nil {
					if _, err := Decode(b); err != nil {
						t.Errorf("%s was encoded; to decode it gives: %v", name, err)
					}
				} else if f.Type().Elem().Kind() == reflect.Uint8 {
					t.Errorf("%s: %v", name, err)
				}
				f.Set(old)
			}
		}
	}
}

// slicesOf returns all slices below v, but those inside other slices.
func slicesOf(v reflect.Value) []reflect.Value {
	switch v.Kind() {
	case reflect.Slice:
		return []reflect.Value{v}
	case reflect.Pointer:
		return slicesOf(v.Elem())
	case reflect.Struct:
		var all []reflect.Value
		for _, field := range v.Fields() {
			all = append(all, slicesOf(field)...)
		}
		return all
	default:
		return nil
	}
}

func TestDecodeRefuses(t *testing.T) {
	good := encode(t, &Entry{Time: 1, Version: "v7", Items: []Item{{RequestID: "r", Command: &Expire{Job: 7}}}})
	t.Run("an unknown kind, with the version that wrote it", func(t *testing.T) {
		b := encode(t, &Entry{Version: "v7", Items: []Item{{Command: &Verify{}}}})
		b[len(b)-3] = 100
		_, err := Decode(b)
		unknown, ok := errors.AsType[*UnknownKindError](err)
		if !ok || unknown.Kind != 100 || unknown.Version != "v7" || !strings.Contains(err.Error(), `"v7"`) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("an unknown layout", func(t *testing.T) {
		b := bytes.Clone(good)
		b[0] = 9
		if _, err := Decode(b); err == nil || !strings.Contains(err.Error(), "layout 9") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("every truncation", func(t *testing.T) {
		for n := range good {
			if e, err := Decode(good[:n]); err == nil {
				t.Errorf("%d of %d bytes gave %+v", n, len(good), e)
			}
		}
	})
	t.Run("bytes too many", func(t *testing.T) {
		if _, err := Decode(append(bytes.Clone(good), 0)); err == nil {
			t.Error("was decoded")
		}
	})
	t.Run("more items than there can be", func(t *testing.T) {
		if _, err := Decode([]byte{format, 0, 0xa0, 0xdd, 0xff, 0xff, 0xff, 0xff}); err == nil {
			t.Error("was decoded")
		}
	})
	t.Run("a list longer than there can be, when it is encoded and decoded", func(t *testing.T) {
		e := &Entry{Items: []Item{{Command: &Ready{Jobs: make([]job.ID, 100_001)}}}}
		if _, err := e.Append(nil); err == nil {
			t.Error("was encoded")
		}
		b := []byte{format, 0, 0xa0, 0x91, byte(KindSubmitAll), 0xa0, 0x81, 0xa1, 'j', 0xdd, 0xff, 0xff, 0xff, 0xff}
		if _, err := Decode(b); err == nil {
			t.Error("was decoded")
		}
	})
	t.Run("a request id that is too long", func(t *testing.T) {
		b := encode(t, &Entry{Items: []Item{{RequestID: strings.Repeat("x", MaxRequestID+1), Command: &Verify{}}}})
		if _, err := Decode(b); err == nil {
			t.Error("was decoded")
		}
	})
}

func FuzzDecode(f *testing.F) {
	all := &Entry{Time: 5, Version: "v"}
	for i, c := range samples() {
		f.Add(encode(f, &Entry{Time: job.Time(i), Items: []Item{{RequestID: "r", Command: c}}}))
		all.Items = append(all.Items, Item{Command: c})
	}
	f.Add(encode(f, all))
	f.Add([]byte{})
	f.Add([]byte{format, 0, 0xa0, 0xdd, 0, 1, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := Decode(b)
		if err != nil {
			return
		}
		// What was decoded once is stable: replicas that read it back from their rows
		// encode the same bytes.
		once := encode(t, e)
		again, err := Decode(once)
		if err != nil {
			t.Fatalf("%+v is not decoded again: %v", e, err)
		}
		if twice := encode(t, again); !bytes.Equal(once, twice) {
			t.Errorf("%x became %x", once, twice)
		}
	})
}

// entry500 is what the proposer makes under load.
func entry500() *Entry {
	e := &Entry{Time: 1_700_000_000_000, Version: "v1.0.0"}
	payload := job.JSON(`"` + strings.Repeat("x", 198) + `"`)
	for range 500 {
		e.Items = append(e.Items, Item{Command: &Submit{Spec: job.Spec{Type: "email.send", Queue: "default", Payload: payload, Priority: 4, MaxAttempts: 5}}})
	}
	return e
}

func BenchmarkAppend(b *testing.B) {
	e := entry500()
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		var err error
		if buf, err = e.Append(buf[:0]); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*500), "ns/item")
	b.ReportMetric(float64(len(buf))/500, "bytes/item")
}

func BenchmarkDecode(b *testing.B) {
	buf := encode(b, entry500())
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Decode(buf); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*500), "ns/item")
}

// BenchmarkCommands is one command of each kind there and back, alone in its entry.
func BenchmarkCommands(b *testing.B) {
	for _, c := range samples() {
		b.Run(strings.TrimPrefix(fmt.Sprintf("%T", c), "*command."), func(b *testing.B) {
			e := &Entry{Time: 1_700_000_000_000, Version: "v1.0.0", Items: []Item{{Command: c}}}
			buf := encode(b, e)
			b.Run("encode", func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					var err error
					if buf, err = e.Append(buf[:0]); err != nil {
						b.Fatal(err)
					}
				}
			})
			b.Run("decode", func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if _, err := Decode(buf); err != nil {
						b.Fatal(err)
					}
				}
			})
		})
	}
}
