-- Version 1: the state of a cluster that runs jobs.
--
-- doc is always MessagePack of the row and a checksum of that (seal.go); the columns before it are projected from
-- it for queries and hold nothing of their own. Times are integer milliseconds.

-- One row: how far this database is, and what is resident and small.
CREATE TABLE meta (
	id INTEGER PRIMARY KEY CHECK (id = 1),
	-- Which file this is, and how many transactions it has seen. The first column, so
	-- that it is found without SQLite (stamp.go); NULL in a backup.
	stamp BLOB,
	applied_index INTEGER NOT NULL DEFAULT 0,
	applied_term INTEGER NOT NULL DEFAULT 0,
	last_time INTEGER NOT NULL DEFAULT 0,
	last_id INTEGER NOT NULL DEFAULT 0,
	last_chunk INTEGER NOT NULL DEFAULT 0,
	cluster_id TEXT NOT NULL DEFAULT '',
	-- Events of entries up to this index are no longer kept.
	feed_trimmed INTEGER NOT NULL DEFAULT 0,
	feed_bytes INTEGER NOT NULL DEFAULT 0,
	-- The newest configuration of the cluster that was told.
	conf_index INTEGER NOT NULL DEFAULT 0,
	conf BLOB,
	-- The snapshot that this database stands for; 0 when it never was one.
	marker_index INTEGER NOT NULL DEFAULT 0,
	marker_term INTEGER NOT NULL DEFAULT 0,
	marker_conf_index INTEGER NOT NULL DEFAULT 0,
	marker_conf BLOB
);
INSERT INTO meta (id) VALUES (1);

CREATE TABLE jobs (
	id INTEGER PRIMARY KEY,
	state INTEGER NOT NULL,
	queue TEXT NOT NULL,
	type TEXT NOT NULL,
	priority INTEGER NOT NULL,
	ready_at INTEGER NOT NULL,
	created_at INTEGER NOT NULL,
	finished_at INTEGER,
	-- Set while the deadline for the first start counts.
	expires_at INTEGER,
	retention INTEGER,
	agent TEXT,
	error_kind TEXT,
	-- "|a|b|"
	tags TEXT,
	correlation_id TEXT,
	doc BLOB NOT NULL
);

-- All of them are partial and leave completed jobs out, which are the bulk
-- (docs/decisions/0001-partial-indexes.md). The id is the last column of each by
-- itself. States: 1 scheduled, 2 pending, 5 completed.
CREATE INDEX jobs_ready ON jobs (queue, type, priority DESC, ready_at) WHERE state = 2;
CREATE INDEX jobs_due ON jobs (ready_at) WHERE state = 1;
CREATE INDEX jobs_open ON jobs (state) WHERE state <> 5;
CREATE INDEX jobs_expiring ON jobs (expires_at) WHERE expires_at > 0;

CREATE TABLE keys (
	key TEXT PRIMARY KEY,
	job INTEGER NOT NULL,
	hash BLOB
) WITHOUT ROWID;

CREATE TABLE log_heads (
	job INTEGER NOT NULL,
	fence INTEGER NOT NULL,
	doc BLOB NOT NULL,
	PRIMARY KEY (job, fence)
) WITHOUT ROWID;

CREATE TABLE log_chunks (
	id INTEGER PRIMARY KEY,
	doc BLOB NOT NULL
);

CREATE TABLE queues (
	name TEXT PRIMARY KEY,
	doc BLOB NOT NULL
) WITHOUT ROWID;

CREATE TABLE agents (
	id TEXT PRIMARY KEY,
	doc BLOB NOT NULL
) WITHOUT ROWID;

-- One row per log entry that had events, and that had request ids.
CREATE TABLE feed (
	idx INTEGER PRIMARY KEY,
	doc BLOB NOT NULL
);

CREATE TABLE requests (
	idx INTEGER PRIMARY KEY,
	doc BLOB NOT NULL
);
