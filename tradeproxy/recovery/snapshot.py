"""A snapshot of the account's orders and fills, requested from Alpaca page by page."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, TypeVar
from urllib.parse import quote

from tradeproxy.recovery.delivered import find_unreadable, read_time
from tradeproxy.recovery.reconcile import Document, FillActivity, expand, is_id, leg_ids, read_fill
from tradeproxy.recovery.unreadable import UnreadableOrders
from tradeproxy.upstream.rest import (
    RestClient,
    RestRefusedError,
    RestResponse,
    RestUnavailableError,
)
from tradeproxy.wire.event import MAX_WORD_LENGTH, format_time

ORDERS_A_PAGE = 500
FILLS_A_PAGE = 100

MAX_ORDERS_A_PAGE = 10_000
"""Orders and legs of one answer. They are read in one turn; Alpaca sends 500, and their legs."""

MAX_LIST_SIZE = 64 * 1024 * 1024
"""Bytes of all pages of a list in memory, estimated by RestClient. An order has about 5,000."""

_T = TypeVar("_T")

SHAPE = "an answer of another shape"

_TICK = 1
"""Microsecond, subtracted from `after`: Alpaca starts a page after that time, not at it.

A parsed time also has no digits below a microsecond.
"""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Orders by id, and the fills of the requested time, oldest first."""

    orders: dict[str, Document] = field(default_factory=dict)
    fills: list[FillActivity] = field(default_factory=list)

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
        known = self.orders.keys() | leg_ids(self.orders.values())
        return {key: fills for key, fills in self.group_fills().items() if key not in known}


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
    orders = await _read_orders(rest, "all", since, _keep_all)
    orders |= await read_open_orders(rest, _keep_all)
    snapshot = Snapshot(orders)
    await add_named(rest, snapshot, open_orders, unknown)
    # Fills come after the orders. A fill that is newer than its order's answer is outside the
    # order's quantity, and the stream brings it. With fills first, an order could show a quantity
    # whose fill is not in the snapshot.
    try:
        await _add_fills(rest, snapshot, since, unreadable)
    except RestRefusedError:
        snapshot.fills.clear()  # the orders still show how much is filled, but not each price
    return snapshot


async def read_open_orders(
    rest: RestClient, keep: Callable[[Document], _T], unreadable: list[Any] | None = None
) -> dict[str, _T]:
    """Return what `keep` makes of each open order, by id: a document takes 5 KB.

    What is no order is added to `unreadable`; without it, one is RestUnavailableError. Raises
    RestRefusedError or RestUnavailableError.
    """
    return await _read_orders(rest, "open", None, keep, unreadable)


async def read_positions(rest: RestClient, unreadable: list[Any]) -> list[Document]:
    """Return the open positions. Raises RestRefusedError or RestUnavailableError.

    What is no position is added to `unreadable`.
    """
    return _select((await rest.get("/v2/positions")).document, "symbol", unreadable)


async def read_named_orders(
    rest: RestClient, order_ids: Iterable[str], unknown: set[str]
) -> list[Document]:
    """Return the orders with these ids, and the orders nested in them.

    The ids of those that Alpaca does not have are added to `unknown`. Raises RestRefusedError or
    RestUnavailableError.
    """
    found: list[Document] = []
    size = 0
    for order_id in order_ids:
        orders, size = await _read_named_order(rest, order_id, unknown, size)
        found += orders
    return found


async def _read_named_order(
    rest: RestClient, order_id: str, unknown: set[str], size: int
) -> tuple[list[Document], int]:
    """Return an order and those nested in it, and the size of a list with them added.

    Raises RestRefusedError or RestUnavailableError.
    """
    try:
        answer = await rest.get(f"/v2/orders/{quote(order_id, safe='')}", {"nested": "true"})
    except RestRefusedError as error:
        if error.status != 404:
            raise
        unknown.add(order_id)
        return [], size
    size = _add_size(size, answer)
    if not (orders := _expand([answer.document])):
        raise RestUnavailableError(SHAPE)
    return orders, size


