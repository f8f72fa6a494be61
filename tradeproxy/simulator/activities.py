"""The account's activities as GET /v2/account/activities lists them: its fills; pure."""

from __future__ import annotations

import json
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any

from tradeproxy.simulator.clock import nanoseconds
from tradeproxy.simulator.errors import unprocessable
from tradeproxy.simulator.orders import choice, number_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tradeproxy.simulator.history import EventHistory, FillRecord
    from tradeproxy.simulator.orders import Document

LARGEST_PAGE = 100

FILL = "FILL"
"""The one type of activity that exists here."""


@dataclass(frozen=True, slots=True)
class ActivityQuery:
    """The part of the activities that a client asks for; times in nanoseconds since 1970, both exclusive."""

    fills: bool
    newest_first: bool
    size: int
    after: int | None = None
    until: int | None = None
    token: str = ""


def parse_activity_query(given: Mapping[str, str]) -> ActivityQuery:
    """Read a request's parameters; the Refusal of bad ones names one of them."""
    fields = {"direction": "desc", "page_size": str(LARGEST_PAGE), "activity_types": FILL, **given}
    return ActivityQuery(
        fills=FILL in fields["activity_types"].split(","),
        newest_first=choice(fields, "direction", ("asc", "desc")) == "desc",
        size=whole_number(fields, "page_size", LARGEST_PAGE),
        after=moment(fields, "after"),
        until=moment(fields, "until"),
        token=fields.get("page_token", ""),
    )


def list_activities(history: EventHistory, page: ActivityQuery) -> list[Document]:
    """List a page of the fills that the history holds, by their time.

    `page.token` is the id of the last one of the page before; one that is not known is refused.
    """
    fills = {
        record.fill.id: (record.fill, record) for record in history if page.fills and record.fill
    }
    found = sorted(fills.values(), key=lambda pair: pair[0].time)
    if page.newest_first:
        found.reverse()
    if page.token:
        if page.token not in fills:
            raise unprocessable("page_token is not known")
        found = found[found.index(fills[page.token]) + 1 :]
    found = [pair for pair in found if _within(page, pair[0])]
    return [_document(fill, json.loads(record.data)) for fill, record in found[: page.size]]


def moment(fields: Mapping[str, str], name: str) -> int | None:
    """Return a field that is a time, in nanoseconds since 1970; None without it. A bad one is refused."""
    time = nanoseconds(fields.get(name))
    if time is None and name in fields:
        raise unprocessable(f"{name} must be an RFC 3339 time")
    return time


def whole_number(fields: Mapping[str, str], name: str, most: int) -> int:
    """Return a field that is a number from 1 to `most`, or raise a Refusal."""
    text = fields[name]
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= most):
        raise unprocessable(f"{name} must be from 1 to {most}")
    return int(text)


def _within(page: ActivityQuery, fill: FillRecord) -> bool:
    return (page.after is None or fill.time > page.after) and (
        page.until is None or fill.time < page.until
    )


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
        "leaves_qty": _left(order) if data["event"] == "partial_fill" else "0",
        "cum_qty": order.get("filled_qty"),
        "order_id": order.get("id"),
        "order_status": order.get("status"),
    }


def _left(order: Document) -> Any:
    try:
        return number_text(Decimal(str(order.get("qty"))) - Decimal(str(order.get("filled_qty"))))
    except InvalidOperation:  # an order of a notional has no quantity
        return None
