package fsm

import (
	"github.com/orrery-io/orrery/command"
	"github.com/orrery-io/orrery/job"
)

// initialize gives a new cluster its id, or one that was recovered another.
func (a *apply) initialize(c *command.Init) error {
	if a.clusterID != c.Replaces {
		return refuse(job.Errorf(job.Conflict, "already_initialized", "this cluster has the id %s already", a.clusterID))
	}
	a.clusterID = c.ClusterID
	return nil
}

// migrateSchema brings the schema to a version, together with the rows of this
// entry. Older versions are passed over; one that this program does not know
// stops it.
func (a *apply) migrateSchema(c *command.Migrate) error {
	if c.To <= a.schema {
		return nil
	}
	if c.To > a.newest {
		return errNewerSchema(c.To, a.newest)
	}
	a.schema, a.migrate = c.To, c.To
	return nil
}

// trimFeed drops stored events.
func (a *apply) trimFeed(c *command.TrimFeed) error {
	a.trimmed = max(a.trimmed, min(c.Through, a.index-1))
	return nil
}
