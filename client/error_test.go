package client_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/orrery-io/orrery/client"
	"github.com/orrery-io/orrery/job"
)

func TestRepeat(t *testing.T) {
	unavailable := answer(503, `{"status":503,"code":"no_leader","detail":"the cluster has no leader at the moment"}`)
	unknown := answer(504, `{"status":504,"code":"outcome_unknown","detail":"it may or may not have happened"}`)
	ok := answer(200, `{"id":7,"state":"pending"}`)
	submit := func(ctx context.Context, c *client.Client) error {
		_, err := c.Submit(ctx, client.Submission{Type: "echo"})
		return err
	}
	get := func(ctx context.Context, c *client.Client) error {
		_, err := c.Get(ctx, 7)
		return err
	}
	cancel := func(ctx context.Context, c *client.Client) error {
		_, err := c.Cancel(ctx, 7, "")
		return err
	}
	purge := func(ctx context.Context, c *client.Client) error {
		_, err := c.Purge(ctx, client.Selection{IDs: []job.ID{7}})
		return err
	}
	tests := []struct {
		name    string
		do      func(context.Context, *client.Client) error
		answers []http.HandlerFunc
		calls   int
		code    string // "" when it must succeed
	}{
		{"a submission after no leader", submit, []http.HandlerFunc{unavailable, ok}, 2, ""},
		{"a submission after a dropped connection", submit, []http.HandlerFunc{drop, ok}, 2, ""},
		{"a submission after an unknown outcome", submit, []http.HandlerFunc{unknown, ok}, 2, ""},
		{"a read after a dropped connection", get, []http.HandlerFunc{drop, ok}, 2, ""},
		{"once only", submit, []http.HandlerFunc{unavailable}, 2, "no_leader"},
		{"an action after a dropped connection", cancel, []http.HandlerFunc{drop, ok}, 2, ""},
		{"not a bulk operation after a dropped connection", purge, []http.HandlerFunc{drop, ok}, 1, client.CodeNoAnswer},
		{"not a bulk operation after no leader", purge, []http.HandlerFunc{unavailable, ok}, 1, "no_leader"},
		{"not what can never succeed", submit, []http.HandlerFunc{answer(422, `{"code":"invalid"}`), ok}, 1, "invalid"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := setup(t, tt.answers...)
			err := tt.do(t.Context(), b.client)
			e, _ := errors.AsType[*client.Error](err)
			switch {
			case tt.code == "" && err != nil:
				t.Error(err)
			case tt.code != "" && (e == nil || e.Code != tt.code):
				t.Errorf("error %v, want code %s", err, tt.code)
			}
			calls := b.seen()
			// The transport repeats a GET by itself when a kept connection was closed.
			if len(calls) != tt.calls {
				t.Fatalf("%d requests, want %d", len(calls), tt.calls)
			}
			first, last := calls[0].header.Get("Orrery-Request-Id"), calls[len(calls)-1].header.Get("Orrery-Request-Id")
			if first != last {
				t.Errorf("the repeated request has id %q, the first had %q", last, first)
			}
		})
	}
}

func TestGoesOnToTheNextNode(t *testing.T) {
	b := setup(t, answer(200, `{"id":7,"state":"cancelled"}`))
	c, err := client.New(client.Config{Addrs: []string{closedAddr(t), closedAddr(t), b.server.URL}})
	if err != nil {
		t.Fatal(err)
	}
	// Also what must not be repeated: the others were never reached.
	for range 2 {
		if _, err := c.Cancel(t.Context(), 7, "no longer needed"); err != nil {
			t.Fatal(err)
		}
	}
	if got := b.seen(); len(got) != 2 || got[0].body != `{"reason":"no longer needed"}` || got[0].path != "/v1/jobs/7/cancel" {
		t.Errorf("got %+v", got)
	}
}

func TestErrors(t *testing.T) {
	problem := `{"type":"about:blank","title":"Unprocessable","status":422,"code":"invalid","detail":"the submission is invalid",` +
		`"hint":"see /docs","errors":[{"pointer":"/type","detail":"is required"},{"pointer":"/priority","detail":"is 99; it must be 0 to 9"}]}`
	tests := []struct {
		name   string
		answer http.HandlerFunc
		want   string
		status int
	}{
		{"a problem with fields", answer(422, problem), "the submission is invalid: type is required; priority is 99; it must be 0 to 9 (see /docs)", 422},
		{"only a title", answer(409, `{"title":"Conflict"}`), "conflict", 409},
		{"an empty problem", answer(409, `{}`), "the node answered 409 Conflict", 409},
		{"unauthorized", answer(401, `{"detail":"a token is required"}`), "a token is required (give the node's token)", 401},
		{"something else answers", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			w.WriteHeader(404)
			_, _ = io.WriteString(w, "<h1>nginx")
		}, " answered 404 Not Found, not as a node does (check that the address is that of an Orrery node)", 404},
		{"a redirect is not followed", func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://example.invalid/", http.StatusFound)
		}, "answered 302 Found, not as a node does", 302},
		{"a success that is no JSON", answer(200, `<html>`), "cannot be read", 200},
		{"a success that is cut off", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "100")
			_, _ = io.WriteString(w, `{"id":`)
			drop(w, r)
		}, "closed the connection without answering", 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := setup(t, tt.answer)
			_, err := b.client.Get(t.Context(), 7)
			e, ok := errors.AsType[*client.Error](err)
			if !ok {
				t.Fatalf("error %T %v", err, err)
			}
			if !strings.Contains(e.Error(), tt.want) || e.Status != tt.status {
				t.Errorf("status %d, error %q; want %d, %q", e.Status, e, tt.status, tt.want)
			}
		})
	}
}

