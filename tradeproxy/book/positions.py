"""The positions of an account: Alpaca's answer, moved by the fills that follow it."""

from __future__ import annotations

from decimal import Context, Decimal
from typing import TYPE_CHECKING, Any

from msgspec import Struct
from msgspec.json import decode, encode

from tradeproxy.book.fields import normalize_symbol
from tradeproxy.wire.amount import normalize_amount, parse_amount
from tradeproxy.wire.event import AMENDMENT_KINDS, EXECUTION_KINDS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tradeproxy.book.fields import EventFields, OrderFields

MAX_POSITIONS = 20_000
"""Symbols of one account. Alpaca has fewer assets."""

_MARKET_FIELDS = (
    *("market_value", "unrealized_pl", "unrealized_plpc", "unrealized_intraday_pl"),
    *("unrealized_intraday_plpc", "qty_available"),
)
"""What a fill makes invalid in Alpaca's object: it depends on prices or orders of that moment."""

_WIDE = Context(prec=60)
_FRACTION = Decimal("1e-9")


class Position(Struct, gc=False):
    """What is known of the position in one symbol."""

    symbol: str
    qty: str
    """Signed, as Alpaca wrote it; "0" once it is closed."""
    document: bytes
    """Alpaca's position object."""
    seq: int = 0
    """The last row that moved it."""
    time: int = 0
    """The time of the newest event that moved it (microseconds since 1970)."""
    differs: str = ""
    """What the last comparison found at Alpaca instead, if that differed."""
    compared: int = 0
    """The last row before that comparison."""
    difference: str | None = None


class Move(Struct, frozen=True, gc=False):
    """What one event says of one symbol. Empty texts are not known."""

    symbol: str
    position_qty: str
    """The position after the event."""
    signed_qty: str
    price: str
    asset_id: str
    asset_class: str


def list_moves(event: EventFields) -> Iterator[Move]:
    """Yield what an event changes in the positions."""
    order = event.order
    if order is None or event.kind not in EXECUTION_KINDS | AMENDMENT_KINDS:
        return
    # A bust or a correction has the amounts of a trade that was counted before.
    is_trade = event.kind in EXECUTION_KINDS
    if order.legs:
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


def _list_leg_moves(event: EventFields, order: OrderFields, is_trade: bool) -> Iterator[Move]:
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
        self.dirty: set[str] = set()
        """The symbols that changed since this was cleared."""

    def adopt(self, position: Position) -> None:
        """Take a position of the store."""
        self._positions[position.symbol] = position

    def get(self, symbol: str) -> Position | None:
        """Return what is known of a symbol; None if nothing is, or the position was dropped."""
        return self._positions.get(symbol)

    def list_open(self) -> list[Position]:
        """Return the positions that are not zero, by symbol."""
        found = (each for each in self._positions.values() if each.document and _is_open(each.qty))
        return sorted(found, key=lambda position: position.symbol)

    # Events.

    def apply(self, move: Move, seq: int, time: int) -> None:
        """Take what an event says of a symbol."""
        known = self._positions.get(move.symbol)
        if known is None:
            if len(self._positions) >= MAX_POSITIONS:
                return
            known = Position(move.symbol, "0", b"")
        is_late = time and time < known.time
        qty = known.qty if is_late else _move_qty(known, move)
        if qty is not None and qty != known.qty:
            known.document = _move_document(known, move, qty)
            known.qty = qty
            known.difference = None
        known.seq = seq
        known.time = max(time, known.time)
        self._positions[move.symbol] = known
        self.dirty.add(move.symbol)

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
                self._replace(symbol, documents.get(symbol), None, asked, time)

    def compare(self, documents: Mapping[str, bytes], asked: int, time: int) -> int:
        """Compare with an answer, and take it if it differs twice in a row with no move between.

        Returns how many positions were wrong. The arguments are those of `seed`.
        """
        corrected = 0
        for symbol in self._positions.keys() | documents.keys():
            known = self._positions.get(symbol) or Position(symbol, "0", b"")
            if known.seq > asked:
                self._forget_comparison(known)
                continue
            document = documents.get(symbol)
            theirs = "0" if document is None else read_qty(document)
            if normalize_amount(theirs) == normalize_amount(known.qty):
                self._replace(symbol, document, None, asked, time)
            elif known.differs == theirs and known.seq <= known.compared:
                text = f"the proxy had {known.qty}, Alpaca has {theirs}"
                self._replace(symbol, document, text, asked, time)
                corrected += 1
            else:
                known.differs, known.compared = theirs, asked
                self._positions[symbol] = known
                self.dirty.add(symbol)
        return corrected

    def _forget_comparison(self, position: Position) -> None:
        if position.differs:
            position.differs = ""
            self.dirty.add(position.symbol)

    def _replace(
        self, symbol: str, document: bytes | None, difference: str | None, asked: int, time: int
    ) -> None:
        if document is None:
            known = self._positions.pop(symbol, None)
            # A difference is still to be shown. Without one, nothing is left to say.
            if difference is not None and known is not None:
                known.qty, known.difference, known.differs = "0", difference, ""
                known.time = max(known.time, time)
                self._positions[symbol] = known
        else:
            known = self._positions.get(symbol)
            seq = 0 if known is None else known.seq
            self._positions[symbol] = Position(
                symbol, read_qty(document), document, seq, time, difference=difference
            )
        self.dirty.add(symbol)


