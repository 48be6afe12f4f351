//go:build ignore

package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Facts describe the machine and what was measured on it.
type Facts struct {
	Date     string `json:"date"`
	Revision string `json:"revision"`
	Go       string `json:"go"`
	Kernel   string `json:"kernel"`
	CPU      string `json:"cpu"`
	Cores    int    `json:"cores"`
	MemoryMB int64  `json:"memory_mb"`
	Disk     string `json:"disk"`
	// Sync is how long writing 4 KB and syncing them took, in milliseconds.
	SyncP50 float64 `json:"sync_p50_ms"`
	SyncP99 float64 `json:"sync_p99_ms"`
	// Load is the load average of a minute, before anything was measured.
	Load float64 `json:"load"`
}

func facts(args []string) error {
	f := Facts{Date: time.Now().UTC().Format("2006-01-02 15:04 UTC"), Revision: args[1], Go: runtime.Version() + " " + runtime.GOOS + "/" + runtime.GOARCH, Cores: runtime.NumCPU()}
	f.Kernel = firstLine("/proc/sys/kernel/osrelease")
	f.CPU = field("/proc/cpuinfo", "model name")
	if kb, err := strconv.ParseInt(strings.TrimSuffix(field("/proc/meminfo", "MemTotal"), " kB"), 10, 64); err == nil {
		f.MemoryMB = kb >> 10
	}
	f.Load, _ = strconv.ParseFloat(strings.Fields(firstLine("/proc/loadavg") + " 0")[0], 64)
	f.Disk = mountOf(args[0])
	took, err := syncTimes(args[0], 2000)
	if err != nil {
		return err
	}
	f.SyncP50, f.SyncP99 = quantile(took, 0.5), quantile(took, 0.99)
	return json.NewEncoder(os.Stdout).Encode(f)
}

func firstLine(name string) string {
	b, err := os.ReadFile(name)
	if err != nil {
		return "unknown"
	}
	line, _, _ := bytes.Cut(b, []byte("\n"))
	return strings.TrimSpace(string(line))
}

// field is the value of the first line "name : value" of a file.
func field(name, key string) string {
	f, err := os.Open(name)
	if err != nil {
		return "unknown"
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if k, v, ok := strings.Cut(s.Text(), ":"); ok && strings.TrimSpace(k) == key {
			return strings.TrimSpace(v)
		}
	}
	return "unknown"
}

// mountOf is the device and the file system that a folder is on.
func mountOf(dir string) string {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "unknown"
	}
	best, text := "", "unknown"
	b, _ := os.ReadFile("/proc/mounts")
	for line := range strings.Lines(string(b)) {
		w := strings.Fields(line)
		if len(w) > 2 && len(w[1]) >= len(best) && (abs == w[1] || strings.HasPrefix(abs, strings.TrimSuffix(w[1], "/")+"/")) {
			best, text = w[1], w[2]+" on "+w[0]
		}
	}
	return text
}

// syncTimes writes 4 KB and syncs them, n times, and returns how long each took in
// milliseconds, sorted. The first ones warm up and are left out.
func syncTimes(dir string, n int) ([]float64, error) {
	f, err := os.CreateTemp(dir, "sync")
	if err != nil {
		return nil, err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	page := make([]byte, 4096)
	var took []float64
	for i := range n + n/10 {
		began := time.Now()
		if _, err := f.Write(page); err != nil {
			return nil, err
		}
		if err := syscall.Fdatasync(int(f.Fd())); err != nil {
			return nil, err
		}
		if i >= n/10 {
			took = append(took, milliseconds(time.Since(began)))
		}
	}
	slices.Sort(took)
	return took, nil
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// ports prints ports that were free a moment ago.
func ports(args []string) error {
	n, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	found, err := freePorts(n)
	fmt.Println(strings.Join(found, " "))
	return err
}

func freePorts(n int) (found []string, err error) {
	for len(found) < n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer l.Close() // at the end, so that they are different
		p, err := net.ListenPacket("udp", l.Addr().String())
		if err != nil {
			continue
		}
		defer p.Close()
		found = append(found, strconv.Itoa(l.Addr().(*net.TCPAddr).Port))
	}
	return found, nil
}
