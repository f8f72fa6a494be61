"""The positions of an account: Alpaca's answer, moved by the fills that follow it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Context, Decimal
from itertools import islice
from typing import Any

from msgspec import Struct
from msgspec.json import decode, encode

from tradeproxy.book.fields import BookEvent, BookOrder, normalize_symbol, parse_number
from tradeproxy.book.views import PositionView
from tradeproxy.wire.amount import normalize_amount
from tradeproxy.wire.event import EXECUTION_KINDS, MAX_WORD_LENGTH

MAX_POSITIONS = 10_000
"""Symbols of one account. An answer with so many takes a tenth of a second in one turn."""

SAVED_ANSWERS = 500
"""Positions of an answer that one write saves: 15 ms. A crash loses the others, and the next start
asks Alpaca again."""

SLACK = 2_000_000
"""Microseconds before a request for which an event may not be in its answer: clocks differ."""

_MARKET_FIELDS = (
    *("market_value", "unrealized_pl", "unrealized_plpc", "unrealized_intraday_pl"),
    *("unrealized_intraday_plpc", "qty_available"),
)
"""What a fill makes invalid in Alpaca's object: it depends on prices or orders of that moment."""

_WIDE = Context(prec=60)
# To look up a method of a context takes longer than to call it.
_add, _multiply, _divide = _WIDE.add, _WIDE.multiply, _WIDE.divide
_FRACTION = Decimal("1e-9")


class Position(Struct, gc=False):
    """What is known of the position in one symbol."""

    symbol: str
    qty: str
    """Signed; "0" once it is closed."""
    entry: str
    """The average price at which it was opened; empty if that is not known."""
    document: bytes = b""
    """Alpaca's position object as it was before the fills that `is_moved` stands for."""
    is_moved: bool = False
    asset_id: str = ""
    asset_class: str = ""
    seq: int = 0
    """The last row that moved it."""
    time: int = 0
    """The time of the newest event that moved it (microseconds since 1970)."""
    answered: int = 0
    """When Alpaca was asked for `document` (microseconds since 1970)."""
    differs: str = ""
    """What the last comparison found at Alpaca instead, if that differed."""
    compared: int = 0
    """The last row before that comparison."""
    difference: str | None = None

    def render(self) -> bytes:
        """Return Alpaca's position object as it is after the fills."""
        if self.is_moved:
            self.document, self.is_moved = _render(self), False
        return self.document

    def show(self) -> bytes:
        """Return the same object, with `difference` if there is one."""
        document = self.render()
        if self.difference is None:
            return document
        return b'%b,"difference":%b}' % (document.rstrip()[:-1], encode(self.difference))


class Move(Struct, frozen=True, gc=False):
    """What one event says of one symbol. Empty texts are not known."""

    symbol: str
    position_qty: str
    """The position after the event."""
    signed_qty: str
    price: str
    asset_id: str
    asset_class: str


def list_moves(event: BookEvent, order: BookOrder) -> Iterator[Move]:
    """Yield what an execution, or an amendment of one, changes in the positions."""
    # A bust or a correction has the amounts of a trade that was counted before.
    is_trade = event.kind in EXECUTION_KINDS
    # The parent of a bracket has legs, too, but is filled as a whole: see executions.py.
    if order.legs and (event.legs or event.position_qtys or not order.symbol):
        yield from _list_leg_moves(event, order, is_trade)
    elif order.symbol:
        qty = _sign(event.qty, order.side) if is_trade else ""
        yield Move(
            normalize_symbol(order.symbol),
            event.position_qty,
            qty,
            event.price if is_trade else "",
            order.asset_id,
            order.asset_class,
        )


def _list_leg_moves(event: BookEvent, order: BookOrder, is_trade: bool) -> Iterator[Move]:
    quantities = dict(event.position_qtys)
    legs = {leg.id: leg for leg in order.legs}
    for fill in event.legs:
        leg = legs.get(fill.order_id)
        symbol = fill.symbol or ("" if leg is None else leg.symbol)
        if not symbol:
            continue
        yield Move(
            normalize_symbol(symbol),
            quantities.pop(symbol, ""),
            _sign(fill.qty, leg.side) if is_trade and leg is not None else "",
            fill.price if is_trade else "",
            "" if leg is None else leg.asset_id,
            "" if leg is None else leg.asset_class,
        )
    for symbol, qty in quantities.items():
        yield Move(normalize_symbol(symbol), qty, "", "", "", "")


def _sign(qty: str, side: str) -> str:
    if not qty or not side:
        return ""
    return qty if side.startswith("buy") else f"-{qty}"


