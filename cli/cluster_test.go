package cli

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/orrery-io/orrery/client"
	"github.com/orrery-io/orrery/cluster/keyring"
	"github.com/orrery-io/orrery/job"
)

const threeNodes = `{"cluster_id":"c-abc","version":"v1","node":"n-two","leader":"n-one","state":"follower","term":4,"applied":90,` +
	`"servers":[{"id":"n-one","address":"10.0.0.1:7701","voter":true},{"id":"n-two","address":"10.0.0.2:7701","voter":true},{"id":"n-three","address":"10.0.0.3:7701","voter":true}],` +
	`"members":[` +
	`{"id":"n-one","address":"10.0.0.1:7701","voter":true,"leader":true,"http":"http://10.0.0.1:7700","version":"v1","alive":true,"applied":90,"lag":0},` +
	`{"id":"n-two","address":"10.0.0.2:7701","voter":true,"http":"http://10.0.0.2:7700","version":"v1","alive":true,"applied":88,"lag":2},` +
	`{"id":"n-three","address":"10.0.0.3:7701","voter":true,"http":"http://10.0.0.3:7700","version":"v1","alive":true,"applied":90,"lag":0}]}`

func TestClusterStatus(t *testing.T) {
	b := setup(t)
	b.answer("GET /v1/cluster", 200, threeNodes)
	code, out, errs := b.run("cluster", "status")
	want := `cluster c-abc, 3 nodes, n-one leads in term 4

ID       ROLE    STATE  ADDRESS        API                   VERSION  APPLIED  LAG  CONTACT
n-one    leader  ready  10.0.0.1:7701  http://10.0.0.1:7700  v1       90       0    -
n-two    voter   ready  10.0.0.2:7701  http://10.0.0.2:7700  v1       88       2    -
n-three  voter   ready  10.0.0.3:7701  http://10.0.0.3:7700  v1       90       0    -
`
	if code != 0 || out != want || errs != "" {
		t.Errorf("exit code %d\n%s%s\nwant\n%s", code, out, errs, want)
	}
	if code, out, _ := b.run("cluster", "status", "--json"); code != 0 || !strings.Contains(out, `"members_error"`) && !strings.Contains(out, `"lag": 2`) {
		t.Errorf("%d %s", code, out)
	}
	if code, out, _ := b.run("cluster", "members", "--json"); code != 0 || strings.Count(out, "\n") != 3 {
		t.Errorf("%d %s", code, out)
	}
	if code, out, _ := b.run("cluster", "members"); code != 0 || !strings.HasPrefix(out, "ID ") {
		t.Errorf("%d %s", code, out)
	}
}

