"""A snapshot of the account's orders and fills, requested from Alpaca page by page."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from tradeproxy.recovery.delivered import find_unreadable, read_time
from tradeproxy.recovery.reconcile import Document, FillActivity, expand, is_id, leg_ids, read_fill
from tradeproxy.recovery.unreadable import UnreadableOrders
from tradeproxy.upstream.rest import (
    SHAPE,
    RestClient,
    RestList,
    RestOversizedError,
    RestRefusedError,
    RestUnavailableError,
)
from tradeproxy.wire.event import MAX_WORD_LENGTH, format_time

ORDERS_A_PAGE = 500
FILLS_A_PAGE = 100

MIN_A_PAGE = 6
"""The smallest page that is asked for after one that is too large: some entry is, in that one."""

MAX_ORDERS_A_PAGE = 10_000
"""Orders and legs of one answer. They are read in one turn; Alpaca sends 500, and their legs."""

MAX_LIST_SIZE = 40 * 1024 * 1024
"""Bytes in memory of what is kept of all pages of a list, or of all answers for a snapshot."""

OVERHEAD = 500
"""Bytes in memory of an order's id, which is kept twice, or of the id of a leg, beside its JSON."""

FILL_SIZE = 1000
"""Bytes in memory of a fill and of the event that may be made of it, beside its order."""

_TICK = 1
"""Microsecond, subtracted from `after`: Alpaca starts a page after that time, not at it.

A parsed time also has no digits below a microsecond.
"""


class Budget:
    """The memory for what is kept of Alpaca's answers: a list of a hostile server has no end."""

    def __init__(self) -> None:
        self._left = MAX_LIST_SIZE

    def spend(self, size: int) -> None:
        """Take some bytes. Raises RestOversizedError if there are not enough."""
        self._left -= size
        if self._left < 0:
            raise RestOversizedError(f"a list of more than {MAX_LIST_SIZE // 1024**2} MiB")


@dataclass(slots=True)
class Snapshot:
    """Orders by id, and the fills of the requested time, oldest first."""

    orders: dict[str, bytes] = field(default_factory=dict)
    """The JSON of each order: the documents would take four times as much."""
    legs: set[str] = field(default_factory=set)
    """The ids of the legs of multi-leg orders, which are not in `orders`."""
    fills: list[FillActivity] = field(default_factory=list)
    left_out: set[str] = field(default_factory=set)
    """The ids of the orders that are too large; "" if a list has an unreadable entry."""
    budget: Budget = field(default_factory=Budget)

    def add(self, order: Document) -> None:
        """Add an order or replace it. Raises RestOversizedError."""
        document, known = encode(order), self.orders.get(order["id"])
        legs = leg_ids(order) - self.legs
        new = len(legs) if known is not None else 1 + len(legs)
        self.budget.spend(len(document) - len(known or b"") + OVERHEAD * new)
        self.orders[order["id"]] = document
        self.legs |= legs

    async def add_list(self, rest: RestClient, status: str, after: int | None = None) -> None:
        """Add the orders of a list: see `read_orders`."""
        async for order in read_orders(rest, status, after):
            if order is None:
                self.left_out.add("")
            else:
                self.add(order)

    def forget_orders(self) -> None:
        """Forget the orders, to add others that only the fills show."""
        self.orders.clear()
        self.legs.clear()
        self.budget = Budget()
        self.budget.spend(FILL_SIZE * len(self.fills))

    def read(self, order_id: str) -> Document:
        """Return an order."""
        order: Document = json.loads(self.orders[order_id])
        return order

    def group_fills(self) -> dict[str, list[FillActivity]]:
        """Return the fills by order."""
        fills: dict[str, list[FillActivity]] = {}
        for fill in self.fills:
            fills.setdefault(fill.order_id, []).append(fill)
        return fills

    def group_other_fills(self) -> dict[str, list[FillActivity]]:
        """Return the fills of orders that are not here, by order.

        Fills of legs are left out: events of the multi-leg order report them.
        """
        known = self.orders.keys() | self.legs
        return {key: fills for key, fills in self.group_fills().items() if key not in known}


def encode(document: Document) -> bytes:
    """Return the JSON of a document."""
    # A lone surrogate has no UTF-8: the book and its clients could not read the document.
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode(errors="replace")


async def take_snapshot(
    rest: RestClient,
    since: int,
    open_orders: Iterable[str],
    unknown: set[str],
    unreadable: UnreadableOrders | None = None,
) -> Snapshot:
    """Return the orders that may have changed since a time, and the fills since that time.

    These are the orders submitted since then, the open ones, and `open_orders`. Alpaca lists
    orders by submission time, so an older order that closed meanwhile is only found by its id. See
    `add_named` for the orders of the fills. Raises RestRefusedError or RestUnavailableError.

    Args:
        rest: the account's REST client.
        since: microseconds since 1970.
        open_orders: the ids of the orders that are open according to the log.
        unknown: ids for which Alpaca answered 404; they are not requested. New ones are added.
        unreadable: reports the orders of fills that have an amount which is no number. These fills
            are left out: the order shows how much is filled, but not its price.
    """
    snapshot = Snapshot()
    for status, after in (("all", since), ("open", None)):
        await snapshot.add_list(rest, status, after)
    await add_named(rest, snapshot, open_orders, unknown)
    # Fills come after the orders. A fill that is newer than its order's answer is outside the
    # order's quantity, and the stream brings it. With fills first, an order could show a quantity
    # whose fill is not in the snapshot.
    try:
        await _add_fills(rest, snapshot, since, unreadable)
    except RestRefusedError:
        snapshot.fills.clear()  # the orders still show how much is filled, but not each price
    return snapshot


