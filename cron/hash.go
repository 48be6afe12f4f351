package cron

import (
	"encoding/binary"
	"hash/fnv"
	"time"
)

// hash spreads key over 64 bits, differently for each salt. Stored schedules
// depend on its values: it never changes. FNV-1a leaves the highest bits of
// short keys poor, so they go through the finalizer of MurmurHash3.
func hash(key string, salt ...byte) uint64 {
	h := fnv.New64a()
	h.Write([]byte(key))
	h.Write([]byte{0})
	h.Write(salt)
	x := h.Sum64()
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	x *= 0xc4ceb9fe1a85ec53
	x ^= x >> 33
	return x
}

// Jitter is a delay for one tick of what key names, from 0 up to but not
// including limit, in whole milliseconds. It is a function of its arguments and
// stays the same for ever. A limit under one millisecond gives 0.
func Jitter(key string, tick time.Time, limit time.Duration) time.Duration {
	steps := limit.Milliseconds()
	if steps <= 0 {
		return 0
	}
	salt := binary.BigEndian.AppendUint64([]byte("jitter"), uint64(tick.UnixMilli()))
	return time.Duration(hash(key, salt...)%uint64(steps)) * time.Millisecond
}
