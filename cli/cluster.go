package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/orrery-io/orrery/client"
	"github.com/spf13/cobra"
)

func newCluster(a *app) *cobra.Command {
	cmd := isGroup(&cobra.Command{
		Use:   "cluster",
		Short: "See and change the nodes of the cluster",
		Long: `See and change the nodes of the cluster. Any node can be asked; what only the
leader can do is handed on to it.`,
		Example: `  orrery cluster status
  orrery cluster drain n-k3xq7w2abc && … && orrery cluster drain n-k3xq7w2abc --off
  orrery cluster remove n-k3xq7w2abc`,
	})
	cmd.AddCommand(
		newClusterStatus(a), newClusterMembers(a), newClusterJoin(a), newClusterRemove(a), newClusterTransfer(a),
		newClusterDrain(a), newClusterVerify(a), newClusterSnapshot(a), newClusterKey(a), newClusterRecover(a),
	)
	return cmd
}

func newClusterStatus(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Show the nodes, and what is wrong with them",
		Long: `Show the nodes as the leader sees them, and what is wrong with them. Without a
leader it shows what the node that was asked knows, and ends with code 1.`,
		Args: nothing(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			cl, err := c.Cluster(cmd.Context())
			if err != nil {
				return err
			}
			if a.json {
				err = a.document(cl)
			} else {
				err = a.showCluster(cl, time.Now())
			}
			if err == nil && cl.Leader == "" {
				err = &exitError{code: exitFailure} // what is wrong was said
			}
			return err
		},
	}
}

// showCluster writes one line about the cluster, the table of its nodes, and a
// sentence for each thing that is wrong.
func (a *app) showCluster(cl *client.Cluster, now time.Time) error {
	name := cl.ClusterID
	switch {
	case name == "" && cl.Refetching:
		a.printf("node %s has lost its database, and waits for the leader to send it a copy\n", cl.Node)
	case name == "":
		a.printf("node %s belongs to no cluster yet\n", cl.Node)
	case cl.Leader == "":
		a.printf("cluster %s, %s, no leader\n", name, count(len(cl.Servers), "node"))
	default:
		a.printf("cluster %s, %s, %s leads in term %d\n", name, count(len(cl.Servers), "node"), cl.Leader, cl.Term)
	}
	members := membersOf(cl)
	if len(members) > 0 && name != "" {
		a.printf("\n")
		if err := a.membersTable(members, now); err != nil {
			return err
		}
	}
	if wrong := concerns(cl, members, now); len(wrong) > 0 {
		a.printf("\n")
		for _, text := range wrong {
			a.printf("%s\n", printable(text))
		}
	}
	return nil
}

// membersOf are the members, or what is known of them without the leader.
func membersOf(cl *client.Cluster) []client.Member {
	if len(cl.Members) > 0 {
		return cl.Members
	}
	members := make([]client.Member, len(cl.Servers))
	for i, s := range cl.Servers {
		m := client.Member{Server: s, Leader: s.ID == cl.Leader, Stale: true}
		if s.ID == cl.Node {
			m.Alive, m.Applied, m.Version, m.Installing = true, cl.Applied, cl.Version, cl.Installing
		}
		members[i] = m
	}
	return members
}

func (a *app) membersTable(members []client.Member, now time.Time) error {
	t := newTable(a.out, "ID", "ROLE", "STATE", "ADDRESS", "API", "VERSION", "APPLIED", "LAG", "CONTACT")
	for _, m := range members {
		applied, lag := "", ""
		if m.Applied > 0 {
			applied = fmt.Sprint(m.Applied)
		}
		if !m.Stale {
			lag = fmt.Sprint(m.Lag)
		}
		t.row(m.ID, role(m), memberState(m), m.Address, m.HTTP, m.Version, applied, lag, age(m.LastContact, now))
	}
	return t.end()
}

func role(m client.Member) string {
	switch {
	case m.Leader:
		return "leader"
	case m.Voter:
		return "voter"
	}
	return "joining"
}

func memberState(m client.Member) string {
	switch {
	case m.Installing != nil:
		return "receiving " + percent(m.Installing)
	case !m.Alive && m.Stale:
		return "unknown"
	case !m.Alive:
		return "silent"
	case m.Trouble != "":
		return "in trouble"
	case m.Draining:
		return "draining"
	}
	return "ready"
}

func percent(in *client.Installing) string {
	if in.Size <= 0 {
		return byteText(in.Bytes)
	}
	return fmt.Sprintf("%d%%", 100*in.Bytes/in.Size)
}

// farBehind is from which lag on a node is worth a sentence, in entries of the log.
const farBehind = 1000