def _expand(answer: list[Any]) -> list[Document]:
    orders = list(islice(expand(answer), MAX_ORDERS_A_PAGE + 1))
    if len(orders) > MAX_ORDERS_A_PAGE:
        raise RestUnavailableError("an answer of more than 10,000 orders")
    return orders


def _keep_all(order: Document) -> Document:
    return order


async def _read_orders(
    rest: RestClient,
    status: str,
    after: int | None,
    keep: Callable[[Document], _T],
    unreadable: list[Any] | None = None,
) -> dict[str, _T]:
    found: dict[str, _T] = {}
    size = 0
    parameters = {
        "status": status,
        "direction": "asc",
        "limit": str(ORDERS_A_PAGE),
        "nested": "true",
    }
    while True:
        if after is not None:
            parameters["after"] = format_time(after - _TICK)
        answer = await rest.get("/v2/orders", parameters)
        size = _add_size(size, answer)
        if unreadable is None:
            page = read_objects(answer.document)
        else:
            page = _select(answer.document, "id", unreadable)
        orders = _expand(page)
        new = {order["id"] for order in orders} - found.keys()
        found.update((order["id"], keep(order)) for order in orders)
        # A page is the last one if it has no new order. Its length does not show that: Alpaca may
        # count nested legs in the limit.
        if not new:
            if len(orders) >= ORDERS_A_PAGE:
                raise RestUnavailableError("more orders at one time than fit on a page")
            return found
        after = max([after or 0, *(read_time(order.get("submitted_at")) for order in page)])


async def add_named(
    rest: RestClient, snapshot: Snapshot, order_ids: Iterable[str], unknown: set[str]
) -> None:
    """Add the orders with these ids that are not there yet.

    Raises RestRefusedError or RestUnavailableError.
    """
    size = 0
    # One by one: an order may be nested in one that was requested before it.
    for order_id in order_ids:
        if order_id not in snapshot.orders and order_id not in unknown:
            orders, size = await _read_named_order(rest, order_id, unknown, size)
            snapshot.orders.update((order["id"], order) for order in orders)


async def _add_fills(
    rest: RestClient, snapshot: Snapshot, since: int, unreadable: UnreadableOrders | None
) -> None:
    parameters = {
        "activity_types": "FILL",
        "direction": "asc",
        "after": format_time(since - _TICK),
        "page_size": str(FILLS_A_PAGE),
    }
    size = 0
    while True:
        answer = await rest.get("/v2/account/activities", parameters)
        size = _add_size(size, answer)
        page = read_objects(answer.document)
        for activity in page:
            if (fill := read_fill(activity)) is not None:
                snapshot.fills.append(fill)
            elif unreadable is not None and (name := find_unreadable(activity, "qty", "cum_qty")):
                order_id = str(activity.get("order_id"))[:MAX_WORD_LENGTH]
                unreadable.report(order_id, f"{name} of a fill")
        last = page[-1].get("id") if page else None
        if len(page) < FILLS_A_PAGE or not is_id(last) or last == parameters.get("page_token"):
            return
        parameters["page_token"] = last


def _add_size(size: int, page: RestResponse) -> int:
    """Return the size of a list with another page. Raises RestUnavailableError if it has no end."""
    size += page.size
    if size > MAX_LIST_SIZE:
        raise RestUnavailableError("a list of more than 64 MiB")
    return size


def _select(document: Any, key: str, unreadable: list[Any]) -> list[Document]:
    """Return the objects of a list that have an id under `key`; add the others to `unreadable`.

    Raises RestUnavailableError if it is no list.
    """
    if not isinstance(document, list):
        raise RestUnavailableError(SHAPE)
    found: list[Document] = []
    for each in document:
        is_named = isinstance(each, dict) and is_id(each.get(key))
        (found if is_named else unreadable).append(each)
    return found


def read_objects(document: Any) -> list[Document]:
    """Return a list of JSON objects.

    Raises RestUnavailableError for anything else: it must not count as an empty list.
    """
    if not isinstance(document, list) or not all(isinstance(each, dict) for each in document):
        raise RestUnavailableError(SHAPE)
    return document
