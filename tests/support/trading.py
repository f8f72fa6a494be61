"""The life of an account: trade updates as Alpaca sends them, and what they add up to."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Iterator
from decimal import Decimal
from random import Random
from typing import Any
from uuid import UUID

from tradeproxy.wire.event import format_time

BEGIN = 1_790_000_000_000_000
"""The time of the first event (microseconds since 1970)."""

STOCKS = ("AAPL", "MSFT", "SPY", "TSLA")
CRYPTO = ("BTC/USD", "ETH/USD")
OPTIONS = ("AAPL250321P00200000", "AAPL250321C00380000")
ENDS = ("canceled", "expired", "rejected", "done")

Document = dict[str, Any]


class Trading:
    """Random orders of one account. The seed fixes every event."""

    def __init__(self, seed: int, active: int = 8) -> None:
        """Begin without orders; `active` of them are open at a time."""
        self._random = Random(seed)
        self._active = active
        self._lives: list[Iterator[bytes]] = []
        self.time = BEGIN
        """The time of the newest event (microseconds since 1970)."""
        self._count = 0
        self.orders: dict[str, Document] = {}
        """The newest object of each order and leg, by id, without its legs."""
        self.parents: dict[str, str] = {}
        self.positions: defaultdict[str, Decimal] = defaultdict(Decimal)
        """By the symbol as Alpaca's positions have it."""
        self.timelines: defaultdict[str, list[tuple[str, str]]] = defaultdict(list)
        """The kind and the order's status in each event that names an order."""
        self.fills = 0

    def take(self, count: int) -> list[bytes]:
        """Return the next frames."""
        return [self._next() for _ in range(count)]

    @property
    def open_ids(self) -> set[str]:
        """The orders and legs that can still change."""
        closed = ("filled", "canceled", "expired", "replaced", "rejected")
        return {key for key, order in self.orders.items() if order["status"] not in closed}

    def _next(self) -> bytes:
        while True:
            while len(self._lives) < self._active:
                kinds: tuple[Callable[[], Iterator[bytes]], ...] = (
                    *(self._simple,) * 5,
                    self._multi_leg,
                    self._bracket,
                )
                self._lives.append(self._random.choice(kinds)())
            life = self._random.choice(self._lives)
            if (frame := next(life, None)) is not None:
                return frame
            self._lives.remove(life)

    # Lives of orders.

    def _simple(self) -> Iterator[bytes]:
        symbol = self._random.choice(STOCKS + CRYPTO + OPTIONS)
        order = self._order(symbol)
        yield self._event("pending_new", order)
        yield self._event("new", order, status="new")
        for _ in range(self._random.randrange(3)):
            yield self._fill(order, is_last=False)
        end = self._random.choice(("fill", "fill", "replaced", "trade_bust", *ENDS))
        match end:
            case "fill":
                yield self._fill(order, is_last=True)
            case "trade_bust":
                undone, execution = self._left(order), self._uuid()
                yield self._fill(order, is_last=True, execution=execution)
                yield self._bust(order, undone, execution)
            case "replaced":
                other = self._order(symbol, replaces=order["id"])
                yield self._event("replaced", order, status="replaced", replaced_by=other["id"])
                yield self._event("new", other, status="new")
                yield self._event("canceled", other, status="canceled")
            case "done":
                yield self._event("done_for_day", order, status="done_for_day")
            case _:
                yield self._event(end, order, status=end)

    def _multi_leg(self) -> Iterator[bytes]:
        parent = self._order("", order_class="mleg", asset_class="")
        legs = [self._order(symbol, order_class="mleg") for symbol in OPTIONS]
        self.parents.update({leg["id"]: parent["id"] for leg in legs})
        yield self._event("new", parent, legs, status="new")
        at = self._tick()
        parts, quantities = [], {}
        for order in (parent, *legs):
            order |= {"status": "filled", "filled_qty": "1", "updated_at": at}
        for leg in legs:
            qty = self._move(leg, Decimal(1))
            quantities[leg["symbol"]] = qty
            parts.append(
                {
                    "execution_id": self._uuid(),
                    "qty": "1",
                    "price": "1.5",
                    "order_id": leg["id"],
                    "symbol": leg["symbol"],
                }
            )
        self.fills += 1
        yield self._frame(
            "fill", parent, legs, at, qty="1", price="1", legs=parts, position_qtys=quantities
        )

    def _bracket(self) -> Iterator[bytes]:
        symbol = self._random.choice(STOCKS)
        parent = self._order(symbol, order_class="bracket")
        profit, stop = (
            self._order(symbol, order_class="bracket", side="sell", status="held") for _ in "12"
        )
        legs = [profit, stop]
        self.parents.update({leg["id"]: parent["id"] for leg in legs})
        yield self._event("new", parent, legs, status="new")
        yield self._fill(parent, is_last=True)
        yield self._event("new", profit, status="new")
        yield self._fill(profit, is_last=True)
        yield self._event("canceled", stop, status="canceled")

    # Parts of events.

    def _tick(self) -> str:
        self.time += self._random.randrange(1, 1_000_000)
        return format_time(self.time)

    def _uuid(self) -> str:
        return str(UUID(int=self._random.getrandbits(128)))

    def _order(self, symbol: str, **fields: Any) -> Document:
        at = format_time(self.time)
        qty = "0.000000009" if symbol in CRYPTO else "10"
        return {
            "id": self._uuid(),
            "client_order_id": f"bot-{self._random.randrange(3)}-{self._count}",
            "created_at": at,
            "updated_at": at,
            "submitted_at": at,
            "filled_at": None,
            "expired_at": None,
            "canceled_at": None,
            "failed_at": None,
            "replaced_at": None,
            "replaced_by": None,
            "replaces": None,
            "asset_id": "00000000-0000-0000-0000-000000000002",
            "symbol": symbol,
            "asset_class": "crypto" if symbol in CRYPTO else "us_equity",
            "notional": None,
            "qty": qty,
            "filled_qty": "0",
            "filled_avg_price": None,
            "order_class": "",
            "order_type": "market",
            "type": "market",
            "side": self._random.choice(("buy", "sell")),
            "time_in_force": "day",
            "limit_price": None,
            "stop_price": None,
            "status": "pending_new",
            "extended_hours": False,
            "legs": None,
            "trail_percent": None,
            "trail_price": None,
            "hwm": None,
            **fields,
        }

    def _left(self, order: Document) -> Decimal:
        return Decimal(order["qty"]) - Decimal(order["filled_qty"])

    def _bust(self, order: Document, qty: Decimal, execution: str) -> bytes:
        data = {
            "qty": _text(qty),
            "price": "100.5",
            "position_qty": self._move(order, -qty),
            "execution_id": self._uuid(),
            "previous_execution_id": execution,
        }
        return self._event("trade_bust", order, data=data)

    def _fill(self, order: Document, *, is_last: bool, execution: str = "") -> bytes:
        left = self._left(order)
        qty = left if is_last else (left / 3).quantize(Decimal("1e-9"))
        filled = Decimal(order["filled_qty"]) + qty
        position = self._move(order, qty)
        self.fills += 1
        return self._event(
            "fill" if is_last else "partial_fill",
            order,
            status="filled" if is_last else "partially_filled",
            filled_qty=_text(filled),
            data={
                "qty": _text(qty),
                "price": "100.5",
                "position_qty": position,
                "execution_id": execution or self._uuid(),
            },
        )

    def _move(self, order: Document, qty: Decimal) -> str:
        symbol = order["symbol"].replace("/", "")
        self.positions[symbol] += qty if order["side"] == "buy" else -qty
        return _text(self.positions[symbol])

    def _event(
        self,
        kind: str,
        order: Document,
        legs: list[Document] | None = None,
        *,
        qty: str | None = None,
        price: str | None = None,
        data: Document | None = None,
        **changes: Any,
    ) -> bytes:
        at = self._tick()
        order |= {"updated_at": at, **changes}
        more = {"qty": qty, "price": price} if qty else {}
        return self._frame(kind, order, legs or [], at, **more, **(data or {}))

    def _frame(
        self, kind: str, order: Document, nested: list[Document], at: str, **data: Any
    ) -> bytes:
        self._count += 1
        for each in (order, *nested):
            self.orders[each["id"]] = {**each, "legs": None}
            self.timelines[each["id"]].append((kind, each["status"]))
        document = {
            "stream": "trade_updates",
            "data": {
                "at": at,
                "event_id": f"01{self._count:024d}",
                "event": kind,
                "timestamp": at,
                "order": {**order, "legs": nested or None},
                **data,
            },
        }
        return json.dumps(document, separators=(",", ":")).encode()


def _text(number: Decimal) -> str:
    return f"{number.normalize():f}" if number else "0"
