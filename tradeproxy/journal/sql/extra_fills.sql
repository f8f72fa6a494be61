-- Nearly every order has a few fills, which are read together. Only those behind the first 128 of
-- an order are in the indexes of the ids of fills: such an index is written all over.
ALTER TABLE strategy_fills ADD COLUMN extra INTEGER NOT NULL DEFAULT 0;
DROP INDEX strategy_fills_by_ref;
DROP INDEX strategy_fills_by_filled;
UPDATE strategy_fills SET extra = 1 WHERE rowid IN (
    SELECT rowid FROM (
        SELECT rowid, row_number() OVER (PARTITION BY order_id ORDER BY rowid) AS number
        FROM strategy_fills WHERE substr(order_id, -8) IN (
            SELECT substr(order_id, -8) FROM strategy_fills
            GROUP BY substr(order_id, -8) HAVING count(*) > 128
        )
    ) WHERE number > 128
);
CREATE INDEX strategy_fills_by_ref
    ON strategy_fills (substr(order_id, -8), substr(ref, -8)) WHERE extra = 1;
CREATE INDEX strategy_fills_by_filled
    ON strategy_fills (substr(order_id, -8), filled) WHERE extra = 1;
