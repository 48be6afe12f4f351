package job

import (
	"encoding/json"
	"math"
	"reflect"
	"testing"
)

// TestEventAppendJSON compares with encoding/json, with every field set and unset.
func TestEventAppendJSON(t *testing.T) {
	full := Event{
		ID: EventID{math.MaxUint64, 7}, Time: 1_700_000_000_123, Type: JobRetrying, Job: math.MaxInt64, JobType: "email.send",
		Queue: "default", State: Scheduled, Fence: 12, Attempt: 3, Agent: "a-1", Schedule: "nightly",
		Detail: "<said> \"no\"\n\\ \u2028 grüße \x01 \xff",
	}
	check := func(e Event) {
		t.Helper()
		var got, want any
		text := e.AppendJSON([]byte("x"))[1:]
		if err := json.Unmarshal(text, &got); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		plain, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(plain, &want); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("got  %s\nwant %s", text, plain)
		}
	}
	check(Event{})
	check(full)
	for i := range reflect.TypeFor[Event]().NumField() {
		less, only := full, Event{}
		reflect.ValueOf(&less).Elem().Field(i).SetZero()
		reflect.ValueOf(&only).Elem().Field(i).Set(reflect.ValueOf(full).Field(i))
		check(less)
		check(only)
		if f := reflect.TypeFor[Event]().Field(i); f.Tag.Get("json") != "-" && reflect.ValueOf(full).Field(i).IsZero() {
			t.Errorf("field %s is not set", f.Name)
		}
	}
	for typ := range EventTypes() {
		check(Event{Type: EventType(typ + 1)})
	}
}

func BenchmarkEventAppendJSON(b *testing.B) {
	e := Event{ID: EventID{1 << 40, 7}, Time: 1_700_000_000_123, Type: JobCompleted, Job: 1 << 40, JobType: "email.send", Queue: "default", State: Completed, Fence: 12, Attempt: 3, Agent: "a-1"}
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		buf = e.AppendJSON(buf[:0])
	}
}
