-- Whose each order is, so that no question follows a chain of orders; and what the fills of one
-- order with thousands of them are found by.
ALTER TABLE strategy_orders ADD COLUMN strategy TEXT NOT NULL DEFAULT '';
ALTER TABLE strategy_orders ADD COLUMN moving INTEGER NOT NULL DEFAULT 0;
CREATE INDEX strategy_orders_moving ON strategy_orders (id) WHERE moving = 1;
CREATE INDEX strategy_fills_by_ref
    ON strategy_fills (substr(order_id, -8), substr(ref, -8));
CREATE INDEX strategy_fills_by_alias
    ON strategy_fills (substr(order_id, -8), substr(alias, -8)) WHERE alias != '';
CREATE INDEX strategy_fills_by_filled ON strategy_fills (substr(order_id, -8), filled);
