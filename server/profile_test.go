package server

import (
	"context"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
)

func TestProfile(t *testing.T) {
	for _, addr := range []string{"0.0.0.0:0", ":0", "10.0.0.1:0", "nonsense"} {
		_, err := New(Config{Data: t.TempDir(), HTTP: "127.0.0.1:0", Profile: addr})
		if err == nil || !strings.Contains(err.Error(), "--profile "+addr) {
			t.Errorf("%s: %v", addr, err)
		}
	}
	s, err := New(Config{Data: t.TempDir(), HTTP: "127.0.0.1:0", Profile: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := s.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	<-s.Ready()
	for _, path := range []string{"goroutine?debug=1", "heap?debug=1", "mutex?debug=1", "block?debug=1", "profile?seconds=1"} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+s.profile.Addr().String()+"/debug/pprof/"+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil || resp.StatusCode != http.StatusOK || len(body) == 0 {
			t.Errorf("%s: %s, %d bytes, %v", path, resp.Status, len(body), err)
		}
	}
	stop()
	wg.Wait()
}
