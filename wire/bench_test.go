package wire

import (
	"fmt"
	"testing"

	"github.com/orrery-io/orrery/job"
)

// batch is what passes between a busy agent and its node.
func batch(n int) (down, up []Message) {
	payload := job.JSON(fmt.Sprintf(`{"to":"someone@example.com","body":"%0160d"}`, 0))
	for i := range n {
		id, fence := job.ID(1_000_000+i), job.Fence(5_000_000+i)
		down = append(down, Message{Dispatch: &Dispatch{
			Job: id, Fence: fence, Type: "email.send", Queue: "default", Attempt: 1, MaxAttempts: 5,
			Payload: payload, CreatedAt: 1_700_000_000_000,
		}})
		up = append(up, Message{Result: &Result{Job: id, Fence: fence, Outcome: "completed", Result: job.JSON(`{"ok":true}`)}})
	}
	return down, up
}

func benchmarkFrame(b *testing.B, run func(b *testing.B, f Format, msgs []Message)) {
	for _, f := range []Format{Msgpack, JSON} {
		for _, n := range []int{1, 100} {
			down, up := batch(n)
			b.Run(fmt.Sprintf("format=%s/messages=%d/kind=dispatch", f, n), func(b *testing.B) { run(b, f, down) })
			b.Run(fmt.Sprintf("format=%s/messages=%d/kind=result", f, n), func(b *testing.B) { run(b, f, up) })
		}
	}
}

func BenchmarkAppendFrame(b *testing.B) {
	benchmarkFrame(b, func(b *testing.B, f Format, msgs []Message) {
		b.ReportAllocs()
		var buf []byte
		for b.Loop() {
			var err error
			if buf, err = AppendFrame(buf[:0], f, msgs); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(msgs)), "ns/msg")
	})
}

func BenchmarkDecodeFrame(b *testing.B) {
	benchmarkFrame(b, func(b *testing.B, f Format, msgs []Message) {
		buf, err := AppendFrame(nil, f, msgs)
		if err != nil {
			b.Fatal(err)
		}
		b.ReportAllocs()
		b.SetBytes(int64(len(buf)))
		for b.Loop() {
			if _, err := DecodeFrame(f, buf, Limits{}); err != nil {
				b.Fatal(err)
			}
		}
		b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(msgs)), "ns/msg")
	})
}