class Positions:
    """The positions of one account, by normalized symbol."""

    def __init__(self) -> None:
        self._positions: dict[str, Position] = {}
        self._moved: set[str] = set()
        # What answers changed is written later: no row is applied to it again after a crash.
        self._answered: dict[str, None] = {}
        self.amounts: dict[str, Decimal] = {}
        """What is held of each symbol, signed, as far as its view is made and it is a number."""
        self._open: dict[str, PositionView] = {}
        self._stale: dict[str, None] = {}
        self._views: tuple[PositionView, ...] | None = ()

    def adopt(self, position: Position) -> None:
        """Take a position of the store."""
        self._positions[position.symbol] = position
        self._stale[position.symbol] = None

    def get(self, symbol: str) -> Position | None:
        """Return what is known of a symbol; None if nothing is, or the position was dropped."""
        return self._positions.get(symbol)

    def list_open(self) -> list[Position]:
        """Return the positions that are not zero, or whose difference is shown, by symbol."""
        found = (
            each
            for each in self._positions.values()
            if _is_open(each.qty) or (each.difference is not None and each.document)
        )
        return sorted(found, key=lambda position: position.symbol)

    def prepare(self, limit: int) -> bool:
        """Make up to `limit` of the views that are out of date; return whether none is left.

        Each takes some 20 microseconds, and an account may have MAX_POSITIONS.
        """
        for _ in range(min(limit, len(self._stale))):
            symbol, _ = self._stale.popitem()
            before = self._open.get(symbol)
            view = self._make_view(symbol)
            if view == before:
                continue
            self._views = None
            if view is None:
                del self._open[symbol]
            else:
                self._open[symbol] = view
        return not self._stale

    def views(self) -> tuple[PositionView, ...]:
        """Return what is shown of the positions that `list_open` has, by symbol."""
        self.prepare(len(self._stale))
        if self._views is None:
            self._open = dict(sorted(self._open.items()))  # nearly sorted
            self._views = tuple(self._open.values())
        return self._views

    def _make_view(self, symbol: str) -> PositionView | None:
        position = self._positions.get(symbol)
        qty = None if position is None else parse_number(position.qty)
        self.amounts.pop(symbol, None)
        if qty:
            self.amounts[symbol] = qty
        if position is not None and (
            qty or (position.difference is not None and position.document)
        ):
            return PositionView(symbol, position.show())
        return None

    def _mark_answered(self, symbol: str) -> None:
        self._answered[symbol] = self._stale[symbol] = None

    def list_dirty(self) -> set[str]:
        """Return the symbols that changed since `clear_dirty`, and SAVED_ANSWERS of an answer."""
        return self._moved.union(islice(self._answered, SAVED_ANSWERS))

    def clear_dirty(self) -> bool:
        """Forget what `list_dirty` returns; return whether anything is left."""
        for symbol in self.list_dirty():
            self._answered.pop(symbol, None)
        self._moved.clear()
        return bool(self._answered)

    def list_moved(self, since: int) -> list[Position]:
        """Return the positions that an event behind row `since` moved, closed ones too."""
        return [each for each in self._positions.values() if each.seq > since]

    # Events.

    def apply(self, move: Move, seq: int, time: int, *, is_recovered: bool) -> None:
        """Take what an event says of a symbol.

        The order of the rows counts, not that of their times, unless an event is late by its mark.
        """
        known = self._positions.get(move.symbol)
        if known is None:
            if len(self._positions) >= MAX_POSITIONS:
                return
            known = Position(move.symbol, "0", "")
        # A late event is part of the position that a newer one or an answer had. One without a
        # position may be part of the answer too.
        is_answered = 0 < time < known.answered - SLACK
        is_late = is_recovered and (is_answered or 0 < time < known.time)
        is_known = is_late or (is_answered and not move.position_qty)
        qty = None if is_known else _move_qty(known, move)
        if qty is not None and qty != known.qty:
            known.entry = _move_entry(known, move, qty)
            known.qty, known.is_moved, known.difference = qty, True, None
            known.asset_id = move.asset_id or known.asset_id
            known.asset_class = move.asset_class or known.asset_class
        known.seq = seq
        if time > known.time:
            known.time = time
        self._positions[move.symbol] = known
        self._moved.add(move.symbol)
        self._stale[move.symbol] = None

    # Alpaca's answers.

    def seed(self, documents: Mapping[str, bytes], asked: int, time: int) -> None:
        """Take an answer as the truth, except for symbols that have moved since it was asked for.

        Args:
            documents: Alpaca's position objects, by normalized symbol.
            asked: the last row that had been applied before the request was sent.
            time: when the request was sent (microseconds since 1970).
        """
        for symbol in self._positions.keys() | documents.keys():
            known = self._positions.get(symbol)
            if known is None or known.seq <= asked:
                self._replace(symbol, documents.get(symbol), None, time)

    def compare(self, documents: Mapping[str, bytes], asked: int, time: int) -> int:
        """Compare with an answer, and take it if it differs twice in a row with no move between.

        Returns how many positions were wrong. The arguments are those of `seed`.
        """
        corrected = 0
        for symbol in self._positions.keys() | documents.keys():
            known = self._positions.get(symbol) or Position(symbol, "0", "")
            if known.seq > asked:
                self._forget_comparison(known)
                continue
            document = documents.get(symbol)
            theirs = "0" if document is None else read_amounts(document)[0]
            if normalize_amount(theirs) == normalize_amount(known.qty):
                self._replace(symbol, document, None, time)
            elif known.differs == theirs and known.seq <= known.compared:
                text = f"the proxy had {known.qty}, Alpaca has {theirs}"
                self._replace(symbol, document, text, time)
                corrected += 1
            elif symbol in self._positions or len(self._positions) < MAX_POSITIONS:
                known.differs, known.compared = theirs, asked
                self._positions[symbol] = known
                self._mark_answered(symbol)
        return corrected

    def _forget_comparison(self, position: Position) -> None:
        if position.differs:
            position.differs = ""
            self._mark_answered(position.symbol)

    def _replace(
        self, symbol: str, document: bytes | None, difference: str | None, time: int
    ) -> None:
        known = self._positions.pop(symbol, None)
        self._mark_answered(symbol)
        if document is not None:
            if known is None and len(self._positions) >= MAX_POSITIONS:
                return
            self._positions[symbol] = Position(
                symbol,
                *read_amounts(document),
                document,
                seq=0 if known is None else known.seq,
                time=0 if known is None else known.time,
                answered=time,
                difference=difference,
            )
        elif known is not None and difference is not None:
            # Nothing is left of it but what was wrong.
            self._positions[symbol] = Position(
                symbol,
                "0",
                "",
                known.document,
                is_moved=True,
                asset_id=known.asset_id,
                asset_class=known.asset_class,
                seq=known.seq,
                time=known.time,
                answered=time,
                difference=difference,
            )