// TestConcerns: what is wrong is said in sentences, and nothing else is.
func TestConcerns(t *testing.T) {
	now := time.Now()
	node := func(id string, change ...func(*client.Member)) client.Member {
		m := client.Member{Server: client.Server{ID: id, Voter: true}, Alive: true, Version: "v1"}
		for _, c := range change {
			c(&m)
		}
		return m
	}
	dead := func(m *client.Member) { m.Alive, m.LastContact = false, job.At(now.Add(-90*time.Second)) }
	stale := func(m *client.Member) { m.Stale = true }
	for _, tt := range []struct {
		name    string
		change  func(*client.Cluster)
		members []client.Member
		want    []string // the beginnings
	}{
		{"all is well", nil, []client.Member{node("a"), node("b"), node("c")}, nil},
		{"a node alone", nil, []client.Member{node("a")}, nil},
		{"two", nil, []client.Member{node("a"), node("b")}, []string{"a cluster of two stands the loss of neither"}},
		{"one of three is gone", nil, []client.Member{node("a"), node("b"), node("c", dead)}, []string{
			"one more failure loses the majority: 2 of 3 voters live, and 2 are needed",
			"c has been silent for 90s; start it again, or take it out with `orrery cluster remove c`",
		}},
		{"one of five is gone", nil, []client.Member{node("a"), node("b"), node("c", dead), node("d"), node("e")}, []string{"c has been silent"}},
		{"never heard of", nil, []client.Member{node("a"), node("b"), node("c"), node("d"), node("e", func(m *client.Member) { m.Alive = false })}, []string{"e has not been heard of"}},
		{"no leader", func(c *client.Cluster) { c.Leader = "" }, []client.Member{node("a", stale), node("b", stale, dead), node("c", stale, dead)}, []string{
			"there is no leader: nothing can be recorded until 2 of the 3 voters reach each other",
			"when all came back with other addresses, start one again with --join",
			"when that many are gone for good: `orrery cluster recover --help`",
		}},
		{"a lost database", func(c *client.Cluster) { c.Leader, c.ClusterID, c.Refetching = "", "", true }, nil, []string{
			"start the other nodes; when all have lost theirs, start them with empty data folders",
		}},
		{"the leader is not reached", func(c *client.Cluster) { c.MembersError = "n1 is not reached" }, []client.Member{node("a", stale), node("b", stale), node("c", stale)}, []string{
			"the leader could not be asked; this is what node n knows: n1 is not reached",
		}},
		{"no cluster yet", func(c *client.Cluster) { c.ClusterID, c.Leader = "", "" }, nil, []string{"it waits for the other nodes"}},
		{"joining and receiving", nil, []client.Member{
			node("a"), node("b"), node("c"), node("d", func(m *client.Member) { m.Voter, m.Installing = false, &client.Installing{Bytes: 600e6, Size: 1200e6} }),
		}, []string{"d receives a copy of the database: 600 MB of 1.2 GB"}},
		{"joining", nil, []client.Member{node("a"), node("b"), node("c"), node("d", func(m *client.Member) { m.Voter = false })}, []string{"d is joining: it gets its vote"}},
		{"behind", nil, []client.Member{node("a"), node("b"), node("c", func(m *client.Member) { m.Lag = 12345 })}, []string{"c is 12345 entries behind"}},
		{"in trouble", nil, []client.Member{node("a"), node("b"), node("c", func(m *client.Member) { m.Trouble = "the disk is full" })}, []string{"c: the disk is full"}},
		{"draining, and another version", nil, []client.Member{node("a"), node("b"), node("c", func(m *client.Member) { m.Draining, m.Version = true, "v2" })}, []string{
			"c is being drained", "versions differ",
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cl := &client.Cluster{ClusterID: "c", Node: "n", Leader: "a"}
			if tt.change != nil {
				tt.change(cl)
			}
			got := concerns(cl, tt.members, now)
			if len(got) != len(tt.want) {
				t.Fatalf("%q, want %q", got, tt.want)
			}
			for i := range got {
				if !strings.HasPrefix(got[i], tt.want[i]) {
					t.Errorf("%q, want %q", got[i], tt.want[i])
				}
			}
		})
	}
}

func TestClusterStatus_without_a_leader(t *testing.T) {
	b := setup(t)
	b.answer("GET /v1/cluster", 200, `{"cluster_id":"c-abc","version":"v1","node":"n-two","leader":"","state":"candidate","term":5,"applied":90,`+
		`"servers":[{"id":"n-one","address":"10.0.0.1:7701","voter":true},{"id":"n-two","address":"10.0.0.2:7701","voter":true},{"id":"n-three","address":"10.0.0.3:7701","voter":true}],`+
		`"members_error":"the cluster has no leader at the moment"}`)
	code, out, errs := b.run("cluster", "status")
	want := `cluster c-abc, 3 nodes, no leader

ID       ROLE   STATE    ADDRESS        API  VERSION  APPLIED  LAG  CONTACT
n-one    voter  unknown  10.0.0.1:7701  -    -        -        -    -
n-two    voter  ready    10.0.0.2:7701  -    v1       90       -    -
n-three  voter  unknown  10.0.0.3:7701  -    -        -        -    -

there is no leader: nothing can be recorded until 2 of the 3 voters reach each other; start those that are down
when all came back with other addresses, start one again with --join and the address of another
when that many are gone for good: ` + "`orrery cluster recover --help`\n"
	if code != exitFailure || out != want || errs != "" {
		t.Errorf("exit code %d\n%s%s\nwant\n%s", code, out, errs, want)
	}
	if code, _, errs := b.run("cluster", "members"); code != exitFailure || !strings.Contains(errs, "no leader at the moment") {
		t.Errorf("%d %s", code, errs)
	}
}

