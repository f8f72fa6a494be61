"""Filters: which events a client gets, by symbol, kind of event and client_order_id.

A filter drops an event only if the event has the field and the field does not match. Alpaca may
add or omit fields at any time, and a filter must not hide an order because of that.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from tradeproxy.book.fields import normalize_symbol
from tradeproxy.journal.base import Batch, Row
from tradeproxy.query.parameters import QueryError
from tradeproxy.wire.event import EVENT_KINDS

NAMES = ("symbols", "events", "client_order_id_prefix")
"""The query parameters of a filter."""

MAX_LIST_ITEMS = 100
"""The most symbols, or kinds of event, in one filter."""

MAX_LOOKUPS = 10
"""Unknown kinds of events for which a similar one is looked up: each takes 0.2 ms."""

_SYMBOL = re.compile(r"[A-Za-z0-9./:_-]{1,32}")
_EVENT = re.compile(r"[A-Za-z0-9_]{1,64}")
_PREFIX = re.compile(r"[ -~]{1,128}")


@dataclass(frozen=True, slots=True)
class EventTraits:
    """The fields of an event that filters compare. A field that the event lacks is empty."""

    symbols: frozenset[str]
    """The symbols of the order and of all legs, normalized: upper case, without the slash."""
    event: str
    """The kind of the event, in lower case."""
    client_order_ids: tuple[str, ...]
    """Of the order and of its legs."""


@dataclass(frozen=True, slots=True)
class Filter:
    """The events that a client wants: each criterion must match. An empty criterion always does.

    An event matches a criterion if it lacks the field. An event that cannot be read matches all.
    """

    symbols: frozenset[str] = frozenset()
    events: frozenset[str] = frozenset()
    client_order_id_prefix: str = ""

    def matches(self, traits: EventTraits | None) -> bool:
        """Return whether the client wants an event. None is an event that cannot be read."""
        if traits is None:
            return True
        if self.symbols and traits.symbols and self.symbols.isdisjoint(traits.symbols):
            return False
        if self.events and traits.event and traits.event not in self.events:
            return False
        ids, prefix = traits.client_order_ids, self.client_order_id_prefix
        return not ids or any(client_order_id.startswith(prefix) for client_order_id in ids)

    def select(self, batch: Batch) -> Iterator[Row]:
        """Yield the rows that match. A hole always matches: its events are unknown."""
        rows = zip(batch.rows, get_traits(batch), strict=True)
        return (row for row, traits in rows if self.matches(traits))


def read_filter(given: Mapping[str, str]) -> Filter | None:
    """Return the filter of these query parameters; None if none of them is a filter's.

    Raises QueryError.
    """
    if not any(name in given for name in NAMES):
        return None
    symbols = _read_list("symbols", given, _SYMBOL, "AAPL,BTC/USD")
    kinds = _read_list("events", given, _EVENT, "fill,partial_fill")
    events = frozenset(map(str.lower, kinds))
    for event in sorted(events.difference(EVENT_KINDS))[:MAX_LOOKUPS]:
        # Unknown kinds are accepted: Alpaca may add some. A misspelt one would never match, and
        # the client would wait forever.
        for nearest in get_close_matches(event, EVENT_KINDS, cutoff=0.8):
            raise QueryError(f"events: there is no {event}; the nearest is {nearest}")
    prefix = given.get("client_order_id_prefix", "")
    if prefix and _PREFIX.fullmatch(prefix) is None:
        raise QueryError(
            "client_order_id_prefix: is not 1 to 128 printable ASCII characters (%2B is a +)"
        )
    return Filter(frozenset(map(normalize_symbol, symbols)), events, prefix)


def read_traits(payload: bytes) -> EventTraits | None:
    """Return the traits of an event's frame; None if the frame cannot be read."""
    try:
        # json raises ValueError for an int of more than 4300 digits (Python's limit for int()).
        # As text it cannot fail, and filters compare no numbers.
        document = json.loads(payload.decode(), parse_int=str, parse_float=str)
    except (ValueError, RecursionError):
        return None
    match document:
        case {"data": dict(data)}:
            order = data.get("order")
            order = order if isinstance(order, dict) else {}
            orders = [order, *_keep_objects(order.get("legs"))]
            symbols = _find_texts("symbol", [*orders, *_keep_objects(data.get("legs"))])
            event = next(_find_texts("event", [data]), "").lower()
            ids = tuple(_find_texts("client_order_id", orders))
            return EventTraits(frozenset(map(normalize_symbol, symbols)), event, ids)
    return None


def get_traits(batch: Batch) -> Sequence[EventTraits | None]:
    """Return the traits of each row. They are parsed at the first call, once for all filters."""
    # The batch's cache is shared with the encoders. This function is the key of the traits.
    cache: dict[object, Any] = batch.encoded
    traits: list[EventTraits | None] | None = cache.get(get_traits)
    if traits is None:
        traits = cache[get_traits] = [read_traits(row.payload or b"") for row in batch.rows]
    return traits


def _read_list(
    name: str, given: Mapping[str, str], item: re.Pattern[str], example: str
) -> frozenset[str]:
    items = frozenset(given[name].split(",")) if name in given else frozenset[str]()
    if not all(map(item.fullmatch, items)):
        raise QueryError(f"{name}: is not a list with commas and no blanks, such as {example}")
    if len(items) > MAX_LIST_ITEMS:
        raise QueryError(f"{name}: has more than {MAX_LIST_ITEMS} items")
    return items


def _keep_objects(values: Any) -> list[dict[str, Any]]:
    listed = values if isinstance(values, list) else []
    return [value for value in listed if isinstance(value, dict)]


def _find_texts(name: str, objects: list[dict[str, Any]]) -> Iterator[str]:
    """Yield the value of a field in each object that has it as a non-empty text."""
    return (value for each in objects if isinstance(value := each.get(name), str) and value)
