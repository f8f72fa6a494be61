-- The tables of the book (room `book`), after row `cursor` of the log.
--
-- An order's number is its own, so that an event takes few bytes. `open` is whether its family is:
-- see book/orders.py. Ids of orders are random: an index of them is written all over. One of their
-- last characters is a third as large, and a table in the order of insertion needs no other one for
-- most queries.
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
    id TEXT NOT NULL,
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
CREATE INDEX book_orders_by_id ON book_orders (substr(id, -8));
CREATE INDEX book_orders_by_parent ON book_orders (parent) WHERE parent IS NOT NULL;
CREATE INDEX book_orders_by_time ON book_orders (submitted) WHERE parent IS NULL;
CREATE INDEX book_orders_open ON book_orders (num) WHERE open = 1;
CREATE INDEX book_orders_apart ON book_orders (last) WHERE seq = 0 OR parent IS NOT NULL;
-- The book per strategy. Fills stay when the log is trimmed: what they add up to is computed from
-- all of them.
CREATE TABLE strategy_meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE strategy_names (num INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE strategy_orders (
    id TEXT NOT NULL,
    client_order_id TEXT NOT NULL,
    parent TEXT NOT NULL,
    replaces TEXT NOT NULL,
    assigned TEXT NOT NULL,
    above TEXT NOT NULL
);
CREATE INDEX strategy_orders_by_id ON strategy_orders (substr(id, -8));
CREATE INDEX strategy_orders_by_above ON strategy_orders (above) WHERE above != '';
CREATE TABLE strategy_fills (
    order_id TEXT NOT NULL,
    ref TEXT NOT NULL,
    strategy TEXT NOT NULL,
    symbol TEXT NOT NULL,
    asset_class TEXT NOT NULL,
    time INTEGER NOT NULL,
    event_id TEXT NOT NULL,
    qty TEXT NOT NULL,
    price TEXT NOT NULL,
    multiplier TEXT NOT NULL,
    fee TEXT NOT NULL,
    filled TEXT NOT NULL,
    alias TEXT NOT NULL,
    amended INTEGER NOT NULL,
    busted INTEGER NOT NULL
);
CREATE INDEX strategy_fills_by_order ON strategy_fills (substr(order_id, -8));
CREATE INDEX strategy_fills_by_time ON strategy_fills (strategy, symbol, time);
CREATE TABLE strategy_openings (symbol TEXT PRIMARY KEY, entry BLOB NOT NULL) WITHOUT ROWID;
