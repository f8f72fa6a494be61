"""The account's orders and fills as they now are, asked of Alpaca page by page."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from tradeproxy.recovery.reconcile import (
    Document,
    FillActivity,
    expand,
    leg_ids,
    read_fill,
    read_time,
)
from tradeproxy.upstream.rest import RestRefusedError, RestUnavailableError
from tradeproxy.wire.event import format_time

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tradeproxy.upstream.rest import RestClient

ORDERS_A_PAGE = 500
FILLS_A_PAGE = 100

_SHAPE = "an answer of another shape"

_TICK = 1
"""Microsecond: further digits of a time are cut when it is read, and a page begins after its time."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Orders by id, and the fills of the time that was asked for, oldest first."""

    orders: dict[str, Document] = field(default_factory=dict)
    fills: list[FillActivity] = field(default_factory=list)

    def select_fills(self, order_id: str) -> list[FillActivity]:
        """Return one order's fills."""
        return [fill for fill in self.fills if fill.order_id == order_id]


async def take_snapshot(
    rest: RestClient, since: int, open_orders: Iterable[str], unknown: set[str]
) -> Snapshot:
    """Ask for every order submitted since a time, every open one, those that are named, and those of fills.

    Alpaca lists orders by the time of their submission: an older one that has ended meanwhile is found by
    its id only. `unknown` are ids that Alpaca does not know; those that it turns out not to know are added.
    Raises RefusedError or UnavailableError.
    """
    snapshot = Snapshot()
    await _add_orders(rest, snapshot, "all", since)
    await _add_orders(rest, snapshot, "open", None)
    await _add_named(rest, snapshot, open_orders, unknown)
    # Later: a fill that is not in its order yet is left to the stream, an order's without its fill would not.
    try:
        await _add_fills(rest, snapshot, since)
    except RestRefusedError:
        snapshot.fills.clear()  # the orders tell how much, if not at which price
    # The legs' fills are told of the whole.
    legs = leg_ids(snapshot.orders.values())
    filled = [fill.order_id for fill in snapshot.fills if fill.order_id not in legs]
    await _add_named(rest, snapshot, filled, unknown)
    return snapshot


async def _add_orders(rest: RestClient, snapshot: Snapshot, status: str, after: int | None) -> None:
    parameters = {
        "status": status,
        "direction": "asc",
        "limit": str(ORDERS_A_PAGE),
        "nested": "true",
    }
    met: set[str] = set()
    while True:
        if after is not None:
            parameters["after"] = format_time(after - _TICK)
        page = _objects((await rest.get("/v2/orders", parameters)).document)
        orders = list(expand(page))
        snapshot.orders.update((order["id"], order) for order in orders)
        unmet = {order["id"] for order in orders} - met
        if not unmet:  # not if it is short: the legs may count, too
            if len(orders) >= ORDERS_A_PAGE:
                raise RestUnavailableError("more orders of one moment than a page has")
            return
        met |= unmet
        after = max([after or 0, *(read_time(order.get("submitted_at")) for order in page)])


async def _add_named(
    rest: RestClient, snapshot: Snapshot, order_ids: Iterable[str], unknown: set[str]
) -> None:
    for order_id in order_ids:
        if order_id in snapshot.orders or order_id in unknown:
            continue
        try:
            answer = await rest.get(f"/v2/orders/{quote(order_id, safe='')}", {"nested": "true"})
        except RestRefusedError as error:
            if error.status != 404:
                raise
            unknown.add(order_id)
        else:
            if not (orders := list(expand([answer.document]))):
                raise RestUnavailableError(_SHAPE)
            snapshot.orders.update((order["id"], order) for order in orders)


async def _add_fills(rest: RestClient, snapshot: Snapshot, since: int) -> None:
    parameters = {
        "activity_types": "FILL",
        "direction": "asc",
        "after": format_time(since - _TICK),
        "page_size": str(FILLS_A_PAGE),
    }
    while True:
        page = _objects((await rest.get("/v2/account/activities", parameters)).document)
        snapshot.fills.extend(fill for fill in map(read_fill, page) if fill is not None)
        last = page[-1].get("id") if page else None
        if (
            len(page) < FILLS_A_PAGE
            or not isinstance(last, str)
            or last == parameters.get("page_token")
        ):
            return
        parameters["page_token"] = last


def _objects(document: Any) -> list[Document]:
    """Return a list of objects; another document does not say that there are none."""
    if not isinstance(document, list) or not all(isinstance(each, dict) for each in document):
        raise RestUnavailableError(_SHAPE)
    return document
