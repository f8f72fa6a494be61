-- `unstored` has the hash of the key of each event that a hole stands for (Event.key_hash), so that
-- a repeat of it is recognised. The index finds the keys of the holes that are trimmed.
CREATE TABLE unstored (key BLOB PRIMARY KEY, seq INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX unstored_by_seq ON unstored (seq);
