package keyring

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func ring(t testing.TB, keys ...string) *Ring {
	t.Helper()
	r, err := New(keys...)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestDerivation pins what comes from a key: nodes of different versions must agree.
func TestDerivation(t *testing.T) {
	r := ring(t, "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=")
	ca := sha256.Sum256(r.state.Load().keys[0].ca.Raw)
	got := []string{r.Keys()[0], hex.EncodeToString(r.GossipKeys()[0]), hex.EncodeToString(ca[:])}
	want := []string{
		"07f24b0b",
		"5fcea8248fa398cfb46b488879f66d68539cfd17120ea336aa9d8b3ff31e55f0",
		"85e9c96ea13a044a34b195644174a761853705b0e1f81b16a0674a916374c842",
	}
	if !slices.Equal(got, want) {
		t.Errorf("a key gives %q, want %q: nodes of different versions would not understand each other", got, want)
	}
}

func TestGenerate(t *testing.T) {
	a, b := Generate(), Generate()
	if a == b {
		t.Error("the same key twice")
	}
	r := ring(t, a, b, a)
	if len(r.Keys()) != 2 || len(r.GossipKeys()) != 2 || len(r.GossipKeys()[0]) != 32 {
		t.Errorf("keys %q", r.Keys())
	}
	if bytes.Equal(r.GossipKeys()[0], r.GossipKeys()[1]) || strings.Contains(a, r.Keys()[0]) {
		t.Error("what comes from two keys is alike")
	}
}

// meet lets two sides shake hands, and returns what each learns of the other.
func meet(t *testing.T, server, client *tls.Config) (atServer, atClient tls.ConnectionState, serverErr, clientErr error) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		raw, err := l.Accept()
		if err != nil {
			serverErr = err
			return
		}
		defer raw.Close()
		s := tls.Server(raw, server)
		_ = s.SetDeadline(time.Now().Add(time.Minute))
		serverErr = s.Handshake()
		atServer = s.ConnectionState()
		_, _ = s.Write([]byte{1})
		_, _ = s.Read(make([]byte, 1)) // until the client has read why
	}()
	raw, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	c := tls.Client(raw, client)
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	if clientErr = c.Handshake(); clientErr == nil {
		_, clientErr = c.Read(make([]byte, 1)) // TLS 1.3: only now it knows
	}
	atClient = c.ConnectionState()
	raw.Close()
	<-done
	return atServer, atClient, serverErr, clientErr
}

func TestHandshake(t *testing.T) {
	k1, k2, k3 := Generate(), Generate(), Generate()
	tests := []struct {
		name   string
		server []string
		client []string
		ok     bool
	}{
		{"same key", []string{k1}, []string{k1}, true},
		{"different keys", []string{k1}, []string{k2}, false},
		{"added on one side", []string{k1, k2}, []string{k1}, true},
		{"used by one side, accepted by the other", []string{k1, k2}, []string{k2, k1}, true},
		{"one side has dropped what the other still accepts", []string{k2}, []string{k2, k1}, true},
		{"dropped too early", []string{k2}, []string{k1, k2}, false},
		{"nothing in common that is used", []string{k1, k2}, []string{k3, k1, k2}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			server, client := ring(t, tt.server...), ring(t, tt.client...)
			atServer, atClient, serverErr, clientErr := meet(t, server.ServerConfig("n1", "raft"), client.ClientConfig("n2", "raft"))
			if (serverErr == nil && clientErr == nil) != tt.ok {
				t.Fatalf("server: %v, client: %v", serverErr, clientErr)
			}
			if !tt.ok {
				if !errors.Is(serverErr, ErrWrongKey) && !errors.Is(clientErr, ErrWrongKey) {
					t.Errorf("neither side says why: server: %v, client: %v", serverErr, clientErr)
				}
				return
			}
			if p, err := server.Peer(atServer); err != nil || p.Node != "n2" || p.Key != client.Keys()[0] {
				t.Errorf("the server met %+v, %v", p, err)
			}
			if p, err := client.Peer(atClient); err != nil || p.Node != "n1" || p.Key != server.Keys()[0] {
				t.Errorf("the client met %+v, %v", p, err)
			}
			if atServer.Version != tls.VersionTLS13 || atServer.NegotiatedProtocol != "raft" || atServer.DidResume {
				t.Errorf("connection %+v", atServer)
			}
		})
	}
}

