package config

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v3"
)

// maxFile bounds a file, in bytes.
const maxFile = 1 << 20

// setting is one entry of a file.
type setting struct {
	line int
	// values are the elements of a list, or the one value. A setting without a value
	// is not in the file.
	values []string
	list   bool
}

// assign sets the flag.
func (s setting) assign(f *pflag.Flag) error {
	list, takesMany := f.Value.(pflag.SliceValue)
	switch {
	case takesMany && s.list:
		return list.Replace(s.values)
	case s.list:
		return errors.New("takes one value, not a list")
	}
	if err := f.Value.Set(s.values[0]); err != nil {
		return fmt.Errorf("%s: %w", clip(s.values[0]), err)
	}
	return nil
}

// read reads a file: one YAML document, a mapping of names to values or lists of
// values.
func read(path string, names []string, nearest func(string, []string) string) (map[string]setting, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, maxFile+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("configuration: %w", err)
	case len(text) > maxFile:
		return nil, fmt.Errorf("%s: the file is longer than %d bytes, the limit", path, maxFile)
	}
	dec := yaml.NewDecoder(strings.NewReader(string(text)))
	var doc, next yaml.Node
	switch err := dec.Decode(&doc); {
	case errors.Is(err, io.EOF):
		return nil, nil // empty, or only comments
	case err != nil:
		return nil, fmt.Errorf("%s: %s", path, strings.TrimPrefix(err.Error(), "yaml: "))
	}
	if err := dec.Decode(&next); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s: holds more than one document", path)
	}
	top := doc.Content[0]
	if top.Kind == yaml.ScalarNode && top.Tag == "!!null" {
		return nil, nil
	}
	if top.Kind != yaml.MappingNode {
		return nil, fmt.Errorf("%s:%d: must be settings, one on each line, such as data: /var/lib/orrery", path, top.Line)
	}
	all := map[string]setting{}
	for i := 0; i+1 < len(top.Content); i += 2 {
		key, value := top.Content[i], top.Content[i+1]
		if err := add(all, key, value, names, nearest); err != nil {
			return nil, fmt.Errorf("%s:%d: %w", path, key.Line, err)
		}
	}
	return all, nil
}

// add takes over one entry.
func add(all map[string]setting, key, value *yaml.Node, names []string, nearest func(string, []string) string) error {
	name := key.Value
	if key.Kind != yaml.ScalarNode || !slices.Contains(names, name) {
		near := ""
		if nearest != nil {
			near = nearest(name, names)
		}
		if near != "" {
			return fmt.Errorf("%q is not a setting; did you mean %s?", clip(name), near)
		}
		return fmt.Errorf("%q is not a setting; they are %s", clip(name), strings.Join(names, ", "))
	}
	if before, twice := all[name]; twice {
		return fmt.Errorf("%s is there twice, first in line %d", name, before.line)
	}
	if value.Kind == yaml.AliasNode {
		value = value.Alias
	}
	s := setting{line: value.Line}
	switch value.Kind {
	case yaml.ScalarNode:
		if value.Tag == "!!null" {
			return nil
		}
		s.values = []string{value.Value}
	case yaml.SequenceNode:
		s.list = true
		for _, v := range value.Content {
			if v.Kind != yaml.ScalarNode || v.Tag == "!!null" {
				return fmt.Errorf("%s has an entry that is no plain value", name)
			}
			s.values = append(s.values, v.Value)
		}
	default:
		return fmt.Errorf("%s takes a value, not a group of settings", name)
	}
	all[name] = s
	return nil
}
