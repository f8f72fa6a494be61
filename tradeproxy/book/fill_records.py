"""The records of the book per strategy: orders, fills, and what was held at the start."""

from __future__ import annotations

from decimal import Decimal  # msgspec reads the types of an Opening

from msgspec import Struct

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
    is_extra: bool = False
    """Whether its order had MAX_FILLS fills before it, see FillStore."""

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