func TestHandshake_refuses(t *testing.T) {
	r := ring(t, Generate())
	pair := r.state.Load().keys[0]
	selfMade := func() *tls.Certificate {
		// Says that it comes from the right authority, but is signed by another one.
		other := ring(t, Generate()).state.Load().keys[0]
		forged := *pair
		forged.sign = other.sign
		forged.ca = &x509.Certificate{Subject: pair.ca.Subject, SubjectKeyId: pair.ca.SubjectKeyId, RawSubject: pair.ca.RawSubject, PublicKey: other.sign.Public()}
		c, err := forged.issue("n2")
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	ca := &tls.Certificate{Certificate: [][]byte{pair.ca.Raw}, PrivateKey: pair.sign}
	tests := []struct {
		name   string
		change func(*tls.Config)
	}{
		{"no certificate", func(c *tls.Config) { c.GetClientCertificate = nil }},
		{"a forged certificate", func(c *tls.Config) {
			c.GetClientCertificate = nil
			c.Certificates = []tls.Certificate{*selfMade()}
		}},
		{"the authority's own certificate", func(c *tls.Config) {
			c.GetClientCertificate = nil
			c.Certificates = []tls.Certificate{*ca}
		}},
		{"TLS 1.2", func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS12, tls.VersionTLS12 }},
		{"an unknown protocol", func(c *tls.Config) { c.NextProtos = []string{"h2"} }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			client := r.ClientConfig("n2", "raft")
			tt.change(client)
			if _, _, serverErr, _ := meet(t, r.ServerConfig("n1", "raft"), client); serverErr == nil {
				t.Error("accepted")
			}
		})
	}
	if _, err := r.Peer(tls.ConnectionState{}); !errors.Is(err, ErrNoCertificate) {
		t.Errorf("a connection without a certificate: %v", err)
	}
}

// TestNoResumption shows that a handshake is always a whole one, even for a client that
// would like to save it.
func TestNoResumption(t *testing.T) {
	r := ring(t, Generate())
	client := r.ClientConfig("n2", "raft")
	client.ClientSessionCache = tls.NewLRUClientSessionCache(8)
	client.ServerName = "cluster"
	server := r.ServerConfig("n1", "raft")
	for range 3 {
		_, got, serverErr, clientErr := meet(t, server, client)
		if serverErr != nil || clientErr != nil || got.DidResume {
			t.Fatalf("resumed %v, %v, %v", got.DidResume, serverErr, clientErr)
		}
	}
}

// TestClock shows that what a clock says doesn't matter.
func TestClock(t *testing.T) {
	r := ring(t, Generate())
	for _, now := range []time.Time{{}, time.Unix(0, 0).AddDate(-1, 0, 0), time.Date(9998, 1, 1, 0, 0, 0, 0, time.UTC)} {
		server, client := r.ServerConfig("n1", "raft"), r.ClientConfig("n2", "raft")
		server.Time, client.Time = func() time.Time { return now }, func() time.Time { return now }
		if _, _, serverErr, clientErr := meet(t, server, client); serverErr != nil || clientErr != nil {
			t.Errorf("at %s: server %v, client %v", now, serverErr, clientErr)
		}
	}
}

func TestConfigsFollowTheRing(t *testing.T) {
	old, fresh := Generate(), Generate()
	a, b := ring(t, old), ring(t, old)
	server, client := a.ServerConfig("n1", "raft"), b.ClientConfig("n2", "raft")
	set := func(r *Ring, keys ...string) {
		t.Helper()
		changed := r.Changed()
		if did, err := r.Set(keys...); err != nil || !did {
			t.Fatalf("changed %v, %v", did, err)
		}
		select {
		case <-changed:
		default:
			t.Error("nobody was told of the change")
		}
		if did, err := r.Set(keys...); err != nil || did {
			t.Errorf("the same again: changed %v, %v", did, err)
		}
	}
	works := func(want string) {
		t.Helper()
		at, _, serverErr, clientErr := meet(t, server, client)
		if serverErr != nil || clientErr != nil {
			t.Fatalf("server %v, client %v", serverErr, clientErr)
		}
		if p, err := a.Peer(at); err != nil || p.Key != want {
			t.Errorf("peer %+v, %v; want key %s", p, err, want)
		}
	}
	oldName, freshName := ring(t, old).Keys()[0], ring(t, fresh).Keys()[0]
	works(oldName)
	set(a, old, fresh)
	works(oldName)
	set(b, old, fresh)
	set(b, fresh, old)
	works(freshName)
	set(a, fresh, old)
	set(a, fresh)
	works(freshName)
	set(b, fresh)
	works(freshName)
	if a.Has(oldName) || !a.Has(freshName) {
		t.Errorf("keys %q", a.Keys())
	}
	set(b, old)
	if _, _, serverErr, clientErr := meet(t, server, client); serverErr == nil && clientErr == nil {
		t.Error("a dropped key is accepted")
	}
	if _, err := a.Set("garbage"); err == nil || a.Keys()[0] != freshName {
		t.Errorf("after a bad change: %v, keys %q", err, a.Keys())
	}
}

