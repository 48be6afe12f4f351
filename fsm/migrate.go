package fsm

import (
	_ "embed"
	"fmt"

	"github.com/orrery-io/orrery/job"
)

// migration brings the schema from the version before it to version.
//
// A database is made with version 1. Later versions are reached by a Migrate
// command, so that every node changes its schema at the same log entry; a program
// works with the schemas of its own and the version before.
type migration struct {
	version int
	sql     string
}

//go:embed schema/0001.sql
var schema1 string

//go:embed schema/0002.sql
var schema2 string

// migrations are all that this program knows, in order, without gaps.
func migrations() []migration {
	return []migration{
		{version: 1, sql: schema1},
		{version: schemaSchedules, sql: schema2},
	}
}

// NewestSchema is the schema version that this program writes; a new cluster
// begins with it, and a Migrate command brings an older one there.
const NewestSchema = schemaSchedules

// schemaSchedules is the first version that has schedules.
const schemaSchedules = 2

// newest is the highest version that a list of migrations reaches.
func newest(list []migration) int { return list[len(list)-1].version }

// applicationID marks a SQLite file as ours ("Orry"), so that somebody else's is
// not written to.
const applicationID = 0x4f727279

// migrateTo runs the migrations after version from up to and including to. exec
// runs SQL in the transaction that they belong to.
func migrateTo(exec func(string) error, list []migration, from, to int) error {
	for _, m := range list {
		if m.version <= from || m.version > to {
			continue
		}
		if err := exec(m.sql); err != nil {
			return fmt.Errorf("migrate schema to version %d: %w", m.version, err)
		}
	}
	return exec(fmt.Sprintf("PRAGMA user_version = %d", to))
}

// errNewerSchema is for a database, or a Migrate command, of a newer program.
func errNewerSchema(have, know int) error {
	return job.Errorf(job.Unavailable, "schema_too_new",
		"the database has schema version %d and this program knows only up to %d; start this node with the version of Orrery that wrote it, or a newer one", have, know)
}
