package server

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/orrery-io/orrery/client"
	"github.com/orrery-io/orrery/cluster/keyring"
	"github.com/orrery-io/orrery/job"
)

// fleet is nodes in processes of their own, which have the same cluster key.
type fleet struct {
	t   *testing.T
	key string
	all []*vessel
}

// vessel is one of them, over all its starts.
type vessel struct {
	*child
	f             *fleet
	data          string
	http, cluster string // addresses
	client        *client.Client
}

func newFleet(t *testing.T) *fleet {
	t.Helper()
	return &fleet{t: t, key: newKeyFile(t)}
}

func newKeyFile(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(file, []byte(keyring.Generate()+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// add makes n nodes, which are not started.
func (f *fleet) add(n int) []*vessel {
	f.t.Helper()
	for range n {
		f.all = append(f.all, &vessel{f: f, data: dataFolder(f.t), http: freeAddr(f.t), cluster: freeAddr(f.t)})
	}
	return f.all[len(f.all)-n:]
}

// spawn starts a node with what it is told in the environment, on the addresses it has
// now.
func (v *vessel) spawn(env ...string) {
	v.f.t.Helper()
	v.client = newClient(v.f.t, "http://"+v.http)
	v.child = spawn(v.f.t, "node", slices.Concat([]string{
		dataEnv + "=" + v.data, httpEnv + "=" + v.http, clusterEnv + "=" + v.cluster, keyEnv + "=" + v.f.key, levelEnv + "=info",
	}, env)...)
}

// mustBeReady waits until all these nodes are.
func mustBeReady(t *testing.T, list ...*vessel) {
	t.Helper()
	for _, v := range list {
		if !v.await() {
			t.FailNow()
		}
	}
}

func joins(list ...*vessel) string {
	var addrs []string
	for _, v := range list {
		addrs = append(addrs, v.cluster)
	}
	return joinEnv + "=" + strings.Join(addrs, ",")
}

func expects(n int) string { return fmt.Sprintf("%s=%d", expectEnv, n) }

// found starts n nodes, each with the same command, and waits until they are a cluster.
func (f *fleet) found(n int) []*vessel {
	f.t.Helper()
	list := f.add(n)
	for _, v := range list {
		if n == 1 {
			v.spawn(expects(n))
		} else {
			v.spawn(joins(list...), expects(n))
		}
	}
	mustBeReady(f.t, list...)
	f.agree(n, list...)
	return list
}

// eventually waits until ok, which is asked again and again.
func (f *fleet) eventually(what string, ok func() (bool, string)) {
	f.t.Helper()
	limit := time.After(patience)
	for {
		good, state := ok()
		if good {
			return
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-limit:
			for _, v := range f.all {
				if v.child != nil {
					f.t.Logf("node at %s:\n%s", v.http, v.stderr)
				}
			}
			f.t.Fatalf("still not: %s; %s", what, state)
		}
	}
}

// status is how a node sees the cluster.
func (v *vessel) status() (*client.Cluster, error) { return v.client.Cluster(bounded(v.f.t)) }

// id of the node, which must answer.
func (v *vessel) id() string {
	v.f.t.Helper()
	c, err := v.status()
	if err != nil {
		v.f.t.Fatal(err)
	}
	return c.Node
}

// agree waits until these nodes see the same cluster with that many voters, all at
// their addresses and alive, and the same leader.
func (f *fleet) agree(voters int, list ...*vessel) *client.Cluster {
	f.t.Helper()
	var seen *client.Cluster
	f.eventually(fmt.Sprintf("%d voters", voters), func() (bool, string) {
		seen = nil
		for _, v := range list {
			c, err := v.status()
			if err != nil {
				return false, err.Error()
			}
			state := fmt.Sprintf("%s sees %+v, members %+v", v.http, *c, c.Members)
			if len(c.Members) != voters || c.Leader == "" || seen != nil && (c.ClusterID != seen.ClusterID || c.Leader != seen.Leader) {
				return false, state
			}
			for _, m := range c.Members {
				if !m.Voter || !m.Alive {
					return false, state
				}
			}
			if !slices.ContainsFunc(c.Members, func(m client.Member) bool {
				return m.ID == c.Node && m.Address == v.cluster && m.HTTP == "http://"+v.http
			}) {
				return false, state
			}
			seen = c
		}
		return true, ""
	})
	return seen
}

// sail submits a job to each of the nodes and reads it on all.
func sail(t *testing.T, list ...*vessel) {
	t.Helper()
	for i, v := range list {
		j, err := v.client.Submit(bounded(t), client.Submission{Type: "none", Payload: i})
		if err != nil {
			t.Fatalf("submit to %s: %v", v.http, err)
		}
		for _, other := range list {
			other.has(j.ID)
		}
	}
}

// has waits until the node shows the job.
func (v *vessel) has(id job.ID) {
	v.f.t.Helper()
	v.f.eventually(fmt.Sprintf("job %d on %s", id, v.http), func() (bool, string) {
		_, err := v.client.Get(bounded(v.f.t), id)
		return err == nil, fmt.Sprint(err)
	})
}

// says waits until the process has said the text.
func (v *vessel) says(text string) {
	v.f.t.Helper()
	v.f.eventually(v.http+" says "+text, func() (bool, string) { return strings.Contains(v.stderr.String(), text), "" })
}

func TestNodesBeginACluster(t *testing.T) {
	for _, n := range []int{1, 3, 5} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			if n > 3 && testing.Short() {
				t.Skip("five processes")
			}
			f := newFleet(t)
			list := f.add(n)
			for i, v := range list {
				env := []string{expects(n)}
				if i > 0 {
					env = append(env, joins(list[0])) // one address is enough
				}
				v.spawn(env...)
			}
			mustBeReady(t, list...)
			f.agree(n, list...)
			sail(t, list...)
			for _, v := range list {
				v.stop()
			}
			// A member needs to be told of nobody.
			for _, v := range list {
				v.spawn()
			}
			mustBeReady(t, list...)
			f.agree(n, list...)
			sail(t, list...)
		})
	}
}

