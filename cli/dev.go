package cli

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/orrery-io/orrery/agent"
	"github.com/orrery-io/orrery/server"
	"github.com/spf13/cobra"
)

// devDrain is how long running jobs get to finish on exit.
const devDrain = 5 * time.Second

// devOptions are the flags of dev that are not about the node.
type devOptions struct {
	exec  bool
	slots int
}

func newDev(a *app) *cobra.Command {
	var cfg server.Config
	var opts devOptions
	var logs logFlags
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "Run a node and an agent on this machine, to develop with",
		Long: `Run a node and an agent in one process. The agent handles the job types echo,
sleep and fail, and with --exec also exec, which runs commands. Everything works
as it does in a cluster.`,
		Example: `  orrery dev
  orrery dev --exec --data /tmp/try`,
		Args: nothing(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			var err error
			if cfg.Token, err = a.token(); err != nil {
				return err
			}
			if cfg.Log, err = logs.logger(a.err); err != nil {
				return err
			}
			cfg.Version = version()
			return a.withNode(cmd.Context(), cfg, func(ctx context.Context, s *server.Server) error {
				return a.dev(ctx, s, cfg, opts)
			})
		},
	}
	nodeFlags(cmd, &cfg)
	cmd.Flags().BoolVar(&opts.exec, "exec", false, "let jobs run commands on this machine")
	cmd.Flags().IntVar(&opts.slots, "slots", 0, "how many jobs the agent runs at once (default one per processor)")
	logs.declare(cmd, "warn")
	return cmd
}

// dev runs the agent beside the node until ctx ends.
func (a *app) dev(ctx context.Context, s *server.Server, cfg server.Config, opts devOptions) error {
	url := localURL(s.Addr())
	ag, err := a.newBuiltinAgent(agent.Config{
		Addrs: []string{url}, Token: cfg.Token, ID: "dev", Name: "dev", Slots: opts.slots, Version: version(),
		DrainTimeout: devDrain, Log: cfg.Log.With(slog.String("part", "agent")),
	}, opts.exec)
	if err != nil {
		return usagef("%s", err)
	}
	a.welcome(url, cfg, opts)
	return a.runAgent(ctx, ag, devDrain)
}

func (a *app) welcome(url string, cfg server.Config, opts devOptions) {
	data := cfg.Data
	if abs, err := filepath.Abs(data); err == nil {
		data = abs
	}
	body := `{"type":"echo","payload":{"hello":"world"}}`
	if opts.exec {
		body = `{"type":"exec","payload":{"argv":["uname","-a"]}}`
	}
	auth := ""
	switch {
	case cfg.Token == "":
	case a.tokenPath() != "":
		auth = fmt.Sprintf(` -H "Authorization: Bearer $(cat '%s')"`, a.tokenPath())
	default:
		auth = ` -H "Authorization: Bearer $ORRERY_TOKEN"`
	}
	a.printf(`Orrery is ready at %s

Submit a job and wait for its result:

  curl -s %s/v1/jobs%s -H 'Content-Type: application/json' -H 'Prefer: wait=30' -d '%s'

API     %s/docs
Data    %s
Stop    Ctrl-C
`, url, url, auth, body, url, data)
}
