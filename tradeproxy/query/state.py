"""The queries of the pages about an account's state, as values."""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import get_close_matches

from tradeproxy.book.views import EventQuery, OrderKey, OrderQuery, OrderScope
from tradeproxy.query.filters import NAMES as FILTERS
from tradeproxy.query.filters import Filter, read_filter
from tradeproxy.query.parameters import (
    Query,
    QueryError,
    check_id,
    parse_time,
    read_limit,
    read_parameters,
)

DEFAULT_LIMIT = 50
MAX_LIMIT = 500
"""Objects on one page."""

NO_FILTER = Filter()

_ORDER_KEY = re.compile(r"(?P<submitted>[0-9]{1,17})\.(?P<id>[!-~]{1,128})")
_EVENT_KEY = re.compile(r"(?P<epoch>[0-9a-f]{16})\.(?P<before>[0-9]{1,18})")


@dataclass(frozen=True, slots=True)
class OrdersRequest:
    """A page of orders."""

    query: OrderQuery
    limit: int
    after: OrderKey | None = None
    """Where the page before ended."""


@dataclass(frozen=True, slots=True)
class EventsRequest:
    """A page of events."""

    query: EventQuery
    limit: int
    before: int | None = None
    """The number of the row where the page before ended."""


def parse_orders_request(query: bytes) -> OrdersRequest:
    """Parse the query of `/orders`. Raises QueryError."""
    given = read_parameters(
        query, ("status", "symbols", "client_order_id_prefix", "after", "until", "limit", "cursor")
    )
    wanted = read_filter(given) or NO_FILTER
    return OrdersRequest(
        OrderQuery(
            _parse_status(given),
            wanted.symbols,
            wanted.client_order_id_prefix,
            _parse_optional_time(given, "after"),
            _parse_optional_time(given, "until"),
        ),
        read_limit(given, DEFAULT_LIMIT, MAX_LIMIT),
        _parse_order_key(given.get("cursor")),
    )


def parse_events_request(query: bytes, epoch: str) -> EventsRequest:
    """Parse the query of `/events` about the log of this epoch. Raises QueryError."""
    given = read_parameters(query, (*FILTERS, "order_id", "since", "until", "limit", "cursor"))
    wanted = read_filter(given) or NO_FILTER
    order_id = given.get("order_id")
    since, is_exact = parse_time("since", given["since"]) if "since" in given else (None, True)
    return EventsRequest(
        EventQuery(
            wanted.symbols,
            wanted.events,
            wanted.client_order_id_prefix,
            None if order_id is None else check_id("order_id", order_id),
            since if since is None or is_exact else since + 1,
            _parse_optional_time(given, "until"),
        ),
        read_limit(given, DEFAULT_LIMIT, MAX_LIMIT),
        _parse_event_key(given.get("cursor"), epoch),
    )


def parse_timeline_after(query: bytes) -> int:
    """Parse the query of `/orders/{id}`: the row after which the timeline begins.

    Raises QueryError.
    """
    text = read_parameters(query, ("timeline_after",)).get("timeline_after", "0")
    if re.fullmatch("[0-9]{1,18}", text) is None:
        raise QueryError("timeline_after: is not the seq of an entry")
    return int(text)


def format_order_key(key: OrderKey) -> str:
    """Return the `cursor` of the next page of orders."""
    return f"{key.submitted}.{key.id}"


def format_event_key(epoch: str, before: int) -> str:
    """Return the `cursor` of the next page of events."""
    return f"{epoch}.{before}"


def _parse_status(given: Query) -> OrderScope:
    text = given.get("status", OrderScope.OPEN.value)
    names = [status.value for status in OrderScope]
    if text in names:
        return OrderScope(text)
    nearest = get_close_matches(text[:32].lower(), names)  # the nearest is first
    hint = f"; the nearest is {nearest[0]}" if nearest else ""
    raise QueryError(f"status: is none of {', '.join(names)}{hint}")


def _parse_optional_time(given: Query, name: str) -> int | None:
    return parse_time(name, given[name])[0] if name in given else None


def _parse_order_key(text: str | None) -> OrderKey | None:
    if text is None:
        return None
    match = _ORDER_KEY.fullmatch(text)
    if match is None:
        raise QueryError("cursor: is not the cursor of a page of orders")
    return OrderKey(int(match["submitted"]), match["id"])


def _parse_event_key(text: str | None, epoch: str) -> int | None:
    if text is None:
        return None
    match = _EVENT_KEY.fullmatch(text)
    if match is None:
        raise QueryError("cursor: is not the cursor of a page of events")
    if match["epoch"] != epoch:
        raise QueryError("cursor: is of an earlier journal, now replaced")
    return int(match["before"])
