-- The tables of the book (room `book`), after row `cursor` of the log. An order's number is its
-- own, so that an event takes few bytes. `open` is whether its family is: see book/orders.py.
CREATE TABLE book_meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE book_positions (symbol TEXT PRIMARY KEY, entry BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE book_events (
    seq INTEGER PRIMARY KEY,
    num INTEGER,
    late INTEGER NOT NULL,
    time INTEGER,
    kind TEXT NOT NULL
);
CREATE INDEX book_events_by_order ON book_events (num);
CREATE INDEX book_events_late ON book_events (time) WHERE late = 1;
CREATE TABLE book_orders (
    num INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    parent TEXT,
    client_order_id TEXT NOT NULL,
    symbol TEXT NOT NULL,
    symbols TEXT NOT NULL,
    status TEXT NOT NULL,
    filled_qty TEXT NOT NULL,
    seq INTEGER NOT NULL,
    last INTEGER NOT NULL,
    submitted INTEGER NOT NULL,
    updated INTEGER NOT NULL,
    open INTEGER NOT NULL,
    document BLOB
);
CREATE INDEX book_orders_by_parent ON book_orders (parent) WHERE parent IS NOT NULL;
CREATE INDEX book_orders_by_time ON book_orders (submitted, id) WHERE parent IS NULL;
CREATE INDEX book_orders_open ON book_orders (num) WHERE open = 1;
CREATE INDEX book_orders_apart ON book_orders (last) WHERE seq = 0 OR parent IS NOT NULL;