// TestNodesAreKilledWhileTheyBegin kills nodes at any moment of the founding: in the end
// all are one cluster, and nobody has founded another.
func TestNodesAreKilledWhileTheyBegin(t *testing.T) {
	rounds := 4
	if testing.Short() {
		rounds = 1
	}
	for round := range rounds {
		t.Run(fmt.Sprint(round), func(t *testing.T) {
			seed := rand.Uint64()
			t.Logf("seed %d", seed)
			rng := rand.New(rand.NewPCG(seed, 0))
			f := newFleet(t)
			list := f.add(3)
			start := func(v *vessel) { v.spawn(joins(list...), expects(3)) }
			for _, v := range list {
				start(v)
			}
			for range 8 {
				time.Sleep(time.Duration(rng.IntN(600)) * time.Millisecond)
				v := list[rng.IntN(len(list))]
				v.kill()
				start(v)
			}
			mustBeReady(t, list...)
			f.agree(3, list...)
			sail(t, list...)
		})
	}
}

func TestANodeThatIsKilledComesBackAtAnotherAddress(t *testing.T) {
	f := newFleet(t)
	list := f.found(3)
	sail(t, list...)
	for _, v := range list { // the leader too
		v.kill()
		v.http, v.cluster = freeAddr(t), freeAddr(t)
		v.spawn()
		mustBeReady(t, v)
		f.agree(3, list...)
		sail(t, list...)
	}
}

func TestAFourthNodeJoins(t *testing.T) {
	f := newFleet(t)
	list := f.found(3)
	sail(t, list...)
	fourth := f.add(1)[0]
	fourth.spawn(joins(list[1]))
	mustBeReady(t, fourth)
	list = append(list, fourth)
	f.agree(4, list...)
	sail(t, list...)
}

func TestANodeIsRemovedAndReplaced(t *testing.T) {
	f := newFleet(t)
	list := f.found(3)
	sail(t, list...)
	gone := list[2]
	id := gone.id()
	gone.kill()
	unknown := false
	f.eventually("removed", func() (bool, string) {
		_, err := list[0].client.RemoveMember(bounded(t), id, false)
		e, ok := errors.AsType[*client.Error](err)
		switch {
		case err == nil || unknown && ok && e.Code == "member_not_found":
			return true, ""
		case ok && e.Code == job.ErrOutcomeUnknown.Code: // the leader was killed just now
			unknown = true
			return false, err.Error()
		}
		t.Fatal(err)
		return false, ""
	})
	f.agree(2, list[:2]...)
	fresh := f.add(1)[0]
	fresh.spawn(joins(list[:2]...))
	mustBeReady(t, fresh)
	now := []*vessel{list[0], list[1], fresh}
	f.agree(3, now...)
	sail(t, now...)

	// The one that was removed doesn't come back.
	gone.spawn(joins(list[:2]...))
	select {
	case <-gone.exited:
	case <-time.After(patience):
		t.Fatalf("a removed node goes on:\n%s", gone.stderr)
	}
	if text := gone.stderr.String(); gone.child.err == nil || !strings.Contains(text, "removed") {
		t.Errorf("a removed node says:\n%s", text)
	}
	f.agree(3, now...)
}

