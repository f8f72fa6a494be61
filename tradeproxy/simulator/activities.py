"""The account's fills as GET /v2/account/activities lists them. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tradeproxy.simulator.clock import is_between, nanoseconds
from tradeproxy.simulator.errors import unprocessable
from tradeproxy.simulator.history import EventRecord, FillRecord
from tradeproxy.simulator.orders import Document, choice, number_text
from tradeproxy.wire.amount import parse_amount

LARGEST_PAGE = 100

FILL = "FILL"
"""The only activity type that the simulator has."""


@dataclass(frozen=True, slots=True)
class ActivityQuery:
    """A page of activities that a client requests.

    `after` and `until` are in nanoseconds since 1970, and exclusive.
    """

    fills: bool
    newest_first: bool
    size: int
    after: int | None = None
    until: int | None = None
    token: str = ""


def parse_activity_query(parameters: Mapping[str, str]) -> ActivityQuery:
    """Parse a request's parameters. Raises ApiError with the name of an invalid one."""
    defaults = {"direction": "desc", "page_size": str(LARGEST_PAGE), "activity_types": FILL}
    fields = {**defaults, **parameters}
    return ActivityQuery(
        fills=FILL in fields["activity_types"].split(","),
        newest_first=choice(fields, "direction", ("asc", "desc")) == "desc",
        size=whole_number(fields, "page_size", LARGEST_PAGE),
        after=moment(fields, "after"),
        until=moment(fields, "until"),
        token=fields.get("page_token", ""),
    )


def list_activities(records: Iterable[EventRecord], page: ActivityQuery) -> list[Document]:
    """List a page of the fills in these events, sorted by time.

    `page.token` is the id of the last fill on the previous page. Raises ApiError if it is unknown.
    """
    fills = {each.fill.id: (each.fill, each) for each in records if page.fills and each.fill}
    found = sorted(fills.values(), key=lambda pair: pair[0].time)
    if page.newest_first:
        found.reverse()
    if page.token:
        if page.token not in fills:
            raise unprocessable("page_token is not known")
        found = found[found.index(fills[page.token]) + 1 :]
    found = [pair for pair in found if is_between(pair[0].time, page.after, page.until)]
    return [_document(fill, json.loads(record.data)) for fill, record in found[: page.size]]


def moment(fields: Mapping[str, str], name: str) -> int | None:
    """Return a time field in nanoseconds since 1970; None if absent. Raises ApiError if invalid."""
    time = nanoseconds(fields.get(name))
    if time is None and name in fields:
        raise unprocessable(f"{name} must be an RFC 3339 time")
    return time


def whole_number(fields: Mapping[str, str], name: str, most: int) -> int:
    """Return an integer field from 1 to `most`. Raises ApiError if it is invalid."""
    text = fields[name]
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= most):
        raise unprocessable(f"{name} must be from 1 to {most}")
    return int(text)


def _document(fill: FillRecord, data: Document) -> Document:
    order = data["order"]
    return {
        "id": fill.id,
        "activity_type": FILL,
        "transaction_time": data.get("timestamp") or data.get("at"),
        "type": data["event"],
        "price": data.get("price"),
        "qty": data.get("qty"),
        "side": order.get("side"),
        "symbol": order.get("symbol"),
        "leaves_qty": _leaves_qty(order) if data["event"] == "partial_fill" else "0",
        "cum_qty": order.get("filled_qty"),
        "order_id": order.get("id"),
        "order_status": order.get("status"),
    }


def _leaves_qty(order: Document) -> Any:
    qty, filled = (parse_amount(str(order.get(name))) for name in ("qty", "filled_qty"))
    if qty is None or filled is None:  # a notional order has no quantity
        return None
    return number_text(qty - filled)