func TestClusterChanges(t *testing.T) {
	b := setup(t)
	b.answer("GET /v1/cluster", 200, threeNodes)
	for _, verb := range []string{"join", "remove", "drain"} {
		b.answer("POST /v1/cluster/"+verb, 200, threeNodes)
	}
	b.answer("POST /v1/cluster/transfer", 200, `{"leader":"n-two"}`)
	b.answer("POST /v1/cluster/snapshot", 200, `{"index":77}`)
	for _, tt := range []struct {
		args       string
		in         string
		call, want string
	}{
		{"cluster join 10.0.0.4:7701", "", `POST /v1/cluster/join {"address":"10.0.0.4:7701"}`, "10.0.0.4:7701 has answered"},
		{"cluster remove n-three --yes", "", `POST /v1/cluster/remove {"id":"n-three"}`, "n-three is no member any more; 3 nodes left"},
		{"cluster remove n-th", "y\n", `POST /v1/cluster/remove {"id":"n-three"}`, "no member any more"},
		{"cluster remove n-one --yes --force", "", `POST /v1/cluster/remove {"force":true,"id":"n-one"}`, "no member any more"},
		{"cluster drain n-two", "", `POST /v1/cluster/drain {"id":"n-two","on":true}`, "gives its agents away"},
		{"cluster drain n-two --off", "", `POST /v1/cluster/drain {"id":"n-two","on":false}`, "takes agents again"},
		{"cluster transfer", "", `POST /v1/cluster/transfer`, "n-two leads now"},
		{"cluster transfer n-tw", "", `POST /v1/cluster/transfer {"to":"n-two"}`, "n-two leads now"},
		{"cluster snapshot", "", `POST /v1/cluster/snapshot`, "everything up to 77 is in the database"},
	} {
		b.forget()
		b.in = strings.NewReader(tt.in)
		code, out, errs := b.run(strings.Fields(tt.args)...)
		if code != 0 || last(b) != tt.call || !strings.Contains(out, tt.want) {
			t.Errorf("%s: exit code %d, %q\n%s%s", tt.args, code, b.seen(), out, errs)
		}
		if code, out, _ := b.run(append(strings.Fields(tt.args), "--json")...); tt.in == "" && (code != 0 || !strings.HasPrefix(out, "{")) {
			t.Errorf("%s --json: %d %s", tt.args, code, out)
		}
	}

	// Nothing happens without a yes, and to nobody in particular.
	for _, tt := range []struct{ args, in, want string }{
		{"cluster remove n-three", "n\n", "nothing was changed"},
		{"cluster remove n-three", "", "nothing was changed"},
		{"cluster remove n-t --yes", "", "is the beginning of several: n-two and n-three"},
		{"cluster drain x", "", `no node of the cluster is called "x"`},
		{"cluster transfer n-", "", "is the beginning of several"},
	} {
		b.forget()
		b.in = strings.NewReader(tt.in)
		code, out, errs := b.run(strings.Fields(tt.args)...)
		if code != exitFailure || len(b.seen()) != 1 || out != "" || !strings.Contains(errs, tt.want) {
			t.Errorf("%s: exit code %d, %q\n%s%s", tt.args, code, b.seen(), out, errs)
		}
	}
	b.in = strings.NewReader("")
	if _, _, errs := b.run("cluster", "remove", "n-one"); !strings.Contains(errs, "n-one (10.0.0.1:7701) leads. It will hand that on, stop") {
		t.Error(errs)
	}
}

// last is the last request.
func last(b *bundle) string {
	all := b.seen()
	if len(all) == 0 {
		return ""
	}
	return all[len(all)-1]
}

