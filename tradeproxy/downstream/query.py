"""The query parameters of a client's URL, and the Last-Event-ID of a browser."""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TYPE_CHECKING, TypeAlias
from urllib.parse import parse_qsl

from tradeproxy.downstream import filters
from tradeproxy.downstream.admission import Rejection
from tradeproxy.wire.event import parse_time_down
from tradeproxy.wire.position import AfterId, AfterTime, FromTime, LastEvents, Position

if TYPE_CHECKING:
    from collections.abc import Callable

    from tradeproxy.downstream.filters import Filter

MAX_ID_LENGTH = 128
"""Characters. A cursor has at most 109."""

MAX_REPLAY = 1_000_000
"""Events: the most that `replay` can request."""

MAX_PARAMETERS = 32
"""Parameters in one query. A stranger chooses it, and each one is looked up."""

MAX_NAME_LENGTH = 32
"""Characters of a name that is compared with the known ones: comparing takes quadratic time."""

MAX_TIME_LENGTH = 64
"""Characters of `since` and `until`; a time with nine digits of a second and an offset has 35."""

MAX_CLIENT_NAME_LENGTH = 64
"""Characters of `client_name`."""

LAST_EVENT_ID = "lastEventId"
CLIENT_NAME = "client_name"

_OFFSET = re.compile("[0-9]{2}:?[0-9]{2}")


@dataclass(frozen=True, slots=True)
class SubscribeOptions:
    """The options of a WebSocket client. By default it gets every event from now on."""

    position: Position | None = None
    """Where its stream begins; None means with the next event."""
    status: bool = False
    """Whether it gets the `proxy_status` frames."""
    filter: Filter | None = None
    """Which events it gets; None means all."""
    client_name: str = ""
    """The name that the client gives itself; empty if it gives none."""
    is_dashboard: bool = False
    """Whether it is a connection of the dashboard, which is not counted as a client."""


@dataclass(frozen=True, slots=True)
class UntilTime:
    """The stream ends after the events of this time (microseconds since 1970)."""

    time: int


@dataclass(frozen=True, slots=True)
class UntilId:
    """The stream ends with the event that has this id or cursor. That event is included."""

    text: str


@dataclass(frozen=True, slots=True)
class HistoryQuery:
    """The part of the log that a client wants as server-sent events.

    Without `until`, live events follow.
    """

    position: Position | None = None
    until: UntilTime | UntilId | None = None
    filter: Filter | None = None
    """Which events it gets; None means all."""
    client_name: str = ""
    """The name that the client gives itself; empty if it gives none."""


Query: TypeAlias = dict[str, str]


class _QueryError(Exception):
    """The query is invalid. The text is a line for the client that names the parameter."""


def parse_subscribe_options(query: bytes, since_limit: float) -> SubscribeOptions | Rejection:
    """Parse the query of a WebSocket's URL; a Rejection with status 400 if it is invalid.

    `since_limit` is the latest time for `since` (Unix time in seconds): see Dates.since_limit.
    Unknown parameters are ignored; near-misspellings of a known one are an error.
    """
    try:
        given = _parse_query(
            query,
            (*_POSITIONS, "proxy_status", CLIENT_NAME, "dashboard", *filters.NAMES),
        )
        return SubscribeOptions(
            _parse_position(given, since_limit),
            _parse_switch(given, "proxy_status"),
            _parse_filter(given),
            _parse_client_name(given),
            _parse_switch(given, "dashboard"),
        )
    except _QueryError as error:
        return Rejection(400, str(error))


def parse_history_query(
    query: bytes, last_event_id: str | None, since_limit: float
) -> HistoryQuery | Rejection:
    """Parse a query with the parameters of Alpaca's event endpoints; a Rejection if it is invalid.

    `last_event_id` is the value of the Last-Event-ID header, which takes precedence over the
    position in the query. The parameter lastEventId stands for a missing header: replacements of
    EventSource use it, since they cannot set one. `since_limit` is the latest time for `since`
    (Unix time in seconds): see Dates.since_limit. Unknown parameters are ignored;
    near-misspellings of a known one are an error.
    """
    try:
        given = _parse_query(
            query,
            (*_POSITIONS, "until_id", "until", LAST_EVENT_ID, CLIENT_NAME, *filters.NAMES),
        )
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
            until = UntilTime(_parse_time("until", given["until"])[0])
        elif "until_id" in given:
            until = UntilId(_check_id("until_id", given["until_id"]))
        position = _parse_position(given, since_limit)
        last_event_id = last_event_id or given.get(LAST_EVENT_ID)
        if last_event_id:
            # A browser repeats the same URL when it reconnects, so the URL has the older position
            # (WHATWG HTML, 9.2.3).
            position = AfterId(_check_id("Last-Event-ID", last_event_id))
        return HistoryQuery(position, until, _parse_filter(given), _parse_client_name(given))
    except _QueryError as error:
        return Rejection(400, str(error))


