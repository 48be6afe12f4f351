package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/orrery-io/orrery/client"
	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"
)

// maxDefinitions bounds the file of `schedule apply`, in bytes.
const maxDefinitions = 16 << 20

func newScheduleApply(a *app) *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "apply -f FILE",
		Short: "Create or replace the schedules of a file",
		Long: `Create or replace the schedules of a file, in YAML or JSON: name, and the fields that
PUT /v1/schedules/NAME takes. Several stand one after the other, divided by "---".
What is there already as the file says is left alone.`,
		Example: `  orrery schedule apply -f schedules.yaml
  generate | orrery schedule apply -f -`,
		Args: nothing(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if file == "" {
				return usagef("which file? Give -f FILE, or -f - for stdin")
			}
			if file != "-" {
				file = "@" + file
			}
			text, err := a.readInput(file, maxDefinitions)
			if err != nil {
				return err
			}
			list, err := definitions(text)
			if err != nil {
				return err
			}
			c, err := a.client()
			if err != nil {
				return err
			}
			for _, d := range list {
				s, err := c.PutScheduleBody(cmd.Context(), d.name, d.body, client.Condition{})
				if err != nil {
					return fmt.Errorf("schedule %s: %w", d.name, err)
				}
				if a.json {
					if err := a.line(s); err != nil {
						return err
					}
					continue
				}
				a.printf("schedule %s is set: %s\n", s.Name, s.Summary)
				a.warn(s.Warnings)
			}
			return nil
		},
	}
	cmd.Flags().StringVarP(&file, "file", "f", "", "the `file`, - for stdin")
	_ = cmd.MarkFlagFilename("file", "yaml", "yml", "json")
	return cmd
}

// namedDefinition is one schedule of a file; body is its definition in JSON.
type namedDefinition struct {
	name string
	body json.RawMessage
}

// definitions reads all schedules of a file. JSON is YAML, too.
func definitions(text []byte) ([]namedDefinition, error) {
	var list []namedDefinition
	for dec := yaml.NewDecoder(bytes.NewReader(text)); ; {
		var fields map[string]any
		err := dec.Decode(&fields)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, usagef("the file cannot be read: %s", err)
		}
		name, ok := fields["name"].(string)
		if !ok || name == "" {
			return nil, usagef("schedule %d of the file has no name", len(list)+1)
		}
		delete(fields, "name")
		body, err := json.Marshal(fields)
		if err != nil {
			return nil, usagef("schedule %s cannot be written as JSON: %s", name, err)
		}
		list = append(list, namedDefinition{name, body})
	}
	if len(list) == 0 {
		return nil, usagef("the file holds no schedule")
	}
	return list, nil
}