func TestClusterVerify(t *testing.T) {
	for _, tt := range []struct {
		answer string
		code   int
		out    string
		errs   string
	}{
		{`{"index":7,"equal":true,"hashes":{"n1":"aa","n2":"aa"}}`, 0, "ID  HASH AT 7\nn1  aa\nn2  aa\n\nall 2 hold the same\n", ""},
		{`{"index":7,"equal":false,"hashes":{"n1":"aa","n2":"bb"}}`, 1, "ID  HASH AT 7\nn1  aa\nn2  bb\n", "the nodes do not hold the same"},
		{`{"index":7,"equal":true,"hashes":{"n1":"aa"},"missing":["n2"]}`, 1, "ID  HASH AT 7\nn1  aa\nn2  no answer\n", "1 node did not answer"},
	} {
		b := setup(t)
		b.answer("POST /v1/cluster/verify", 200, tt.answer)
		code, out, errs := b.run("cluster", "verify")
		if code != tt.code || out != tt.out || !strings.Contains(errs, tt.errs) || (tt.errs == "") != (errs == "") {
			t.Errorf("exit code %d\n%s%s", code, out, errs)
		}
		if code, out, _ := b.run("cluster", "verify", "--json"); code != tt.code || !strings.HasPrefix(out, "{") {
			t.Errorf("exit code %d\n%s", code, out)
		}
	}
}

func TestClusterKey(t *testing.T) {
	b := setup(t)
	path := filepath.Join(t.TempDir(), "cluster.key")
	if code, out, errs := b.run("cluster", "key", "--out", path); code != 0 || !strings.Contains(out, "copy it to every node") {
		t.Fatalf("%d %s%s", code, out, errs)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info, err)
	}
	if ring, err := keyring.Load(path); err != nil || len(ring.Keys()) != 1 {
		t.Error(err)
	}
	before, _ := os.ReadFile(path)
	if code, _, errs := b.run("cluster", "key", "--out", path); code != exitFailure || !strings.Contains(errs, "is there already") || !strings.Contains(errs, "orrery cluster key >> ") {
		t.Errorf("%d %s", code, errs)
	}
	if after, _ := os.ReadFile(path); string(after) != string(before) {
		t.Error("the key was replaced")
	}
	_, out, _ := b.run("cluster", "key")
	if _, err := keyring.New(strings.TrimSpace(out)); err != nil || out == string(before) {
		t.Errorf("%q %v", out, err)
	}
	if code, out, _ := b.run("cluster", "key", "--json"); code != 0 || !strings.Contains(out, `"key"`) {
		t.Errorf("%d %s", code, out)
	}
}

func TestBackup(t *testing.T) {
	b := setup(t)
	content := strings.Repeat("0123456789", 1000)
	sum := sha256.Sum256([]byte(content))
	b.mux.HandleFunc("GET /v1/cluster/backup", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", fmt.Sprint(len(content)))
		w.Header().Set("Repr-Digest", "sha-256=:"+base64.StdEncoding.EncodeToString(sum[:])+":")
		_, _ = io.WriteString(w, content)
	})
	path := filepath.Join(t.TempDir(), "b.db")
	code, out, errs := b.run("backup", path)
	if code != 0 || !strings.HasPrefix(out, "10 kB in "+path+" after ") || errs != "" {
		t.Errorf("%d %s%s", code, out, errs)
	}
	if got, _ := os.ReadFile(path); string(got) != content {
		t.Errorf("%d bytes", len(got))
	}
	if code, out, errs := b.run("backup", "-"); code != 0 || out != content || errs != "" {
		t.Errorf("%d, %d bytes, %s", code, len(out), errs)
	}
	if code, _, errs := b.run("backup", filepath.Dir(path)); code != exitUsage || !strings.Contains(errs, "is no file that could be replaced") {
		t.Errorf("%d %s", code, errs)
	}
	if code, out, _ := b.run("backup", path, "--json"); code != 0 || !strings.Contains(out, `"bytes": 10000`) {
		t.Errorf("%d %s", code, out)
	}
}