def _check_spelling(name: str, names: tuple[str, ...]) -> None:
    # If a misspelt position were ignored, the client would silently miss the events it asked for.
    if len(name) > MAX_NAME_LENGTH:
        return
    for nearest in get_close_matches(name.lower(), names, cutoff=0.8):  # the nearest is first
        raise _QueryError(f"{name}: there is no such parameter; the nearest is {nearest}")


def _parse_query(query: bytes, names: tuple[str, ...]) -> Query:
    given: Query = {}
    try:
        pairs = parse_qsl(
            query.decode("latin-1"), keep_blank_values=True, max_num_fields=MAX_PARAMETERS
        )
    except ValueError:
        raise _QueryError(f"the query has more than {MAX_PARAMETERS} parameters") from None
    for name, value in pairs:
        if name not in names:
            _check_spelling(name, names)
            continue
        if name in given:
            raise _QueryError(f"{name}: is given twice")
        if not value and name != LAST_EVENT_ID:  # without an event, an EventSource has no id
            raise _QueryError(f"{name}: is empty")
        given[name] = value
    return given


def _parse_switch(given: Query, name: str) -> bool:
    value = given.get(name, "0")
    if value not in ("0", "1"):
        raise _QueryError(f"{name}: is neither 1 nor 0")
    return value == "1"


def _parse_client_name(given: Query) -> str:
    name = given.get(CLIENT_NAME, "")
    if len(name) > MAX_CLIENT_NAME_LENGTH:
        raise _QueryError(f"{CLIENT_NAME}: is longer than {MAX_CLIENT_NAME_LENGTH} characters")
    # It is shown in terminals and logs. The decoder makes U+FFFD of bytes that are not UTF-8.
    if not name.isprintable() or "\ufffd" in name or name != name.strip():
        raise _QueryError(
            f"{CLIENT_NAME}: is not printable text in UTF-8 without blanks at its ends"
        )
    return name


def _parse_filter(given: Query) -> Filter | None:
    try:
        return filters.read_filter(given)
    except ValueError as error:
        raise _QueryError(str(error)) from None


def _parse_position(given: Query, since_limit: float) -> Position | None:
    chosen = [name for name in _POSITIONS if name in given]
    if not chosen:
        return None
    name, *others = chosen
    for other in others:
        raise _QueryError(f"{other}: cannot be given together with {name}")
    return _POSITIONS[name](given[name], since_limit)


def _parse_after_id(text: str, _since_limit: float) -> Position:
    return AfterId(_check_id("since_id", text))


def _parse_from_time(text: str, since_limit: float) -> Position:
    time, is_exact = _parse_time("since", text)
    if time > since_limit * 1_000_000:
        raise _QueryError("since: lies in the future")
    return FromTime(time) if is_exact else AfterTime(time)


def _parse_last_events(text: str, _since_limit: float) -> Position:
    if re.fullmatch("[0-9]{1,7}", text) is None or int(text) > MAX_REPLAY:
        raise _QueryError(f"replay: is not a number from 0 to {MAX_REPLAY}")
    return LastEvents(int(text))


_POSITIONS: dict[str, Callable[[str, float], Position]] = {
    "since_id": _parse_after_id,
    "since": _parse_from_time,
    "replay": _parse_last_events,
}


def _check_id(name: str, text: str) -> str:
    text = text.rstrip()  # such as the end of the line that a shell read it from
    if not text:
        raise _QueryError(f"{name}: is empty")
    if len(text) > MAX_ID_LENGTH:
        raise _QueryError(
            f"{name}: is longer than any event_id or cursor ({MAX_ID_LENGTH} characters)"
        )
    return text


def _parse_time(name: str, text: str) -> tuple[int, bool]:
    """Return the last microsecond that is not after a time, and whether the time is exactly it."""
    try:
        if len(text) > MAX_TIME_LENGTH:
            raise ValueError
        # In a query "+" means a blank, so an unescaped "+02:00" arrives as " 02:00".
        head, _, offset = text.rpartition(" ")
        if ":" in head and _OFFSET.fullmatch(offset):
            text = f"{head}+{offset}"
        return parse_time_down(text)
    except ValueError:
        example = "2026-01-31T14:30:00Z"
        raise _QueryError(
            f"{name}: is not a time with its offset from UTC, such as {example}"
        ) from None
