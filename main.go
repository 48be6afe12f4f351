// Orrery is a job orchestrator in one binary; see package cli for its commands.
package main

import (
	"os"

	"github.com/orrery-io/orrery/cli"
)

func main() { os.Exit(cli.Main()) }
