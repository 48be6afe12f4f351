package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/orrery-io/orrery/cluster/keyring"
	"github.com/spf13/cobra"
)

func newClusterKey(a *app) *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use:   "key",
		Short: "Make a cluster key",
		Long: `Make a cluster key: one secret from which come the certificates of all nodes and
the key of their gossip. Give the same file to every node with --cluster-key-file;
whoever has it can be a node.

The file holds one key on each line; the first one is used, all are accepted. To
change the key while the nodes run, take these steps, each on every node before the
next one. A node reads its file again by itself within seconds, and says so in its
log.

  add    put the new key on a second line
  use    put the new key on the first line, the old one on the second
  drop   remove the line with the old key`,
		Example: `  orrery cluster key --out cluster.key
  orrery cluster key >> cluster.key        # a further line, to change the key`,
		Args: nothing(),
		RunE: func(*cobra.Command, []string) error {
			key := keyring.Generate()
			if out == "" {
				if a.json {
					return a.document(map[string]string{"key": key})
				}
				a.printf("%s\n", key)
				return nil
			}
			if err := writeNew(out, key+"\n"); err != nil {
				return err
			}
			if a.json {
				return a.document(map[string]string{"file": out})
			}
			a.printf("%s holds a new cluster key; copy it to every node, and to nobody else\n", out)
			return nil
		},
	}
	cmd.Flags().StringVar(&out, "out", "", "`file` to make, readable for its owner only; it must not exist")
	return cmd
}

// writeNew makes a file with a secret in it, and never touches one that is there.
func writeNew(path, text string) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return failuref("a key that is in use must not be lost; choose another name, or add a line to it: `orrery cluster key >> "+path+"`", "%s is there already", path)
	}
	if err != nil {
		return failuref("", "%s", err)
	}
	_, err = f.WriteString(text)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		_ = os.Remove(path)
		return fmt.Errorf("write the key: %w", err)
	}
	return nil
}
