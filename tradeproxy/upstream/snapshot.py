"""The account's orders and fills as they now are, asked of Alpaca page by page."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from tradeproxy.upstream.orders import Document, Fill, expand, read_fill, read_time
from tradeproxy.upstream.rest import RefusedError
from tradeproxy.wire.event import format_time

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tradeproxy.upstream.rest import RestClient

ORDERS_A_PAGE = 500
FILLS_A_PAGE = 100

_TICK = 1
"""Microsecond: further digits of a time are cut when it is read, and a page begins after its time."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Orders by id, and the fills of the time that was asked for, oldest first."""

    orders: dict[str, Document] = field(default_factory=dict)
    fills: list[Fill] = field(default_factory=list)

    def fills_of(self, order_id: str) -> list[Fill]:
        """Return one order's fills."""
        return [fill for fill in self.fills if fill.order_id == order_id]


async def take_snapshot(rest: RestClient, since: int, open_orders: Iterable[str]) -> Snapshot:
    """Ask for every order submitted since a time, every open one, and those that are named.

    Alpaca lists orders by the time of their submission: an older one that has ended meanwhile is found by
    its id only. Raises RefusedError or UnavailableError.
    """
    snapshot = Snapshot()
    await _add_orders(rest, snapshot, "all", since)
    await _add_orders(rest, snapshot, "open", None)
    for order_id in open_orders:
        if order_id not in snapshot.orders:
            await _add_order(rest, snapshot, order_id)
    # Last: a fill that is not in its order yet is left to the stream, an order's without its fill would not.
    try:
        await _add_fills(rest, snapshot, since)
    except RefusedError:
        snapshot.fills.clear()  # the orders tell how much, if not at which price
    return snapshot


async def _add_orders(rest: RestClient, snapshot: Snapshot, status: str, after: int | None) -> None:
    parameters = {"status": status, "direction": "asc", "limit": str(ORDERS_A_PAGE), "nested": "true"}
    met: set[str] = set()
    while True:
        if after is not None:
            parameters["after"] = format_time(after - _TICK)
        page = _list((await rest.get("/v2/orders", parameters)).document)
        orders = list(expand(page))
        snapshot.orders.update((order["id"], order) for order in orders)
        unmet = {order["id"] for order in orders} - met
        met |= unmet
        submitted = [read_time(order.get("submitted_at")) for order in page if isinstance(order, dict)]
        if len(page) < ORDERS_A_PAGE or not unmet or not submitted:
            return
        after = max(submitted)


async def _add_order(rest: RestClient, snapshot: Snapshot, order_id: str) -> None:
    try:
        answer = await rest.get(f"/v2/orders/{quote(order_id, safe='')}", {"nested": "true"})
    except RefusedError as error:
        if error.status != 404:
            raise
        return
    snapshot.orders.update((order["id"], order) for order in expand([answer.document]))


async def _add_fills(rest: RestClient, snapshot: Snapshot, since: int) -> None:
    parameters = {
        "activity_types": "FILL",
        "direction": "asc",
        "after": format_time(since - _TICK),
        "page_size": str(FILLS_A_PAGE),
    }
    while True:
        page = _list((await rest.get("/v2/account/activities", parameters)).document)
        snapshot.fills.extend(fill for fill in map(read_fill, page) if fill is not None)
        last = page[-1].get("id") if page and isinstance(page[-1], dict) else None
        if len(page) < FILLS_A_PAGE or not isinstance(last, str) or last == parameters.get("page_token"):
            return
        parameters["page_token"] = last


def _list(document: Any) -> list[Any]:
    return document if isinstance(document, list) else []
