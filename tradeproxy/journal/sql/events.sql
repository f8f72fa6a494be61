-- Column `high` is max_time in the code: the highest time of this and all earlier rows. So the
-- first row whose `high` is at least T is the first row with an event at or after T.
-- A hole has no identity: in SQLite, NULLs do not violate a UNIQUE constraint.
-- The payload is the last column: SQLite reads a row from its beginning.
CREATE TABLE events (
    seq INTEGER PRIMARY KEY,
    identity TEXT,
    digest BLOB,
    time INTEGER,
    high INTEGER,
    received INTEGER NOT NULL,
    payload BLOB,
    UNIQUE (identity, digest)
);
CREATE INDEX events_by_high ON events (high);
CREATE TABLE orders (
    id TEXT PRIMARY KEY,
    seq INTEGER NOT NULL,
    status TEXT NOT NULL,
    filled_qty TEXT NOT NULL,
    time INTEGER NOT NULL,
    closed INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX orders_by_state ON orders (closed, seq);
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
