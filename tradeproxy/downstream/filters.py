"""Which events a client wants, in its own words: a filter that is held against what each event says."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from tradeproxy.wire.event import EVENT_KINDS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from tradeproxy.journal.base import Batch, Row

NAMES = ("symbols", "events", "client_order_id_prefix")
"""The parameters that make a filter."""

MAX_WORDS = 100
"""Symbols, or events, of one filter."""

_SYMBOL = re.compile(r"[A-Za-z0-9./:_-]{1,32}")
_EVENT = re.compile(r"[A-Za-z0-9_]{1,64}")
_PREFIX = re.compile(r"[!-~]{1,128}")


@dataclass(frozen=True, slots=True)
class EventTraits:
    """What an event says of itself, in as far as filters ask; empty where it says nothing."""

    symbols: frozenset[str]
    """Of its order and of all legs, each in its one spelling."""
    event: str
    client_order_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Filter:
    """What a client wants: all of these must match. An empty one is not asked about.

    An event is held back for what it says only: one that has no such field, or cannot be read, passes.
    """

    symbols: frozenset[str] = frozenset()
    events: frozenset[str] = frozenset()
    client_order_id_prefix: str = ""

    def matches(self, traits: EventTraits | None) -> bool:
        """Tell whether the client wants an event; None stands for one that cannot be read."""
        if traits is None:
            return True
        if self.symbols and traits.symbols and self.symbols.isdisjoint(traits.symbols):
            return False
        if self.events and traits.event and traits.event not in self.events:
            return False
        ids, prefix = traits.client_order_ids, self.client_order_id_prefix
        return not ids or any(client_order_id.startswith(prefix) for client_order_id in ids)

    def select(self, burst: Batch) -> Iterator[Row]:
        """Yield the rows that the client wants; a hole always, for nobody can tell what was there."""
        rows = zip(burst.rows, get_traits(burst), strict=True)
        return (row for row, traits in rows if self.matches(traits))


def read_filter(given: Mapping[str, str]) -> Filter | None:
    """Read the parameters that are given; None if none of them is.

    Raises ValueError with a line that names the one that cannot be understood.
    """
    if not any(name in given for name in NAMES):
        return None
    symbols = _words("symbols", given, _SYMBOL, "AAPL,BTC/USD")
    events = frozenset(
        event.lower() for event in _words("events", given, _EVENT, "fill,partial_fill")
    )
    for event in sorted(events.difference(EVENT_KINDS)):
        # Taken as it is, a misspelt event would leave the client waiting for ever.
        for nearest in get_close_matches(event, EVENT_KINDS, n=1, cutoff=0.8):
            raise ValueError(f"events: there is no {event}; the nearest is {nearest}")
    prefix = given.get("client_order_id_prefix", "")
    if prefix and _PREFIX.fullmatch(prefix) is None:
        raise ValueError(
            "client_order_id_prefix: is not 1 to 128 printable ASCII characters without blanks (%2B is a +)"
        )
    return Filter(frozenset(map(_spelling, symbols)), events, prefix)


def read_traits(payload: bytes) -> EventTraits | None:
    """Return what an event's frame says; None if it cannot be read."""
    try:
        # An int of thousands of digits is an error, unless it stays text.
        document = json.loads(payload.decode(), parse_int=str, parse_float=str)
    except (ValueError, RecursionError):
        return None
    match document:
        case {"data": {} as data}:
            order = data.get("order")
            orders = [
                *_objects([order]),
                *_objects(order.get("legs") if isinstance(order, dict) else None),
            ]
            symbols = _texts("symbol", [*orders, *_objects(data.get("legs"))])
            event = next(_texts("event", [data]), "").lower()
            ids = tuple(_texts("client_order_id", orders))
            return EventTraits(frozenset(map(_spelling, symbols)), event, ids)
    return None


def get_traits(burst: Batch) -> Sequence[EventTraits | None]:
    """Return what each row of a burst says: read when it is first asked for, and once for all filters."""
    made: dict[object, Any] = burst.encoded
    traits: list[EventTraits | None] | None = made.get(get_traits)
    if traits is None:
        traits = made[get_traits] = [read_traits(row.payload or b"") for row in burst.rows]
    return traits


def _words(
    name: str, given: Mapping[str, str], form: re.Pattern[str], example: str
) -> frozenset[str]:
    words = frozenset(given[name].split(",")) if name in given else frozenset[str]()
    if not all(map(form.fullmatch, words)):
        raise ValueError(f"{name}: is not a list with commas and no blanks, such as {example}")
    if len(words) > MAX_WORDS:
        raise ValueError(f"{name}: has more than {MAX_WORDS} of them")
    return words


def _spelling(symbol: str) -> str:
    # Alpaca has written pairs both ways, BTC/USD and BTCUSD.
    return symbol.upper().replace("/", "")


def _objects(values: Any) -> list[dict[str, Any]]:
    return (
        [value for value in values if isinstance(value, dict)] if isinstance(values, list) else []
    )


def _texts(name: str, objects: list[dict[str, Any]]) -> Iterator[str]:
    """Yield what is under a name, wherever that is a text that says something."""
    return (value for each in objects if isinstance(value := each.get(name), str) and value)