def read_amounts(document: bytes) -> tuple[str, str]:
    """Return the signed quantity of a position object, "0" without one, and its entry price."""
    fields = _load(document)
    qty, entry = (
        str(fields.get(name, ""))[:MAX_WORD_LENGTH] for name in ("qty", "avg_entry_price")
    )
    if parse_number(qty) is None:
        qty = "0"
    elif fields.get("side") == "short" and not qty.startswith("-") and _is_open(qty):
        qty = f"-{qty}"
    return qty, entry


def _is_open(qty: str) -> bool:
    return bool(parse_number(qty))


def _move_qty(known: Position, move: Move) -> str | None:
    """Return the position after an event; None if the event does not show it."""
    if move.position_qty:
        return None if parse_number(move.position_qty) is None else move.position_qty
    before, by = parse_number(known.qty), parse_number(move.signed_qty)
    if before is None or by is None:
        return None
    return _format(_add(before, by))


def _move_entry(known: Position, move: Move, qty: str) -> str:
    """Return the average entry price after an event that makes `qty` the position."""
    before, after = parse_number(known.qty), parse_number(qty)
    price = parse_number(move.price)
    if before is None or after is None or not after:
        return ""
    if before * after <= 0:  # a new one, or one that was turned from long to short
        return move.price if price is not None else ""
    entry, grown = parse_number(known.entry), after - before
    if grown * after <= 0 or entry is None or price is None:
        return known.entry
    total = _add(_multiply(before, entry), _multiply(grown, price))
    return _format(_divide(total, after))


def _render(position: Position) -> bytes:
    qty, entry = parse_number(position.qty), parse_number(position.entry)
    cost = None if qty is None or entry is None else _multiply(qty, entry)
    base = {
        "asset_id": position.asset_id,
        "symbol": position.symbol,
        "exchange": "CRYPTO" if position.asset_class == "crypto" else "",
        "asset_class": position.asset_class,
        "asset_marginable": None,
    }
    changed = {
        "qty": position.qty,
        "side": "short" if position.qty.startswith("-") else "long",
        "avg_entry_price": position.entry or "0",
        "cost_basis": "0" if cost is None else _format(cost),
        **dict.fromkeys(_MARKET_FIELDS),
    }
    later = dict.fromkeys(("current_price", "lastday_price", "change_today"))
    return encode({**base, **later, **_load(position.document), **changed})


def _format(number: Decimal) -> str:
    """Format a number as Alpaca does: text, at most 9 decimals, no exponent."""
    number = number.quantize(_FRACTION, context=_WIDE)
    return f"{number.normalize(_WIDE):f}" if number else "0"


def _load(document: bytes) -> dict[str, Any]:
    loaded = decode(document) if document else {}
    return loaded if isinstance(loaded, dict) else {}
