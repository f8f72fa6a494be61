"""The records of the book per strategy: orders with their links, fills, and what was held at first.

`TableFillStore` keeps them in the book's file, and the tests have a plain one in memory.
"""

from __future__ import annotations

from decimal import Decimal  # msgspec reads the types of an Opening
from typing import Protocol

from msgspec import Struct

from tradeproxy.book.executions import Execution
from tradeproxy.book.lots import FillKey


class OrderRecord(Struct, frozen=True, gc=False):
    """An order, as far as it says whose its fills are. "" stands for none."""

    id: str
    client_order_id: str = ""
    parent_id: str = ""
    replaces: str = ""
    assigned: str = ""
    """The strategy that somebody assigned by hand."""
    strategy: str = ""
    """The strategy that it has, by all of these."""
    is_moving: bool = False
    """Whether its fills, or the orders below it, may have another strategy yet."""

    @property
    def above(self) -> str:
        """The order whose strategy this one has, unless one is assigned."""
        above = self.parent_id or self.replaces
        return "" if above == self.id else above


class BookedFill(Struct, frozen=True, gc=False):
    """A fill that was booked."""

    order_id: str
    ref: str
    """Unique within the order: the execution's id; without one, a text made of other fields."""
    strategy: str
    symbol: str
    asset_class: str
    time: int
    event_id: str
    qty: Decimal
    price: Decimal
    multiplier: Decimal
    fee: Decimal
    filled: str
    """How much of the order was filled with it; "" if that is not known."""
    alias: str = ""
    """Another id of the execution: that of its correction."""
    is_amended: bool = False
    """Whether an amendment changed it. What reports the original again changes nothing then."""
    is_busted: bool = False

    @property
    def key(self) -> FillKey:
        """Where it counts among the others."""
        return FillKey(self.time, self.event_id, self.order_id, self.ref)

    @property
    def place(self) -> tuple[str, str]:
        """The strategy and the symbol that it counts for."""
        return self.strategy, self.symbol


class Opening(Struct, frozen=True, gc=False):
    """What the account held of a symbol at the start."""

    symbol: str
    asset_class: str
    qty: Decimal
    """Negative if short."""
    price: Decimal
    """Alpaca's average, of one unit, in USD; 0 if that is not known."""
    multiplier: Decimal
    until: FillKey
    """Fills up to this one are a part of it."""
    known: Decimal
    """The sum of those of them that are booked: of any strategy, so not of the lot."""


class FillStore(Protocol):
    """Where the records are. A record that is put replaces the one with its ids."""

    def get_order(self, order_id: str) -> OrderRecord | None:
        """Return an order; None if it is unknown."""

    def put_order(self, order: OrderRecord, before: OrderRecord | None) -> None:
        """Store an order in place of `before`; None if it is new."""

    def read_orders(self, after: int, limit: int) -> tuple[list[OrderRecord], int]:
        """Return about `limit` orders behind a position, and where they end; none at the end.

        The first position is 0. An order that is put meanwhile may be among them or not.
        """

    def read_linked(
        self, order_id: str, after: int, limit: int
    ) -> tuple[list[OrderRecord], int | None]:
        """Return orders whose `above` is this one as `read_orders` does; None at the end."""

    def is_awaited(self, order_id: str) -> bool:
        """Whether an order that is unknown is the `above` of others."""

    def list_moving(self) -> list[str]:
        """Return the ids of the orders that are moving."""

    def get_fill(self, order_id: str, ref: str) -> BookedFill | None:
        """Return the fill of an order with this `ref` or `alias`; None if there is none."""

    def find_filled(self, order_id: str, filled: str) -> BookedFill | None:
        """Return a fill that counts by how much of the order was filled with it; None without."""

    def put_fill(self, fill: BookedFill, before: BookedFill | None) -> None:
        """Store a fill in place of `before`, which has the same ids; None if it is new."""

    def read_fills(
        self, order_id: str, after: int, limit: int
    ) -> tuple[list[BookedFill], int | None]:
        """Return fills of an order as `read_orders` returns orders; None at the end."""

    def select_fills(
        self, place: tuple[str, str], after: FillKey | None, limit: int
    ) -> list[BookedFill]:
        """Return the next fills of a strategy and symbol in the order of keys, busted ones too."""

    def list_places(self) -> list[tuple[str, str]]:
        """Return each strategy and symbol that has a fill or had one."""

    def get_opening(self, symbol: str) -> Opening | None:
        """Return what was held of a symbol at the start; None if nothing or unknown."""

    def put_opening(self, opening: Opening) -> None:
        """Store what was held of a symbol at the start."""

    def list_openings(self) -> list[Opening]:
        """Return what was held at the start."""

    def list_names(self) -> list[str]:
        """Return the strategies that have a name of their own, oldest first."""

    def add_name(self, name: str) -> None:
        """Store a strategy that gets a name of its own."""

    def clear_names(self) -> None:
        """Forget all names."""

    def list_unbooked(self) -> list[Execution]:
        """Return the executions that could not be booked, oldest first."""

    def add_unbooked(self, execution: Execution) -> None:
        """Store an execution that could not be booked, behind the others."""

    def remove_unbooked(self, execution: Execution) -> None:
        """Forget an execution that could not be booked."""
