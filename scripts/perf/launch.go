//go:build ignore

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// patience bounds everything that is waited for.
const patience = 2 * time.Minute

// pollEvery is how exactly a node is seen to be ready.
const pollEvery = time.Millisecond

// await waits until every node says that it is ready.
func await(urls []string) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for _, url := range urls {
		if err := untilReady(ctx, url); err != nil {
			return err
		}
	}
	return nil
}

func untilReady(ctx context.Context, url string) error {
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/readyz", nil)
		if err != nil {
			return err
		}
		resp, err := http.DefaultClient.Do(req)
		if err == nil {
			_, _ = io.Copy(io.Discard, resp.Body)
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready after %s: %w", url, patience, errors.Join(err, ctx.Err()))
		case <-time.After(pollEvery):
		}
	}
}

// launch starts `orrery dev` in a new folder, and prints how long it took until it
// was ready, and until the first job had its result.
func launch(args []string) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	data, err := os.MkdirTemp(args[1], "dev")
	if err != nil {
		return err
	}
	defer os.RemoveAll(data)
	free, err := freePorts(1)
	if err != nil {
		return err
	}
	port := free[0]
	cmd := exec.CommandContext(ctx, args[0], "dev", "--data", filepath.Join(data, "data"), "--http", "127.0.0.1:"+port)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	var said strings.Builder
	cmd.Stderr = &said
	url := "http://127.0.0.1:" + port
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return err
	}
	defer func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
	}()
	if err := untilReady(ctx, url); err != nil {
		return fmt.Errorf("%w\n%s", err, &said)
	}
	ready := time.Since(began)
	if err := firstJob(ctx, url); err != nil {
		return err
	}
	fmt.Printf("ready_ms %.2f\nfirst_job_ms %.2f\n", milliseconds(ready), milliseconds(time.Since(began)))
	return nil
}

func firstJob(ctx context.Context, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/v1/jobs", strings.NewReader(`{"type":"echo","payload":1}`))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Prefer", "wait=30")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	var j struct{ State string }
	if err := json.NewDecoder(resp.Body).Decode(&j); err != nil {
		return err
	}
	if j.State != "completed" {
		return fmt.Errorf("the first job is %q, not completed", j.State)
	}
	return nil
}

// sample prints what a node uses at the moment.
func sample(args []string) error {
	resp, err := http.Get(args[0] + "/metrics")
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	names := map[string]string{"process_resident_memory_bytes": "rss", "orrery_fsm_database_bytes": "database"}
	for s := bufio.NewScanner(resp.Body); s.Scan(); {
		name, value, _ := strings.Cut(s.Text(), " ")
		if as, ok := names[name]; ok {
			f, err := strconv.ParseFloat(value, 64)
			if err != nil {
				return err
			}
			fmt.Printf("%s %.0f\n", as, f)
		}
	}
	return nil
}

// jobsPerSecond is what our Go benchmarks report.
var jobsPerSecond = regexp.MustCompile(`([0-9.e+]+) jobs/s`)

// gobench reads the output of `go test -bench` and prints the rate.
func gobench([]string) error {
	b, err := io.ReadAll(os.Stdin)
	if err != nil {
		return err
	}
	m := jobsPerSecond.FindSubmatch(b)
	if m == nil {
		return fmt.Errorf("no rate in the output of the benchmark:\n%s", b)
	}
	fmt.Printf("rate %s\n", m[1])
	return nil
}