def read_qty(document: bytes) -> str:
    """Return the signed quantity of a position object; "0" if it has none."""
    fields = _load(document)
    qty = str(fields.get("qty", ""))
    if parse_amount(qty) is None:
        return "0"
    is_short = fields.get("side") == "short" and not qty.startswith("-")
    return f"-{qty}" if is_short and _is_open(qty) else qty


def _is_open(qty: str) -> bool:
    return bool(parse_amount(qty))


def _move_qty(known: Position, move: Move) -> str | None:
    """Return the position after an event; None if the event does not show it."""
    if move.position_qty:
        return move.position_qty
    before, by = parse_amount(known.qty), parse_amount(move.signed_qty)
    if before is None or by is None:
        return None
    return _format(_WIDE.add(before, by))


def _move_document(known: Position, move: Move, qty: str) -> bytes:
    """Return the position object after an event."""
    before, after = parse_amount(known.qty), parse_amount(qty)
    document = _load(known.document) if known.document and before else {}
    if after is None or before is None or not after:
        return known.document
    # A position that was turned from long to short is a new one, at the price of the fill.
    entry = parse_amount(str(document.get("avg_entry_price", ""))) if before * after > 0 else None
    price = parse_amount(move.price)
    grown = after - before
    if entry is None:
        entry = price
    elif price is not None and grown * after > 0:
        entry = _WIDE.divide(before * entry + grown * price, after)
    document = {
        "asset_id": move.asset_id or None,
        "symbol": known.symbol,
        "exchange": "CRYPTO" if move.asset_class == "crypto" else "",
        "asset_class": move.asset_class,
        "asset_marginable": None,
        **document,
        "qty": qty,
        "side": "long" if after > 0 else "short",
        "avg_entry_price": "0" if entry is None else _format(entry),
        "cost_basis": "0" if entry is None else _format(_WIDE.multiply(after, entry)),
        **dict.fromkeys(_MARKET_FIELDS),
    }
    for name in ("current_price", "lastday_price", "change_today"):
        document.setdefault(name, None)
    return encode(document)


def _format(number: Decimal) -> str:
    """Format a number as Alpaca does: text, at most 9 decimals, no exponent."""
    number = number.quantize(_FRACTION, context=_WIDE)
    return f"{number.normalize(_WIDE):f}" if number else "0"


def _load(document: bytes) -> dict[str, Any]:
    loaded = decode(document) if document else {}
    return loaded if isinstance(loaded, dict) else {}
