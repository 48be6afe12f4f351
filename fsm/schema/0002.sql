-- Version 2: schedules, the history of their ticks, and the jobs of each.

CREATE TABLE schedules (
	name TEXT PRIMARY KEY,
	doc BLOB NOT NULL
) WITHOUT ROWID;

CREATE TABLE ticks (
	schedule TEXT NOT NULL,
	seq INTEGER NOT NULL,
	doc BLOB NOT NULL,
	PRIMARY KEY (schedule, seq)
) WITHOUT ROWID;

-- The name of the schedule that made the job. Jobs without one are not in the index.
ALTER TABLE jobs ADD COLUMN schedule TEXT;
CREATE INDEX jobs_schedule ON jobs (schedule) WHERE schedule IS NOT NULL;
