package client_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/orrery-io/orrery/client"
	"github.com/orrery-io/orrery/job"
)

const clusterAnswer = `{"cluster_id":"c1","version":"v1","node":"n2","leader":"n1","term":3,"servers":[{"id":"n1","voter":true}],` +
	`"members":[{"id":"n1","address":"10.0.0.1:7701","voter":true,"leader":true,"http":"http://10.0.0.1:7700","version":"v1","alive":true,"applied":9,"lag":0},` +
	`{"id":"n2","alive":true,"lag":4,"last_contact":"2027-01-31T08:00:00Z","installing":{"bytes":1,"size":4},"draining":true}]}`

func TestCluster(t *testing.T) {
	b := setup(t, answer(200, clusterAnswer))
	cl, err := b.client.Cluster(t.Context())
	if err != nil || cl.Leader != "n1" || cl.Term != 3 || !cl.Servers[0].Voter || len(cl.Members) != 2 {
		t.Fatalf("cluster %+v, %v", cl, err)
	}
	if m := cl.Members[1]; m.Lag != 4 || m.Installing.Size != 4 || !m.Draining || m.LastContact == 0 || m.Voter {
		t.Errorf("member %+v", m)
	}
	members, err := b.client.Members(t.Context())
	if err != nil || len(members) != 2 || !members[0].Leader || members[0].ID != "n1" {
		t.Errorf("members %+v, %v", members, err)
	}
	b = setup(t, answer(200, `{"node":"n2","servers":[],"members_error":"the cluster has no leader at the moment"}`))
	if _, err := b.client.Members(t.Context()); !errors.Is(err, job.ErrNotLeader) || !strings.Contains(err.Error(), "no leader at the moment") {
		t.Errorf("error %v", err)
	}
}

func TestCluster_changes(t *testing.T) {
	b := setup(t,
		answer(200, clusterAnswer), answer(200, clusterAnswer), answer(200, clusterAnswer), answer(200, clusterAnswer),
		answer(200, `{"leader":"n2"}`), answer(200, `{"leader":"n3"}`),
		answer(200, `{"index":7,"equal":false,"hashes":{"n1":"a","n2":"b"},"missing":["n3"]}`), answer(200, `{"index":8}`),
	)
	c, ctx := b.client, t.Context()
	if cl, err := c.Join(ctx, "10.0.0.3:7701"); err != nil || len(cl.Members) != 2 {
		t.Errorf("%+v %v", cl, err)
	}
	for _, force := range []bool{false, true} {
		if _, err := c.RemoveMember(ctx, "n3", force); err != nil {
			t.Error(err)
		}
	}
	if _, err := c.Drain(ctx, "n2", false); err != nil {
		t.Error(err)
	}
	for _, to := range []string{"", "n3"} {
		if leader, err := c.TransferLeadership(ctx, to); err != nil || leader == "" {
			t.Error(leader, err)
		}
	}
	if v, err := c.Verify(ctx); err != nil || v.Equal || v.Index != 7 || v.Hashes["n2"] != "b" || v.Missing[0] != "n3" {
		t.Errorf("%+v %v", v, err)
	}
	if index, err := c.Snapshot(ctx); err != nil || index != 8 {
		t.Error(index, err)
	}
	want := []string{
		`join {"address":"10.0.0.3:7701"}`, `remove {"id":"n3"}`, `remove {"force":true,"id":"n3"}`, `drain {"id":"n2","on":false}`,
		`transfer `, `transfer {"to":"n3"}`, `verify `, `snapshot `,
	}
	for i, got := range b.seen() {
		if text := got.method + " " + got.path + " " + got.body; text != "POST /v1/cluster/"+want[i] {
			t.Errorf("request %d is %s, want %s", i, text, want[i])
		}
	}
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return "sha-256=:" + base64.StdEncoding.EncodeToString(sum[:]) + ":"
}

// backupNode answers with content, and says that it has the digest given.
func backupNode(content []byte, digest string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Repr-Digest", digest)
		w.Header().Set("Content-Length", fmt.Sprint(len(content)))
		_, _ = w.Write(content)
	}
}

func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, e := range entries {
		all = append(all, e.Name())
	}
	return all
}

