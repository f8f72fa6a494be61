-- The tables of the book per strategy. Fills stay when the log is trimmed: what they add up to is
-- computed from all of them.
CREATE TABLE strategy_meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE strategy_names (num INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE strategy_orders (
    id TEXT PRIMARY KEY,
    client_order_id TEXT NOT NULL,
    parent TEXT NOT NULL,
    replaces TEXT NOT NULL,
    assigned TEXT NOT NULL,
    above TEXT NOT NULL
) WITHOUT ROWID;
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
    busted INTEGER NOT NULL,
    PRIMARY KEY (order_id, ref)
) WITHOUT ROWID;
CREATE INDEX strategy_fills_in_order
    ON strategy_fills (strategy, symbol, time, event_id, order_id, ref);
CREATE TABLE strategy_openings (symbol TEXT PRIMARY KEY, entry BLOB NOT NULL) WITHOUT ROWID;
