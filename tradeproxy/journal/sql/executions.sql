-- `executions` has the hash of each event that has one (Event.execution in wire/event.py); its row
-- in `events` then has it as its digest. `late` has each event whose time is before that of an
-- earlier one. Indexes would do, but building them would read every page of a large file. So
-- upgrade.py adds rows of version 1 in short steps: up to `unindexed` they are missing.
CREATE TABLE executions (seq INTEGER PRIMARY KEY, digest BLOB NOT NULL UNIQUE);
CREATE TABLE late (seq INTEGER PRIMARY KEY, time INTEGER NOT NULL);
CREATE INDEX late_by_time ON late (time);
INSERT INTO meta SELECT 'unindexed', seq FROM events ORDER BY seq DESC LIMIT 1;