func TestBackup(t *testing.T) {
	content := bytes.Repeat([]byte("0123456789"), 100_000)
	dir := t.TempDir()
	path := filepath.Join(dir, "b.db")
	if err := os.WriteFile(path, []byte("of yesterday"), 0o600); err != nil {
		t.Fatal(err)
	}
	breaks := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "1000000")
		_, _ = w.Write(content[:1000])
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}
	for _, tt := range []struct {
		name   string
		answer http.HandlerFunc
		want   string
	}{
		{"it breaks off", breaks, "the backup broke off after 1000 of 1000000 bytes from http://"},
		{"it was changed on the way", backupNode(content, digest([]byte("x"))), "another checksum"},
		{"it is refused", answer(409, `{"code":"c","detail":"not now"}`), "not now"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := setup(t, tt.answer).client.Backup(t.Context(), path, nil)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
			old, _ := os.ReadFile(path)
			if got := names(t, dir); len(got) != 1 || string(old) != "of yesterday" {
				t.Errorf("the folder holds %v, the file %.20q", got, old)
			}
		})
	}

	b := setup(t, backupNode(content, digest(content)))
	last, total := int64(0), int64(0)
	size, err := b.client.Backup(t.Context(), path, func(done, all int64) { last, total = done, all })
	if err != nil || size != int64(len(content)) || last != size || total != size {
		t.Errorf("%d bytes (%d of %d), %v", size, last, total, err)
	}
	if got, _ := os.ReadFile(path); !bytes.Equal(got, content) || len(names(t, dir)) != 1 {
		t.Errorf("%d bytes, %v", len(got), names(t, dir))
	}
	if got := b.seen()[0].header.Get("Accept"); got != "application/octet-stream" {
		t.Errorf("Accept %q", got)
	}
	if _, err := b.client.Backup(t.Context(), filepath.Join(dir, "no", "b.db"), nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error %v", err)
	}

	full := errors.New("the disk is full")
	if _, err := b.client.BackupTo(t.Context(), writerFunc(func([]byte) (int, error) { return 0, full }), nil); !errors.Is(err, full) {
		t.Errorf("error %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	_, err = b.client.BackupTo(ctx, writerFunc(func(p []byte) (int, error) { cancel(); return len(p), nil }), nil)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func TestRestore(t *testing.T) {
	content := bytes.Repeat([]byte("0123456789"), 50_000)
	path := filepath.Join(t.TempDir(), "b.db")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	b := setup(t, answer(200, clusterAnswer))
	last := int64(0)
	cl, err := b.client.Restore(t.Context(), path, func(done, _ int64) { last = done })
	if err != nil || cl.ClusterID != "c1" || last != int64(len(content)) {
		t.Fatalf("%+v %v, %d bytes", cl, err, last)
	}
	got := b.seen()[0]
	if got.path != "/v1/cluster/restore" || got.query.Get("confirm") != "true" || got.body != string(content) ||
		got.header.Get("Repr-Digest") != digest(content) || got.header.Get("Content-Type") != "application/octet-stream" ||
		got.header.Get("Content-Length") != "500000" {
		t.Errorf("%s %v %v, %d bytes", got.path, got.query, got.header, len(got.body))
	}

	// It is not sent twice when nobody knows what became of it.
	b = setup(t, drop)
	if _, err := b.client.Restore(t.Context(), path, nil); err == nil || len(b.seen()) != 1 {
		t.Errorf("%v after %d requests", err, len(b.seen()))
	}
	if _, err := b.client.Restore(t.Context(), path+"x", nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error %v", err)
	}
}

// TestRestore_that_is_refused is not sent at all.
func TestRestore_that_is_refused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "b.db")
	if err := os.WriteFile(path, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	sent := int64(0)
	b := refusing(t)
	_, err := b.Restore(t.Context(), path, func(done, _ int64) { sent = done })
	if e, ok := errors.AsType[*client.Error](err); !ok || e.Status != 409 || sent != 0 {
		t.Errorf("error %v, %d bytes were sent", err, sent)
	}
}

// refusing is a client of a node that refuses without reading.
func refusing(t *testing.T) *client.Client {
	t.Helper()
	srv := httptest.NewServer(answer(409, `{"code":"no","detail":"not now"}`))
	t.Cleanup(srv.Close)
	c, err := client.New(client.Config{Addr: srv.URL})
	if err != nil {
		t.Fatal(err)
	}
	return c
}