// concerns are sentences about what is wrong with the cluster, the worst first.
func concerns(cl *client.Cluster, members []client.Member, now time.Time) []string {
	var all []string
	say := func(format string, args ...any) { all = append(all, fmt.Sprintf(format, args...)) }
	voters, alive, stale := 0, 0, false
	versions := map[string]bool{}
	for _, m := range members {
		stale = stale || m.Stale
		if m.Version != "" {
			versions[m.Version] = true
		}
		if m.Voter {
			voters++
			if m.Alive {
				alive++
			}
		}
	}
	majority := voters/2 + 1
	switch {
	case cl.ClusterID == "" && cl.Refetching:
		say("start the other nodes; when all have lost theirs, start them with empty data folders, and `orrery restore` a backup (`backups` in the data folders may hold some)")
	case cl.ClusterID == "":
		say("%s", orElse(cl.Waiting, "it waits for the other nodes, or for one to let it join; its log says whom it waits for"))
	case cl.Leader == "":
		say("there is no leader: nothing can be recorded until %d of the %s reach each other; start those that are down", majority, count(voters, "voter"))
		say("when all came back with other addresses, start one again with --join and the address of another")
		say("when that many are gone for good: `orrery cluster recover --help`")
	case stale:
		say("the leader could not be asked; this is what node %s knows: %s", cl.Node, orElse(cl.MembersError, "it may be old"))
	case voters == 2:
		say("a cluster of two stands the loss of neither; add a third node")
	case voters > 2 && alive-1 < majority:
		say("one more failure loses the majority: %d of %d voters live, and %d are needed", alive, voters, majority)
	}
	for _, m := range members {
		switch {
		case m.Installing != nil && m.Installing.Size > 0:
			say("%s receives a copy of the database: %s of %s", m.ID, byteText(m.Installing.Bytes), byteText(m.Installing.Size))
		case m.Installing != nil:
			say("%s receives a copy of the database: %s so far", m.ID, byteText(m.Installing.Bytes))
		case !m.Alive && !m.Stale && m.LastContact != 0:
			say("%s has been silent for %s; start it again, or take it out with `orrery cluster remove %s`", m.ID, age(m.LastContact, now), m.ID)
		case !m.Alive && !m.Stale:
			say("%s has not been heard of; start it, or take it out with `orrery cluster remove %s`", m.ID, m.ID)
		case !m.Voter && !m.Stale:
			say("%s is joining: it gets its vote when it has caught up", m.ID)
		case m.Lag > farBehind:
			say("%s is %d entries behind", m.ID, m.Lag)
		}
		if m.Trouble != "" {
			say("%s: %s", m.ID, m.Trouble)
		}
		if m.Draining {
			say("%s is being drained: it has no agents; `orrery cluster drain %s --off` ends that", m.ID, m.ID)
		}
	}
	if len(versions) > 1 {
		say("versions differ: finish the upgrade")
	}
	return all
}

func orElse(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

func newClusterMembers(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "members",
		Aliases: []string{"ls", "list"},
		Short:   "List the nodes",
		Args:    nothing(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			members, err := c.Members(cmd.Context())
			switch {
			case err != nil:
				return err
			case a.json:
				return lines(a, members)
			case slices.ContainsFunc(members, func(m client.Member) bool { return m.Stale }):
				a.notef("there is no leader to ask; this is what one node knows\n")
			}
			return a.membersTable(members, time.Now())
		},
	}
}

func newClusterJoin(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "join ADDRESS",
		Short: "Tell a node of another one",
		Long: `Tell the node that is asked of another one, by the address of its cluster port.
The two find each other and all that either knows. One that has never been in a
cluster joins that of the other: it gets a copy of the database, and its vote when
it has caught up. Two clusters are never merged.

A new node can name another one itself, with --join at its start.`,
		Example: `  orrery cluster join 10.0.0.4:7701
  orrery --addr http://10.0.0.4:7700 cluster join 10.0.0.1:7701`,
		Args: takes(1, 1, "the address of a node's cluster port"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.client()
			if err != nil {
				return err
			}
			cl, err := c.Join(cmd.Context(), args[0])
			switch {
			case err != nil:
				return err
			case a.json:
				return a.document(cl)
			}
			a.printf("%s has answered; `orrery cluster status` shows how the joining goes on\n", args[0])
			return nil
		},
	}
}

// member finds the member that a person means: by its id, or by a beginning of it
// that no other has.
func (a *app) member(ctx context.Context, c *client.Client, text string) (client.Member, error) {
	cl, err := c.Cluster(ctx)
	if err != nil {
		return client.Member{}, err
	}
	var found []client.Member
	for _, m := range membersOf(cl) {
		if m.ID == text {
			return m, nil
		}
		if text != "" && strings.HasPrefix(m.ID, text) {
			found = append(found, m)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return client.Member{}, failuref("`orrery cluster members` lists them", "no node of the cluster is called %q", clipText(text, 40))
	}
	return client.Member{}, failuref("give more of the id", "%q is the beginning of several: %s and %s", clipText(text, 40), found[0].ID, found[1].ID)
}
