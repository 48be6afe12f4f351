-- Version 2: schedules, and the history of their ticks.

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
