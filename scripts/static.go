//go:build ignore

// Static says whether an executable needs nothing but a kernel: no dynamic
// loader and no shared libraries. It reads the file itself, so it works where
// neither file nor ldd is installed.
//
//	go run scripts/static.go ./orrery
package main

import (
	"debug/elf"
	"fmt"
	"os"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: static FILE")
		os.Exit(2)
	}
	if err := check(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func check(name string) error {
	f, err := elf.Open(name)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP {
			return fmt.Errorf("%s asks for a dynamic loader; was it built with CGO_ENABLED=0?", name)
		}
	}
	libs, err := f.ImportedLibraries()
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if len(libs) > 0 {
		return fmt.Errorf("%s needs shared libraries: %v", name, libs)
	}
	return nil
}