async def read_named_order(rest: RestClient, order_id: str, unknown: set[str]) -> list[Document]:
    """Return an order and those nested in it.

    If Alpaca does not have it, its id is added to `unknown`. Raises RestRefusedError,
    RestUnavailableError, or RestOversizedError.
    """
    try:
        answer = await rest.get(f"/v2/orders/{quote(order_id, safe='')}", {"nested": "true"})
    except RestRefusedError as error:
        if error.status != 404:
            raise
        unknown.add(order_id)
        return []
    if not (orders := list(expand([answer.document]))):
        raise RestUnavailableError(SHAPE)
    return orders


async def read_orders(
    rest: RestClient, status: str, after: int | None = None
) -> AsyncIterator[Document | None]:
    """Yield the orders of a list, and those nested in them; None for an entry that is no order.

    An order may come twice. Raises RestRefusedError, RestUnavailableError, or RestOversizedError.

    Args:
        rest: the account's REST client.
        status: "open" or "all".
        after: only orders that were submitted at or after this time (microseconds since 1970).
    """
    found: set[str] = set()
    parameters = {
        "status": status,
        "direction": "asc",
        "limit": str(ORDERS_A_PAGE),
        "nested": "true",
    }
    while True:
        if after is not None:
            parameters["after"] = format_time(after - _TICK)
        count, known = 0, len(found)
        async for each in await get_page(rest, "/v2/orders", parameters, "limit"):
            if not is_named(each, "id"):
                yield None
                continue
            after = max(after or 0, read_time(each.get("submitted_at")))
            for order in expand([each]):
                count += 1
                if count > MAX_ORDERS_A_PAGE:
                    raise RestOversizedError("an answer of more than 10,000 orders")
                found.add(order["id"])
                yield order
        # A page is the last one if it has no new order. Its length does not show that: Alpaca may
        # count nested legs in the limit.
        if len(found) == known:
            if count >= int(parameters["limit"]):
                raise RestOversizedError("more orders at one time than fit on a page")
            return


async def add_named(
    rest: RestClient, snapshot: Snapshot, order_ids: Iterable[str], unknown: set[str]
) -> None:
    """Add the orders with these ids that are not there yet.

    Raises RestRefusedError or RestUnavailableError.
    """
    # One by one: an order may be nested in one that was requested before it.
    for order_id in order_ids:
        if order_id not in snapshot.orders and order_id not in unknown:
            try:
                orders = await read_named_order(rest, order_id, unknown)
            except RestOversizedError:
                snapshot.left_out.add(order_id)
            else:
                for order in orders:
                    snapshot.add(order)


async def _add_fills(
    rest: RestClient, snapshot: Snapshot, since: int, unreadable: UnreadableOrders | None
) -> None:
    parameters = {
        "activity_types": "FILL",
        "direction": "asc",
        "after": format_time(since - _TICK),
        "page_size": str(FILLS_A_PAGE),
    }
    while True:
        page = await get_page(rest, "/v2/account/activities", parameters, "page_size")
        last = None
        async for activity in page:
            snapshot.budget.spend(FILL_SIZE)
            last = activity.get("id") if isinstance(activity, dict) else None
            if (fill := read_fill(activity)) is not None:
                snapshot.budget.spend(len(fill.time) + len(fill.price or ""))
                snapshot.fills.append(fill)
            elif not isinstance(activity, dict):
                snapshot.left_out.add("")
            elif unreadable is not None and (name := find_unreadable(activity, "qty", "cum_qty")):
                order_id = str(activity.get("order_id"))[:MAX_WORD_LENGTH]
                unreadable.report(order_id, f"{name} of a fill")
        is_last = len(page) < int(parameters["page_size"])
        if is_last or not is_id(last) or last == parameters.get("page_token"):
            return
        parameters["page_token"] = last


async def get_page(rest: RestClient, path: str, parameters: dict[str, str], limit: str) -> RestList:
    """Return a page of a list. While it is too large, half as many entries are asked for.

    `limit` is the name of the parameter that has their number. Raises RestRefusedError,
    RestUnavailableError, or RestOversizedError.
    """
    while True:
        try:
            return await rest.get_list(path, parameters)
        except RestOversizedError:
            if (smaller := int(parameters[limit]) // 2) < MIN_A_PAGE:
                raise
            parameters[limit] = str(smaller)


def is_named(document: Any, key: str) -> bool:
    """Whether this is an object with an id under `key`."""
    return isinstance(document, dict) and is_id(document.get(key))