func TestErrors_matchSentinels(t *testing.T) {
	b := setup(t, answer(404, `{"code":"job_not_found","detail":"there is no job 7"}`))
	_, err := b.client.Get(t.Context(), 7)
	if !errors.Is(err, job.ErrJobNotFound) || errors.Is(err, job.ErrQueueNotFound) {
		t.Errorf("%v does not match the sentinel", err)
	}
}

// nodeFunc answers in place of a node, without a network, so that time in a bubble
// goes on.
type nodeFunc func(*http.Request) *httptest.ResponseRecorder

func (f nodeFunc) RoundTrip(r *http.Request) (*http.Response, error) {
	resp := f(r).Result()
	resp.Request = r
	return resp, nil
}

func overloaded(seconds string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	w.Header().Set("Retry-After", seconds)
	answer(429, `{"code":"overloaded","detail":"a follower is far behind"}`)(w, nil)
	return w
}

// TestOverloaded: what the cluster refuses because it is overloaded is sent again
// when it asked for, whatever it is, and for as long as a request may take.
func TestOverloaded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var at []time.Duration
		var ids []string
		began := time.Now()
		node := nodeFunc(func(r *http.Request) *httptest.ResponseRecorder {
			at, ids = append(at, time.Since(began)), append(ids, r.Header.Get("Orrery-Request-Id"))
			if len(at) < 4 {
				return overloaded("1")
			}
			w := httptest.NewRecorder()
			answer(200, `{"matched":1,"changed":1}`)(w, r)
			return w
		})
		c, err := client.New(client.Config{Addrs: []string{"a:1", "b:1"}, HTTP: &http.Client{Transport: node}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Purge(t.Context(), client.Selection{IDs: []job.ID{7}}); err != nil {
			t.Fatal(err)
		}
		for i := 1; i < len(at); i++ {
			if d := at[i] - at[i-1]; d < time.Second || d > 1500*time.Millisecond || ids[i] != ids[0] {
				t.Errorf("try %d came after %s with id %s, the first had %s", i+1, d, ids[i], ids[0])
			}
		}
	})
}

func TestOverloaded_for_too_long(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		node := nodeFunc(func(*http.Request) *httptest.ResponseRecorder { return overloaded("3") })
		c, err := client.New(client.Config{HTTP: &http.Client{Transport: node}})
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.Get(t.Context(), 7)
		if e, ok := errors.AsType[*client.Error](err); !ok || e.RetryAfter != 3*time.Second || e.Code != "overloaded" {
			t.Errorf("error %#v", err)
		}
		if d := time.Since(began); d > 30*time.Second || d < 20*time.Second {
			t.Errorf("gave up after %s", d)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := c.Get(ctx, 7); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v, want that of the context", err)
		}
	})
}

// TestShuttingDown: a node that stops sends clients to another one at once.
func TestShuttingDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		node := nodeFunc(func(r *http.Request) *httptest.ResponseRecorder {
			w := httptest.NewRecorder()
			if r.URL.Host == "a:1" {
				w.Header().Set("Retry-After", "1")
				answer(503, `{"code":"shutting_down"}`)(w, r)
			} else {
				answer(201, `{"id":7,"state":"pending"}`)(w, r)
			}
			return w
		})
		c, err := client.New(client.Config{Addrs: []string{"a:1", "b:1"}, HTTP: &http.Client{Transport: node}})
		if err != nil {
			t.Fatal(err)
		}
		if j, err := c.Submit(t.Context(), client.Submission{Type: "echo"}); err != nil || j.ID != 7 || time.Since(began) != 0 {
			t.Errorf("%v %v after %s", j, err, time.Since(began))
		}
	})
}

func TestErrors_nobodyListens(t *testing.T) {
	addr := closedAddr(t)
	c, err := client.New(client.Config{Addr: addr})
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Get(t.Context(), 7)
	want := "no node listens at " + addr + ` (start one with "orrery dev", or give the address of a running one)`
	if err == nil || err.Error() != want {
		t.Errorf("error %v\nwant  %s", err, want)
	}
}

func TestErrors_slowNode(t *testing.T) {
	release := make(chan struct{})
	b := setup(t, func(http.ResponseWriter, *http.Request) { <-release })
	defer close(release)
	c, err := client.New(client.Config{Addr: b.server.URL, Timeout: 10 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Get(t.Context(), 7)
	if err == nil || !strings.Contains(err.Error(), "did not answer in time") || len(b.seen()) != 1 {
		t.Errorf("error %v after %d requests", err, len(b.seen()))
	}
}

func TestErrors_cancelled(t *testing.T) {
	cause := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	b := setup(t, func(_ http.ResponseWriter, r *http.Request) {
		cancel(cause)
		<-r.Context().Done()
	})
	if _, err := b.client.Get(ctx, 7); !errors.Is(err, cause) {
		t.Errorf("error %v, want the cause of the cancellation", err)
	}
}