// TestAReplacedDatabaseIsNotShown has a node start with a database that is older than its
// log says: it gets another one, and nobody sees what was in the old.
func TestAReplacedDatabaseIsNotShown(t *testing.T) {
	f := newFleet(t)
	list := f.found(3)
	sail(t, list...)
	stale, db := list[2], filepath.Join(list[2].data, "db")
	stale.stop()
	old := filepath.Join(t.TempDir(), "db")
	if err := os.CopyFS(old, os.DirFS(db)); err != nil {
		t.Fatal(err)
	}
	stale.spawn()
	mustBeReady(t, stale)
	sail(t, list...)
	stale.stop()
	if err := errors.Join(os.RemoveAll(db), os.CopyFS(db, os.DirFS(old))); err != nil {
		t.Fatal(err)
	}
	stale.spawn()
	least := uint64(0)
	f.eventually("it has a database again", func() (bool, string) {
		// Much more often than eventually looks.
		for end := time.Now().Add(time.Second); time.Now().Before(end); {
			c, err := look(t, stale)
			if err != nil {
				continue
			}
			if c.Applied < least {
				t.Errorf("it had applied %d and then %d", least, c.Applied)
			}
			least = c.Applied
		}
		return strings.Contains(stale.stderr.String(), "has again what it had"), ""
	})
	mustBeReady(t, stale)
	f.agree(3, list...)
	sail(t, list...)
}

// look is what a node says of the cluster at this moment.
func look(t *testing.T, v *vessel) (*client.Cluster, error) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+v.http+"/v1/cluster", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	c := new(client.Cluster)
	return c, json.NewDecoder(resp.Body).Decode(c)
}

func TestANodeAloneOpensUp(t *testing.T) {
	f := newFleet(t)
	first := f.add(1)[0]
	// It has worked alone, without a cluster port.
	first.spawn(clusterEnv+"=", keyEnv+"=")
	mustBeReady(t, first)
	j, err := first.client.Submit(bounded(t), client.Submission{Type: "none", Payload: "alone"})
	if err != nil {
		t.Fatal(err)
	}
	first.stop()
	first.spawn(expects(1))
	mustBeReady(t, first)
	second := f.add(1)[0]
	second.spawn(joins(first))
	mustBeReady(t, second)
	f.agree(2, first, second)
	second.has(j.ID)
	sail(t, first, second)

	// And alone again it can't be: the other half of the votes is elsewhere.
	first.stop()
	if text := refusal(bounded(t), t, dataEnv+"="+first.data, httpEnv+"="+first.http); !strings.Contains(text, "--cluster") {
		t.Errorf("a member without its cluster port says:\n%s", text)
	}
}

func TestStrangersAreRefused(t *testing.T) {
	f := newFleet(t)
	list := f.found(1)
	t.Run("with another key", func(t *testing.T) {
		g := &fleet{t: t, key: newKeyFile(t)}
		v := g.add(1)[0]
		v.spawn(joins(list[0]))
		v.says("cluster key")
	})
	t.Run("of another cluster", func(t *testing.T) {
		g := &fleet{t: t, key: f.key}
		v := g.found(1)[0]
		v.stop()
		v.spawn(joins(list[0]))
		mustBeReady(t, v)
		v.says("belongs to another cluster")
		g.agree(1, v)
		sail(t, v)
	})
	f.agree(1, list...)
	sail(t, list...)
}

func TestHalvesDontBegin(t *testing.T) {
	f := newFleet(t)
	four := f.add(4)
	for i := range four {
		four[i].spawn(joins(four[i^1]), expects(3)) // two that know each other, and two
	}
	for _, v := range four {
		v.says("waiting for 3 nodes to begin the cluster, 2 seen")
	}
	for _, v := range four {
		if c, err := v.status(); err == nil && (c.ClusterID != "" || len(c.Servers) > 0) {
			t.Errorf("a half has begun: %+v", c)
		}
	}
	// One of them is told of one of the others: now all see all.
	four[0].kill()
	four[0].spawn(joins(four[1], four[2]), expects(3))
	mustBeReady(t, four...)
	f.agree(4, four...)
	sail(t, four...)
}
