package cli

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/orrery-io/orrery/client"
	"github.com/orrery-io/orrery/job"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// durationFlag is a job.Duration on the command line.
type durationFlag struct{ d *job.Duration }

func (f durationFlag) String() string {
	if f.d == nil || *f.d == 0 {
		return ""
	}
	return f.d.String()
}

func (f durationFlag) Set(s string) error { return f.d.UnmarshalText([]byte(s)) }

func (f durationFlag) Type() string { return "duration" }

// timeFlag is a job.Time on the command line: RFC 3339, or a duration that is
// counted from now, backwards when ago is set.
type timeFlag struct {
	t   *job.Time
	ago bool
}

func (f timeFlag) String() string {
	if f.t == nil {
		return ""
	}
	return f.t.String()
}

func (f timeFlag) Set(s string) error {
	if d, err := job.ParseDuration(s); err == nil {
		if f.ago {
			d = -d
		}
		*f.t = job.At(time.Now()).Add(d)
		return nil
	}
	return f.t.UnmarshalText([]byte(s))
}

func (f timeFlag) Type() string { return "time" }

// statesFlag is a list of states, separated by commas.
type statesFlag struct{ states *[]job.State }

func (f statesFlag) String() string { return "" }

func (f statesFlag) Set(s string) error {
	for name := range strings.SplitSeq(s, ",") {
		st, err := job.ParseState(strings.TrimSpace(name))
		if err != nil {
			return err
		}
		*f.states = append(*f.states, st)
	}
	return nil
}

func (f statesFlag) Type() string { return "states" }

// pairsFlag is a set of labels on the command line: key=value, and more by
// repeating the flag, so that a value may hold anything.
type pairsFlag struct{ m *map[string]string }

func (f pairsFlag) String() string { return "" }

func (f pairsFlag) Set(s string) error {
	key, value, ok := strings.Cut(s, "=")
	if !ok || key == "" {
		return fmt.Errorf("%q is not key=value", clipText(s, 40))
	}
	if *f.m == nil {
		*f.m = map[string]string{}
	}
	(*f.m)[key] = value
	return nil
}

func (f pairsFlag) Type() string { return "key=value" }

// sizeFlag is a number of bytes on the command line: 67108864, 64MiB, 500MB.
type sizeFlag struct{ n *int64 }

func (f sizeFlag) String() string { return "" }

func (f sizeFlag) Set(s string) error {
	for _, u := range []struct {
		name  string
		bytes int64
	}{
		{"KiB", 1 << 10},
		{"MiB", 1 << 20},
		{"GiB", 1 << 30},
		{"TiB", 1 << 40},
		{"kB", 1e3},
		{"KB", 1e3},
		{"MB", 1e6},
		{"GB", 1e9},
		{"TB", 1e12},
		{"B", 1},
		{"", 1},
	} {
		number, ok := strings.CutSuffix(s, u.name)
		if !ok {
			continue
		}
		n, err := strconv.ParseInt(strings.TrimSpace(number), 10, 64)
		if err != nil || n <= 0 || n > math.MaxInt64/u.bytes {
			break
		}
		*f.n = n * u.bytes
		return nil
	}
	return fmt.Errorf("%q is not a size such as 64MiB or 500MB", clipText(s, 40))
}

func (f sizeFlag) Type() string { return "size" }

// offFlag is a duration on the command line, or off, which is -1.
type offFlag struct{ d *time.Duration }

func (f offFlag) String() string { return "" }

func (f offFlag) Set(s string) error {
	switch strings.ToLower(s) {
	case "off", "never", "no":
		*f.d = -1
		return nil
	}
	d, err := job.ParseDuration(s)
	if err != nil {
		return err
	}
	if d <= 0 {
		return fmt.Errorf("%q is no time; off turns it off", clipText(s, 40))
	}
	*f.d = d.Duration()
	return nil
}

func (f offFlag) Type() string { return "duration" }

var (
	_ pflag.Value = sizeFlag{}
	_ pflag.Value = offFlag{}
	_ pflag.Value = pairsFlag{}
	_ pflag.Value = durationFlag{}
	_ pflag.Value = timeFlag{}
	_ pflag.Value = statesFlag{}
)

// filterFlags declares the flags that select jobs.
func filterFlags(cmd *cobra.Command, f *client.Filter) {
	flags := cmd.Flags()
	flags.StringSliceVar(&f.Queues, "queue", nil, "only in these `queues`")
	flags.StringSliceVar(&f.Types, "type", nil, "only of these `types`")
	flags.StringSliceVar(&f.Tags, "tag", nil, "only with one of these `tags`")
	flags.Var(pairsFlag{&f.Metadata}, "meta", "only with this metadata, `key=value`; may be repeated")
	flags.StringSliceVar(&f.ErrorKinds, "error-kind", nil, "only with these `kinds` of error")
	flags.Var(timeFlag{&f.CreatedAfter, true}, "since", "only created after this `time`, or so long ago")
}

// jobIDs reads ids from arguments.
func jobIDs(args []string) ([]job.ID, error) {
	ids := make([]job.ID, len(args))
	for i, s := range args {
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil || n < 1 {
			return nil, usagef("%q is not the id of a job; ids are whole numbers, see `orrery job ls`", clipText(s, 40))
		}
		ids[i] = job.ID(n)
	}
	return ids, nil
}
