"""What a client asks for in the query of its URL, and in the header in which a browser repeats it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, TypeAlias
from urllib.parse import parse_qsl

from tradeproxy.downstream import filters
from tradeproxy.downstream.admission import Rejection
from tradeproxy.wire.event import parse_time
from tradeproxy.wire.position import AfterId, FromTime, LastEvents, Position

if TYPE_CHECKING:
    from collections.abc import Callable

    from tradeproxy.downstream.filters import Filter

MAX_ID_LENGTH = 128
"""Characters; a cursor has 109 at most."""

MAX_REPLAY = 1_000_000
"""That can be asked for again by their number."""

CLOCK_SKEW = 60
"""Seconds by which a client's clock may be ahead of ours."""

_LOST_PLUS = re.compile(r"(?P<time>.+:.+) (?P<offset>[0-9]{2}:?[0-9]{2})")


@dataclass(frozen=True, slots=True)
class SubscribeOptions:
    """What a WebSocket client wants besides the events that come."""

    position: Position | None = None
    """Where its stream begins; None: with what comes."""
    status: bool = False
    """Whether it is told of the proxy's own state."""
    filter: Filter | None = None
    """Which of the events it gets; None: all."""


@dataclass(frozen=True, slots=True)
class UntilTime:
    """Up to the events of this time (microseconds since 1970)."""

    time: int


@dataclass(frozen=True, slots=True)
class UntilId:
    """Up to the event that has this id, or to this cursor, and with it."""

    text: str


@dataclass(frozen=True, slots=True)
class HistoryQuery:
    """Which part of the log is wanted as server-sent events; without an end it goes on with what comes."""

    position: Position | None = None
    until: UntilTime | UntilId | None = None
    filter: Filter | None = None
    """Which of its events are wanted; None: all."""


Query: TypeAlias = dict[str, str]


class _QueryError(Exception):
    """The query cannot be understood; the text names the parameter."""


def parse_subscribe_options(query: bytes, now: float) -> SubscribeOptions | Rejection:
    """Read the query of a WebSocket's URL. Parameters that we don't know are for others, unless misspelt."""
    try:
        given = _read(query, ("since_id", "since", "replay", "proxy_status", *filters.NAMES))
        status = given.get("proxy_status", "0")
        if status not in ("0", "1"):
            raise _QueryError("proxy_status: is neither 1 nor 0")
        return SubscribeOptions(_position(given, now), status == "1", _filter(given))
    except _QueryError as unclear:
        return Rejection(400, str(unclear))


def parse_history_query(
    query: bytes, last_event_id: str | None, now: float
) -> HistoryQuery | Rejection:
    """Read the query as Alpaca's event endpoints do; a browser's Last-Event-ID beats where it began."""
    try:
        given = _read(query, ("since_id", "since", "replay", "until_id", "until", *filters.NAMES))
        for end, begin, others in (
            ("until", "since", "since_id"),
            ("until_id", "since_id", "since"),
        ):
            if end in given and others in given:
                raise _QueryError(f"{end}: goes with {begin}, not with {others}")
            if end in given and begin not in given:
                raise _QueryError(f"{end}: needs {begin}")
        until: UntilTime | UntilId | None = None
        if "until" in given:
            until = UntilTime(_time("until", given["until"]))
        elif "until_id" in given:
            until = UntilId(_id("until_id", given["until_id"]))
        position = _position(given, now)
        if last_event_id:  # the browser sends the same URL at each of its attempts
            position = AfterId(_id("Last-Event-ID", last_event_id))
        return HistoryQuery(position, until, _filter(given))
    except _QueryError as unclear:
        return Rejection(400, str(unclear))


def _check_spelling(name: str, names: tuple[str, ...]) -> None:
    # Passed over, a misspelt position would cost the client all that it asked for.
    for nearest in get_close_matches(name.lower(), names, n=1, cutoff=0.8):
        raise _QueryError(f"{name}: there is no such parameter; the nearest is {nearest}")


def _read(query: bytes, names: tuple[str, ...]) -> Query:
    given: Query = {}
    for name, value in parse_qsl(query.decode("latin-1"), keep_blank_values=True):
        if name not in names:
            _check_spelling(name, names)
            continue
        if name in given:
            raise _QueryError(f"{name}: is given twice")
        if not value:
            raise _QueryError(f"{name}: is empty")
        given[name] = value
    return given


def _filter(given: Query) -> Filter | None:
    try:
        return filters.read_filter(given)
    except ValueError as unclear:
        raise _QueryError(str(unclear)) from None


def _position(given: Query, now: float) -> Position | None:
    chosen = [name for name in _POSITIONS if name in given]
    if len(chosen) > 1:
        raise _QueryError(f"{chosen[1]}: cannot be given together with {chosen[0]}")
    return _POSITIONS[chosen[0]](given[chosen[0]], now) if chosen else None


def _after_id(text: str, _now: float) -> Position:
    return AfterId(_id("since_id", text))


def _from_time(text: str, now: float) -> Position:
    time = _time("since", text)
    if time > (now + CLOCK_SKEW) * 1_000_000:
        raise _QueryError("since: lies in the future")
    return FromTime(time)


def _last_events(text: str, _now: float) -> Position:
    if re.fullmatch("[0-9]{1,7}", text) is None or int(text) > MAX_REPLAY:
        raise _QueryError(f"replay: is not a number from 0 to {MAX_REPLAY}")
    return LastEvents(int(text))


_POSITIONS: dict[str, Callable[[str, float], Position]] = {
    "since_id": _after_id,
    "since": _from_time,
    "replay": _last_events,
}


def _id(name: str, text: str) -> str:
    if len(text) > MAX_ID_LENGTH:
        raise _QueryError(
            f"{name}: is longer than any event_id or cursor ({MAX_ID_LENGTH} characters)"
        )
    return text


def _time(name: str, text: str) -> int:
    # In a query "+" means a blank, which is what becomes of an offset that was not escaped.
    lost = _LOST_PLUS.fullmatch(text)
    try:
        return parse_time(f"{lost['time']}+{lost['offset']}" if lost else text)
    except (ValueError, OverflowError):
        example = "2026-01-31T14:30:00Z"
        raise _QueryError(
            f"{name}: is not a time with its offset from UTC, such as {example}"
        ) from None
