package config

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/pflag"
)

// Source says where settings come from besides the command line.
type Source struct {
	// File is the path of a YAML file; "" means none.
	File string
	// Getenv looks into the environment; nil means that there is none. An empty
	// variable is one that is not set.
	Getenv func(string) string
	// Except are names of flags that are no settings.
	Except []string
	// Nearest returns which of the known names was probably meant, "" for none; nil
	// never knows.
	Nearest func(name string, known []string) string
}

// EnvName is the environment variable of a setting.
func EnvName(flag string) string {
	return "ORRERY_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// Fill sets the flags that were not given on the command line. A flag that it has
// set counts as changed. Its errors are sentences for the person who wrote the
// setting, and say where it stands.
func Fill(flags *pflag.FlagSet, src Source) error {
	var names []string
	flags.VisitAll(func(f *pflag.Flag) {
		if !slices.Contains(src.Except, f.Name) {
			names = append(names, f.Name)
		}
	})
	var file map[string]setting
	if src.File != "" {
		var err error
		if file, err = read(src.File, names, src.Nearest); err != nil {
			return err
		}
	}
	for _, name := range names {
		f := flags.Lookup(name)
		if f.Changed {
			continue
		}
		if src.Getenv != nil {
			if text := src.Getenv(EnvName(name)); text != "" {
				if err := f.Value.Set(text); err != nil {
					return fmt.Errorf("%s=%s in the environment: %w", EnvName(name), clip(text), err)
				}
				f.Changed = true
				continue
			}
		}
		if s, ok := file[name]; ok {
			if err := s.assign(f); err != nil {
				return fmt.Errorf("%s:%d: %s: %w", src.File, s.line, name, err)
			}
			f.Changed = true
		}
	}
	return nil
}

// clip shortens what a person wrote so that it can stand in a message.
func clip(s string) string {
	const most = 40
	if r := []rune(s); len(r) > most {
		return string(r[:most-1]) + "…"
	}
	return s
}