func TestLoad(t *testing.T) {
	k1, k2 := Generate(), Generate()
	n1, n2 := ring(t, k1).Keys()[0], ring(t, k2).Keys()[0]
	tests := []struct {
		name, content string
		want          []string
		err           string
	}{
		{"one key", k1 + "\n", []string{n1}, ""},
		{"no newline at the end", k1, []string{n1}, ""},
		{"two keys", k2 + "\n" + k1 + "\n", []string{n2, n1}, ""},
		{"comments and empty lines", "# the cluster key\n\n  " + k1 + "  # since May\r\n\t\n" + k2, []string{n1, n2}, ""},
		{"the same key twice", k1 + "\n" + k1 + "\n", []string{n1}, ""},
		{"without the padding", strings.TrimRight(k1, "=") + "\n", []string{n1}, ""},
		{"a byte order mark", "\xef\xbb\xbf" + k1 + "\n", []string{n1}, ""},
		{"empty", "", nil, "there is no key in"},
		{"only comments", "# " + k1 + "\n", nil, "there is no key in"},
		{"garbage", k1 + "\nhello, world\n", nil, "line 2 of the cluster key file"},
		{"too short", "# key:\nAAAA\n", nil, "line 2 of the cluster key file"},
		{"too long", k1[:40] + k1[:40], nil, "line 1 of the cluster key file"},
		{"two keys on a line", k1 + " " + k2, nil, "line 1 of the cluster key file"},
		{"large", strings.Repeat("#\n", 40<<10), nil, "larger than"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "cluster.key")
			write(t, path, tt.content)
			r, err := Load(path)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) || !strings.Contains(err.Error(), path) {
					t.Errorf("got %v, want %q", err, tt.err)
				}
				if err != nil && (strings.Contains(err.Error(), k1[:8]) || strings.Contains(err.Error(), "hello")) {
					t.Errorf("the error tells what may be a key: %v", err)
				}
				return
			}
			if err != nil || !slices.Equal(r.Keys(), tt.want) {
				t.Errorf("keys %q, %v; want %q", r.Keys(), err, tt.want)
			}
		})
	}
	if _, err := Load(filepath.Join(t.TempDir(), "none")); err == nil || !strings.Contains(err.Error(), "does not exist") {
		t.Errorf("a missing file: %v", err)
	}
	if _, err := Load(t.TempDir()); err == nil {
		t.Error("a folder is no key file")
	}
	if _, err := New(); err == nil {
		t.Error("a ring without keys")
	}
}

// write replaces a file at once: whoever reads it meanwhile finds no half of it.
func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path+".new", []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

func TestWatch(t *testing.T) {
	k1, k2 := Generate(), Generate()
	path := filepath.Join(t.TempDir(), "cluster.key")
	write(t, path, k1+"\n")
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		r, err := Load(path)
		if err != nil {
			t.Fatal(err)
		}
		var log bytes.Buffer
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			r.Watch(ctx, slog.New(slog.NewTextHandler(&log, nil)))
		}()
		changed := r.Changed()
		synctest.Wait() // it has looked
		write(t, path, "oops\n")
		time.Sleep(5 * poll)
		synctest.Wait()
		if got := strings.Count(log.String(), "level=ERROR"); got != 1 || !strings.Contains(log.String(), "line 1") {
			t.Errorf("%d complaints about a wrong file:\n%s", got, log.String())
		}
		write(t, path, k2+"\n"+k1+"\n")
		<-changed
		synctest.Wait()
		if want := ring(t, k2, k1).Keys(); !slices.Equal(r.Keys(), want) {
			t.Errorf("keys %q, want %q", r.Keys(), want)
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * poll)
		synctest.Wait()
		write(t, path, "oops\n")
		time.Sleep(2 * poll)
		cancel()
		<-done
		text := log.String()
		if got := strings.Count(text, "level=ERROR"); got != 3 {
			t.Errorf("%d complaints, want 3:\n%s", got, text)
		}
		if runtime.GOOS != "windows" && !strings.Contains(text, "chmod 600") {
			t.Errorf("no warning about a file that everybody may read:\n%s", text)
		}
		for _, secret := range []string{k1[:10], k2[:10], "oops"} {
			if strings.Contains(text, secret) {
				t.Errorf("the log tells what may be a key:\n%s", text)
			}
		}
	})
}

// TestWatch_withoutFile waits, and changes nothing.
func TestWatch_withoutFile(t *testing.T) {
	r := ring(t, Generate())
	if changed, err := r.Reload(); changed || err != nil {
		t.Errorf("changed %v, %v", changed, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r.Watch(ctx, slog.New(slog.DiscardHandler))
}

// FuzzKeyFile reads any file as a key file.
func FuzzKeyFile(f *testing.F) {
	f.Add([]byte(Generate() + "\n# comment\n" + Generate()))
	f.Add([]byte("\xef\xbb\xbf\n#"))
	f.Add([]byte("AAAA"))
	f.Fuzz(func(t *testing.T, data []byte) {
		keys, err := parseFile("f", data)
		if (err == nil) != (len(keys) > 0) {
			t.Fatalf("%d keys, %v", len(keys), err)
		}
		for _, k := range keys {
			if len(k.gossip) != 32 || len(k.sign) != ed25519.PrivateKeySize {
				t.Fatalf("key %+v", k)
			}
		}
	})
}
