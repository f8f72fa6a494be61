"""The strategy of each order: that of the order above it, unless one is assigned by hand.

If it changes, the order is moving: `work` moves its fills, and then looks at the orders below it,
in steps. The newest change comes first, so one that comes meanwhile is followed to its end before
an older one goes on. That ends in a circle of orders, too.

Any read of the store may fail, and what was asked for is then asked for again. So a step records
how far it is only after its last read.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct
from msgspec.structs import replace

from tradeproxy.book.executions import OrderLinks
from tradeproxy.book.fill_records import BookedFill, OrderRecord
from tradeproxy.book.fill_store import FillStore
from tradeproxy.wire.strategy_rule import NO_STRATEGY, StrategyRule, name_strategy

MAX_CIRCLE = 64
"""Orders that are followed upwards from a new link. If it closes a circle, it is not taken."""

STEP = 64
"""Fills or orders that one read of the store returns."""


class _MoveProgress(Struct):
    """How far an order is that gets another strategy: positions in the store."""

    fills: int | None = 0
    """None once all are moved."""
    linked: int = 0


class OrderMoves:
    """The orders of one account, and the moves that are not complete."""

    def __init__(
        self, store: FillStore, rule: StrategyRule, move_fill: Callable[[BookedFill, str], None]
    ) -> None:
        """Continue what the store has.

        Args:
            store: has the orders and their fills.
            rule: how a client_order_id names a strategy.
            move_fill: books a fill under another strategy.
        """
        self._store = store
        self._rule = rule
        self._move_fill = move_fill
        # The last one is worked on.
        self._moves = {order_id: _MoveProgress() for order_id in store.list_moving()}
        self._renamed: int | None = None  # where `rename` is among all orders

    @property
    def has_work(self) -> bool:
        """Whether `work` has anything left to do."""
        return bool(self._moves) or self.is_renaming

    @property
    def is_renaming(self) -> bool:
        """Whether `rename` has orders left to look at."""
        return self._renamed is not None

    def rename(self) -> None:
        """Have `work` apply the rule to every order again, after it has changed."""
        self._renamed = 0

    def work(self) -> int:
        """Do a step; return how many records it has looked at."""
        return self._move() if self._moves else self._rename()

    def link(self, links: OrderLinks) -> None:
        """Record an order and its links."""
        known = self._store.get_order(links.id)
        before = known or OrderRecord(links.id)
        names = (
            links.client_order_id or before.client_order_id,
            links.parent_id or before.parent_id,
            links.replaces or before.replaces,
        )
        if known is not None and names == (known.client_order_id, known.parent_id, known.replaces):
            return  # nearly always
        order = OrderRecord(links.id, *names, before.assigned, before.strategy, before.is_moving)
        if self._closes_circle(order, known):
            order = replace(order, parent_id=before.parent_id, replaces=before.replaces)
        if order != known:
            self._put(order, known)

    def assign(self, order_id: str, strategy: str) -> None:
        """Assign an order to a strategy by hand, with its legs and replacements; "" undoes it."""
        known = self._store.get_order(order_id)
        self._put(replace(known or OrderRecord(order_id), assigned=strategy), known)

    def is_known(self, order_id: str) -> bool:
        """Whether an order has a fill, or a link to another order."""
        return self._store.get_order(order_id) is not None

    def find_strategy(self, order_id: str) -> str:
        """Return the strategy of an order, which may count under OTHER_STRATEGIES."""
        order = self._store.get_order(order_id)
        return NO_STRATEGY if order is None else order.strategy or self._resolve(order)

    def _resolve(self, order: OrderRecord) -> str:
        """Return the strategy that an order has by its record and the order above it."""
        if order.assigned:
            return order.assigned
        upper = self._store.get_order(order.above) if order.above else None
        if upper is not None and upper.strategy:
            return upper.strategy
        return name_strategy(self._rule, order.client_order_id)

    def _put(self, order: OrderRecord, known: OrderRecord | None) -> None:
        """Store an order with the strategy that it has now. It is moving if that is another one."""
        if (strategy := self._resolve(order)) != order.strategy:
            order = replace(order, strategy=strategy)
        # A fill comes with its order, so a new order has none, and only linked ones can move.
        if self._store.is_awaited(order.id) if known is None else strategy != known.strategy:
            self._store.put_order(replace(order, is_moving=True), known)
            self._begin_move(order.id)
        else:
            self._store.put_order(order, known)

    def _begin_move(self, order_id: str) -> None:
        self._moves.pop(order_id, None)
        self._moves[order_id] = _MoveProgress()

    def _closes_circle(self, order: OrderRecord, known: OrderRecord | None) -> bool:
        """Whether an order is below itself by a link that is new."""
        has_orders_below = known is not None or self._store.is_awaited(order.id)
        if not has_orders_below or (known is not None and known.above == order.above):
            return False
        above = order.above
        for _ in range(MAX_CIRCLE):
            upper = self._store.get_order(above) if above else None
            if upper is None:
                return False
            if upper.above == order.id:
                return True
            above = upper.above
        return False

    def _move(self) -> int:
        """Do a step of the newest move; return how many records it has looked at."""
        order_id, move = next(reversed(self._moves.items()))
        order = self._store.get_order(order_id)
        assert order is not None, "it was put"
        if move.fills is not None:
            fills, next_fills = self._store.read_fills(order_id, move.fills, STEP)
            for fill in fills:
                self._move_fill(fill, order.strategy)
            move.fills = next_fills
            return len(fills) + 1
        linked, after = self._store.read_linked(order_id, move.linked, STEP)
        for each in linked:
            if each.strategy != self._resolve(each):
                self._put(each, each)
        if after is None:
            if order.is_moving:
                self._store.put_order(replace(order, is_moving=False), order)
            del self._moves[order_id]
        else:
            move.linked = after
        return len(linked) + 1

    def _rename(self) -> int:
        """Do a step of `rename`; return how many orders it has looked at."""
        assert self._renamed is not None, "it is renaming"
        orders, after = self._store.read_orders(self._renamed, STEP)
        for order in orders:
            if order.strategy != self._resolve(order):
                self._put(order, order)
            self._begin_move(order.id)  # its fills may count under another name now
        self._renamed = after if orders else None
        return len(orders) + 1
