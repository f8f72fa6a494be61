"""The open orders: those of the log, and those of Alpaca's list that the log has no event of.

Two kinds of changes would stay unnoticed without them. An order that was open before the log began
has no event in the log; if Alpaca refuses the history, only its id shows that it has closed. And
Alpaca does not report the cancellation of some held legs (alpaca-py, issue 198): such an order is
open in the log for ever.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable

from msgspec.structs import astuple

from tradeproxy.hub.account import Account
from tradeproxy.recovery.delivered import ZERO, Delivered, find_unreadable, parse_decimal
from tradeproxy.recovery.reconcile import Document, find_missed_events, is_id, read_order_state
from tradeproxy.recovery.snapshot import read_named_order, read_orders
from tradeproxy.recovery.unreadable import UnreadableOrders
from tradeproxy.upstream.rest import RestClient, RestOversizedError
from tradeproxy.wire.event import CLOSED_STATUSES, MAX_WORD_LENGTH, OrderState, is_time

MAX_REMEMBERED = 1000
"""Orders without an event in the log that are remembered: about 100 bytes of metadata each."""

MAX_LISTED = 20_000
"""Open orders and legs of Alpaca's list. To compare so many takes a tenth of a second in a turn."""

COMPARE_EVERY = 10.0
"""Seconds between two comparisons, at least: each is one request more for a check."""

MAX_REQUESTS = 10
"""Single orders that one comparison requests. The others are left to the next one."""

_KEY = "open orders"
"""The key in the journal's metadata. The value is a JSON list of order states."""


class OpenOrders:
    """The orders that are open by the log or by Alpaca's last list, and who closed unnoticed."""

    def __init__(self, account: Account, rest: RestClient) -> None:
        self.unreadable = UnreadableOrders(account.name, rest)
        """Reports orders of which nothing can be computed."""
        self._account = account
        self._rest = rest
        self.unknown: set[str] = set()
        """Ids of orders that Alpaca does not have. They are not requested again."""
        # The orders that the last comparison missed in Alpaca's list.
        self._missing: set[str] = set()
        self.unusable: set[str] = set()
        """Ids of orders of which no event can be made, and that have closed or are too large.

        A gap has declared them. `find_closed` does not request them again.
        """

    def read_states(self) -> dict[str, OrderState]:
        """Return the newest known state of every open order, by id."""
        states = {state.id: state for state in self._account.log.open_orders()}
        return self._read_remembered() | states

    def remember(self, orders: Iterable[Document], since: int) -> None:
        """Remember the open orders of Alpaca's answer that the log has no event of.

        An order that changed after `since` (microseconds since 1970) is left out: its events are
        still to be delivered, so its present state must not count as known.
        """
        known, found = self.read_states(), list[OrderState]()
        # Most are in the log, or too many to be remembered: a query for each would take long.
        for order in reversed(list(orders)):
            if order["id"] in known or self.is_unreadable(order):
                continue
            state = read_order_state(order)
            is_old = state.is_open and state.time <= since
            if is_old and self._account.log.order(state.id) is None:
                found.append(state)
            if len(found) == MAX_REMEMBERED:
                break
        remembered = [*self._read_remembered().values(), *reversed(found)]
        states = [astuple(state) for state in remembered][-MAX_REMEMBERED:]
        text = json.dumps(states, separators=(",", ":")) if states else None
        self._account.set_metadata(_KEY, text)

    async def find_closed(self, since: int, take: Callable[[Document], bool]) -> OrderState | None:
        """Compare with Alpaca's open orders, and remember those.

        Passes to `take` the `data` of synthetic events for the orders that are missing there in two
        comparisons in a row, if they closed before `since`, the time up to which the log is
        complete (microseconds since 1970). In between, an event of the stream or of the history may
        arrive. More than MAX_LISTED orders are not compared.

        `take` returns whether the event is usable. Returns the known state of an order whose event
        is not, or whose answer is too large: the oldest one. Raises RestRefusedError or
        RestUnavailableError.
        """
        listed: dict[str, Document] = {}
        async for each in read_orders(self._rest, "open"):
            if each is not None:
                listed[each["id"]] = _keep_state(each)
            if len(listed) > MAX_LISTED:
                return None
        self.remember(listed.values(), since)
        # A closed leg is listed with its open parent.
        still_open = {
            key for key, order in listed.items() if str(order.get("status")) not in CLOSED_STATUSES
        }
        missing = self.read_states().keys() - still_open - self.unknown - self.unusable
        requested = sorted(missing & self._missing)[:MAX_REQUESTS]
        # An order that turns out to be open is requested again only after two more comparisons.
        self._missing = missing - set(requested)
        unusable: list[OrderState] = []
        for order_id in requested:
            try:
                orders = await read_named_order(self._rest, order_id, self.unknown)
            except RestOversizedError:
                orders = []
                unusable += filter(None, [self.read_states().get(order_id)])
            # Read once: an answer may have thousands of legs. An event may have arrived meanwhile.
            states = self.read_states() if orders else {}
            for order in orders:
                known = states.get(order["id"])
                if known is None or not known.is_open or (now := read_order_state(order)).is_open:
                    continue
                if self.is_unreadable(order, known):
                    self.unknown.add(now.id)
                elif now.time > since:
                    self._missing.add(now.id)
                elif not all(map(take, _find_missed(order, known, since))):
                    unusable.append(known)
        self.unusable.update(state.id for state in unusable)
        return min(unusable, key=lambda state: state.time, default=None)

    def is_unreadable(self, order: Document, known: OrderState | None = None) -> bool:
        """Whether nothing can be computed of an order or of its known state; report that."""
        name = find_unreadable(order, "filled_qty")
        if name is None and known is not None:
            name = find_unreadable({"filled_qty": known.filled_qty}, "filled_qty")
        if name is not None:
            self.unreadable.report(order["id"], name)
        return name is not None

    def _read_remembered(self) -> dict[str, OrderState]:
        """Return the remembered orders that the log still has no event of."""
        states = _parse_states(self._account.log.get_metadata(_KEY))
        return {
            state.id: state
            for state in states
            if state.id not in self.unknown and self._account.log.order(state.id) is None
        }


def _keep_state(order: Document) -> Document:
    names = ("id", "status", "filled_qty", "updated_at")
    return {name: str(order.get(name) or "")[:MAX_WORD_LENGTH] for name in names}


def _find_missed(order: Document, known: OrderState, since: int) -> list[Document]:
    delivered = Delivered(known, parse_decimal(known.filled_qty) or ZERO)
    return find_missed_events(order, delivered, (), since, None)


def _parse_states(text: str | None) -> list[OrderState]:
    """Return the stored states; none if the text is damaged."""
    try:
        documents = json.loads(text or "[]")
    except (ValueError, RecursionError):
        return []
    states = []
    for document in documents if isinstance(documents, list) else ():
        match document:
            case [str(order_id), str(status), str(filled), time] if (
                is_time(time) and is_id(order_id) and f"{status}{filled}".isascii()
            ):
                states.append(OrderState(order_id, status, filled, time))
    return states