func TestRestore(t *testing.T) {
	b := setup(t)
	b.answer("GET /v1/cluster", 200, threeNodes)
	b.answer("POST /v1/cluster/restore", 200, threeNodes)
	path := filepath.Join(t.TempDir(), "b.db")
	if err := os.WriteFile(path, []byte("a database"), 0o600); err != nil {
		t.Fatal(err)
	}
	b.in = strings.NewReader("no\n")
	code, _, errs := b.run("restore", path)
	if code != exitFailure || !strings.Contains(errs, "Everything in cluster c-abc (3 nodes, applied up to 90) will be replaced with the 10 B of "+path) || len(b.seen()) != 1 {
		t.Errorf("%d %s %q", code, errs, b.seen())
	}
	b.in = strings.NewReader("yes\n")
	if code, out, errs := b.run("restore", path); code != 0 || !strings.HasPrefix(out, "cluster c-abc holds what "+path+" holds") {
		t.Errorf("%d %s%s", code, out, errs)
	}
	if got := last(b); got != "POST /v1/cluster/restore?confirm=true a database" {
		t.Error(got)
	}
	if code, out, _ := b.run("restore", path, "--yes", "--json"); code != 0 || !strings.HasPrefix(out, "{") {
		t.Errorf("%d %s", code, out)
	}
	b.forget()
	for _, tt := range []struct{ path, want string }{{path + "x", "no such file"}, {filepath.Dir(path), "is no file"}, {os.DevNull, "is no file"}} {
		if code, _, errs := b.run("restore", tt.path, "--yes"); code == 0 || !strings.Contains(errs, tt.want) || len(b.seen()) != 0 {
			t.Errorf("%s: %d %s", tt.path, code, errs)
		}
	}
}

// TestRestore_whose_end_is_not_known says so.
func TestRestore_whose_end_is_not_known(t *testing.T) {
	b := setup(t)
	b.mux.HandleFunc("POST /v1/cluster/restore", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	path := filepath.Join(t.TempDir(), "b.db")
	if err := os.WriteFile(path, []byte("a database"), 0o600); err != nil {
		t.Fatal(err)
	}
	code, _, errs := b.run("restore", path, "--yes")
	if code != exitFailure || !strings.Contains(errs, "the cluster may be restored, or as it was") || len(b.seen()) != 1 {
		t.Errorf("%d %s %q", code, errs, b.seen())
	}
}

func TestServerSettings(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "server.yaml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	b := setup(t)
	// What is wrong is found before anything is started.
	write("data: " + dir + "\nhttp: 127.0.0.1:0\nlog-level: loud\n")
	if code, _, errs := b.run("server", "--config", file); code != exitUsage || !strings.Contains(errs, "--log-level loud") {
		t.Errorf("%d %s", code, errs)
	}
	b.env["ORRERY_CONFIG"] = file
	write("bootstrap-expct: 3\n")
	if code, _, errs := b.run("server"); code != exitUsage || !strings.Contains(errs, `server.yaml:1: "bootstrap-expct" is not a setting; did you mean bootstrap-expect?`) {
		t.Errorf("%d %s", code, errs)
	}
	write("addr: http://a\n")
	if code, _, errs := b.run("server"); code != exitUsage || !strings.Contains(errs, `"addr" is not a setting`) {
		t.Errorf("%d %s", code, errs)
	}
	write("")
	b.env["ORRERY_BACKUP_KEEP"] = "few"
	if code, _, errs := b.run("server"); code != exitUsage || !strings.Contains(errs, "ORRERY_BACKUP_KEEP=few in the environment") {
		t.Errorf("%d %s", code, errs)
	}
	delete(b.env, "ORRERY_BACKUP_KEEP")
	write("join: [a:1]\n")
	if code, _, errs := b.run("server"); code != exitUsage || !strings.Contains(errs, "--join is for nodes of a cluster") {
		t.Errorf("%d %s", code, errs)
	}
}

func TestSizeFlag(t *testing.T) {
	for text, want := range map[string]int64{"1": 1, "64MiB": 64 << 20, "2 GiB": 2 << 30, "500MB": 500e6, "3kB": 3000, "7B": 7} {
		var n int64
		if err := (sizeFlag{&n}).Set(text); err != nil || n != want {
			t.Errorf("%s: %d %v", text, n, err)
		}
	}
	var d time.Duration
	for text, want := range map[string]time.Duration{"off": -1, "Never": -1, "12h": 12 * time.Hour, "2d": 48 * time.Hour} {
		if err := (offFlag{&d}).Set(text); err != nil || d != want {
			t.Errorf("%s: %s %v", text, d, err)
		}
	}
}
