"""The records of the book per strategy in memory: what the tests of its rules need."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from itertools import islice

from tradeproxy.book.executions import Execution
from tradeproxy.book.fill_store import BookedFill, Opening, OrderRecord
from tradeproxy.book.lots import FillKey


class MemoryFillStore:
    """A FillStore in memory."""

    def __init__(self) -> None:
        self._orders: dict[str, OrderRecord] = {}
        self._linked: dict[str, dict[str, None]] = {}
        self._fills: dict[str, dict[str, BookedFill]] = {}
        self._places: dict[tuple[str, str], list[tuple[FillKey, BookedFill]]] = {}
        self._openings: dict[str, Opening] = {}
        self._names: list[str] = []
        self._unbooked: dict[Execution, None] = {}

    def get_order(self, order_id: str) -> OrderRecord | None:
        """Return an order; None if it is unknown."""
        return self._orders.get(order_id)

    def put_order(self, order: OrderRecord, before: OrderRecord | None) -> None:
        """Store an order in place of `before`; None if it is new."""
        if before is not None and before.above != order.above:
            self._linked.get(before.above, {}).pop(order.id, None)
        self._orders[order.id] = order
        if order.above:
            self._linked.setdefault(order.above, {})[order.id] = None

    def read_orders(self, after: int, limit: int) -> tuple[list[OrderRecord], int]:
        """Return about `limit` orders behind a position, and where they end; none at the end."""
        return list(islice(self._orders.values(), after, after + limit)), after + limit

    def read_linked(
        self, order_id: str, after: int, limit: int
    ) -> tuple[list[OrderRecord], int | None]:
        """Return all orders whose `above` is this one, and None."""
        return [self._orders[each] for each in self._linked.get(order_id, ())], None

    def is_awaited(self, order_id: str) -> bool:
        """Whether an order that is unknown is the `above` of others."""
        return bool(self._linked.get(order_id))

    def list_moving(self) -> list[str]:
        """Return the ids of the orders that are moving."""
        return [each.id for each in self._orders.values() if each.is_moving]

    def get_fill(self, order_id: str, ref: str) -> BookedFill | None:
        """Return the fill of an order with this `ref` or `alias`; None if there is none."""
        fills = self._fills.get(order_id, {})
        if (found := fills.get(ref)) is not None:
            return found
        return next((fill for fill in fills.values() if ref and fill.alias == ref), None)

    def find_filled(self, order_id: str, filled: str) -> BookedFill | None:
        """Return a fill that counts by how much of the order was filled with it; None without."""
        fills = self._fills.get(order_id, {}).values()
        return next((each for each in fills if each.filled == filled and not each.is_busted), None)

    def put_fill(self, fill: BookedFill, before: BookedFill | None) -> None:
        """Store a fill in place of `before`, which has the same ids; None if it is new."""
        if before is not None:
            rows = self._places[before.place]
            del rows[bisect_left(rows, before.key, key=_key)]
        self._fills.setdefault(fill.order_id, {})[fill.ref] = fill
        insort(self._places.setdefault(fill.place, []), (fill.key, fill), key=_key)

    def read_fills(
        self, order_id: str, after: int, limit: int
    ) -> tuple[list[BookedFill], int | None]:
        """Return all fills of an order, and None."""
        return list(self._fills.get(order_id, {}).values()), None

    def select_fills(
        self, place: tuple[str, str], after: FillKey | None, limit: int
    ) -> list[BookedFill]:
        """Return the next fills of a strategy and symbol in the order of keys, busted ones too."""
        rows = self._places.get(place, [])
        first = 0 if after is None else bisect_right(rows, after, key=_key)
        return [fill for _, fill in rows[first : first + limit]]

    def list_places(self) -> list[tuple[str, str]]:
        """Return each strategy and symbol that has a fill or had one."""
        return list(self._places)

    def get_opening(self, symbol: str) -> Opening | None:
        """Return what was held of a symbol at the start; None if nothing or unknown."""
        return self._openings.get(symbol)

    def put_opening(self, opening: Opening) -> None:
        """Store what was held of a symbol at the start."""
        self._openings[opening.symbol] = opening

    def list_openings(self) -> list[Opening]:
        """Return what was held at the start."""
        return list(self._openings.values())

    def list_names(self) -> list[str]:
        """Return the strategies that have a name of their own, oldest first."""
        return list(self._names)

    def add_name(self, name: str) -> None:
        """Store a strategy that gets a name of its own."""
        self._names.append(name)

    def clear_names(self) -> None:
        """Forget all names."""
        self._names.clear()

    def list_unbooked(self) -> list[Execution]:
        """Return the executions that could not be booked, oldest first."""
        return list(self._unbooked)

    def add_unbooked(self, execution: Execution) -> None:
        """Store an execution that could not be booked, behind the others."""
        self._unbooked[execution] = None

    def remove_unbooked(self, execution: Execution) -> None:
        """Forget an execution that could not be booked."""
        del self._unbooked[execution]


def _key(row: tuple[FillKey, BookedFill]) -> FillKey:
    return row[0]
