package cli

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/orrery-io/orrery/agent/builtin"
	"github.com/orrery-io/orrery/client"
	"github.com/orrery-io/orrery/server"
	"github.com/spf13/cobra"
)

// app is what all commands share: the streams, and the persistent flags.
type app struct {
	in       io.Reader
	out, err io.Writer
	getenv   func(string) string
	programs *builtin.Programs

	addrs     []string
	tokenFile string
	json      bool
}

func newRoot(a *app) *cobra.Command {
	root := &cobra.Command{
		Use:   "orrery",
		Short: "Run jobs on many machines, durably",
		Long: `Orrery is a job orchestrator in one binary: nodes store and schedule jobs,
agents execute them, and everything speaks HTTP.

Start with:
  orrery demo             see it work, a killed agent included
  orrery dev --exec       a node and an agent on this machine
  orrery job submit echo --payload '{"hello":"world"}' --wait

Environment:
  ORRERY_ADDR             address of a node, for --addr
  ORRERY_TOKEN_FILE       file with the token, for --token-file
  ORRERY_TOKEN            the token itself

Exit codes:
  0 done   1 failed   2 wrong usage   3 the job waited for ended badly   130 interrupted`,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	isGroup(root)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return &exitError{code: exitUsage, text: err.Error(), hint: fmt.Sprintf("`%s --help` lists the flags", cmd.CommandPath())}
	})
	flags := root.PersistentFlags()
	flags.StringSliceVar(&a.addrs, "addr", nil, "`address` of a node, several separated by commas (default "+client.DefaultAddr+")")
	flags.StringVar(&a.tokenFile, "token-file", "", "`file` with the token of the cluster")
	flags.BoolVar(&a.json, "json", false, "write JSON for scripts instead of tables")
	root.AddGroup(
		&cobra.Group{ID: "run", Title: "Run a node or an agent:"},
		&cobra.Group{ID: "use", Title: "Use a running node:"},
	)
	for _, c := range []*cobra.Command{newDemo(a), newDev(a), newServer(a), newAgent(a)} {
		c.GroupID = "run"
		root.AddCommand(c)
	}
	for _, c := range []*cobra.Command{newJob(a), newSchedule(a), newQueue(a), newAgents(a), newDead(a), newEvents(a), newCluster(a), newBackup(a), newRestore(a), newBench(a)} {
		c.GroupID = "use"
		root.AddCommand(c)
	}
	root.AddCommand(newVersion(a), newDemoAgent(a))
	return root
}

// isGroup makes cmd a command that only holds others: alone it shows its help, and
// of a word that it does not know it says which are near.
func isGroup(cmd *cobra.Command) *cobra.Command {
	cmd.Args = cobra.ArbitraryArgs
	cmd.SuggestionsMinimumDistance = 2
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return cmd.Help()
		}
		e := usagef("%q is not a command of `%s`", clipText(args[0], 40), cmd.CommandPath())
		if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
			e.hint = fmt.Sprintf("did you mean `%s %s`?", cmd.CommandPath(), strings.Join(near, "` or `"+cmd.CommandPath()+" "))
		} else {
			e.hint = fmt.Sprintf("`%s --help` lists them", cmd.CommandPath())
		}
		return e
	}
	return cmd
}

// takes checks the number of arguments; usage says in words what is wanted.
func takes(least, most int, usage string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) >= least && (most < 0 || len(args) <= most) {
			return nil
		}
		e := usagef("`%s` takes %s", cmd.CommandPath(), usage)
		if len(args) > most && most >= 0 && len(args) > 0 {
			e.text += fmt.Sprintf(", not also %q", clipText(args[most], 40))
		}
		e.hint = fmt.Sprintf("`%s --help` shows examples", cmd.CommandPath())
		return e
	}
}

// nothing is the check of commands that take no arguments.
func nothing() cobra.PositionalArgs { return takes(0, 0, "no arguments") }

// client speaks with the node that flags and environment name.
func (a *app) client() (*client.Client, error) {
	token, err := a.token()
	if err != nil {
		return nil, err
	}
	c, err := client.New(client.Config{Addrs: a.nodes(), Token: token, UserAgent: "orrery/" + version()})
	if err != nil {
		return nil, usagef("%s", err)
	}
	return c, nil
}

// nodes are the addresses that flags and environment name.
func (a *app) nodes() []string {
	if len(a.addrs) > 0 {
		return a.addrs
	}
	if env := a.getenv("ORRERY_ADDR"); env != "" {
		return strings.Split(env, ",")
	}
	return []string{client.DefaultAddr}
}

// tokenPath is the file that holds the token, "" when none is named.
func (a *app) tokenPath() string { return cmp.Or(a.tokenFile, a.getenv("ORRERY_TOKEN_FILE")) }

// token comes from the flag, the file that the environment names, or the
// environment; "" when there is none.
func (a *app) token() (string, error) {
	if file := a.tokenPath(); file != "" {
		token, err := server.ReadToken(file)
		if err != nil {
			return "", failuref("", "%s", err)
		}
		return token, nil
	}
	return strings.TrimSpace(a.getenv("ORRERY_TOKEN")), nil
}

// readInput reads what --payload and the like name: "-" is stdin, "@name" a file,
// anything else is the text itself. More than most bytes are refused.
func (a *app) readInput(text string, most int64) ([]byte, error) {
	var from io.Reader
	switch {
	case text == "-":
		from = a.in
	case strings.HasPrefix(text, "@"):
		f, err := os.Open(text[1:])
		if err != nil {
			return nil, failuref("", "%s", err)
		}
		defer f.Close()
		from = f
	default:
		return []byte(text), nil
	}
	b, err := io.ReadAll(io.LimitReader(from, most+1))
	if err != nil {
		return nil, failuref("", "read %s: %s", text, err)
	}
	if int64(len(b)) > most {
		return nil, failuref("", "%s holds more than %d bytes, the limit", text, most)
	}
	return b, nil
}
