package server

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"runtime"
	"time"
)

// How much is sampled while profiles can be had: one contention of a mutex in 50, and
// one goroutine that has waited for each 100 µs of waiting.
const (
	mutexFraction = 50
	blockRate     = 100_000
)

// listenProfile opens the address of the profiles. They show what is in memory and
// need no token, so others can't reach them.
func listenProfile(ctx context.Context, addr string) (net.Listener, error) {
	host, _, err := net.SplitHostPort(addr)
	if err != nil || !loopback(host) {
		return nil, fmt.Errorf("--profile %s is no loopback address such as 127.0.0.1:6060; profiles are for this machine only", addr)
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("--profile %s: %w", addr, err)
	}
	return l, nil
}

// serveProfile answers /debug/pprof until ctx ends.
func (s *Server) serveProfile(ctx context.Context) error {
	runtime.SetMutexProfileFraction(mutexFraction)
	runtime.SetBlockProfileRate(blockRate)
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	defer context.AfterFunc(ctx, func() { _ = srv.Close() })()
	err := srv.Serve(s.profile)
	if ctx.Err() != nil {
		return nil //nolint:nilerr // closed by the end of ctx
	}
	return err
}
