"""The query parameters of a client's URL, and the Last-Event-ID of a browser."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tradeproxy.query import filters
from tradeproxy.query.filters import Filter
from tradeproxy.query.parameters import (
    LAST_EVENT_ID,
    Query,
    QueryError,
    check_id,
    parse_time,
    read_parameters,
    read_switch,
)
from tradeproxy.wire.position import AfterId, AfterTime, FromTime, LastEvents, Position

MAX_REPLAY = 1_000_000
"""Events: the most that `replay` can request."""

MAX_CLIENT_NAME_LENGTH = 64
"""Characters of `client_name`."""

CLIENT_NAME = "client_name"
SNAPSHOT = "snapshot"

_POSITIONS = ("since_id", "since", "replay")


@dataclass(frozen=True, slots=True)
class StreamQuery:
    """What every client may ask for. By default it gets every event from now on."""

    position: Position | None = None
    """Where its stream begins; None means with the next event."""
    filter: Filter | None = None
    """Which events it gets; None means all."""
    client_name: str = ""
    """The name that the client gives itself; empty if it gives none."""
    snapshot: bool = False
    """Whether it gets the state of the account before the live events."""


@dataclass(frozen=True, slots=True)
class SubscribeOptions(StreamQuery):
    """The options of a WebSocket client."""

    status: bool = False
    """Whether it gets the `proxy_status` frames."""
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
class HistoryQuery(StreamQuery):
    """The part of the log that a client wants as server-sent events."""

    until: UntilTime | UntilId | None = None
    """Where it ends; None means that live events follow."""


def parse_subscribe_options(query: bytes, since_limit: float) -> SubscribeOptions:
    """Parse the query of a WebSocket's URL. Raises QueryError.

    `since_limit` is the latest time for `since` (Unix time in seconds): see Dates.since_limit.
    Unknown parameters are ignored; near-misspellings of a known one are an error.
    """
    given = read_parameters(
        query, (*_POSITIONS, "proxy_status", SNAPSHOT, CLIENT_NAME, "dashboard", *filters.NAMES)
    )
    return SubscribeOptions(
        position=_parse_position(given, since_limit),
        status=read_switch(given, "proxy_status"),
        filter=filters.read_filter(given),
        client_name=_parse_client_name(given),
        is_dashboard=read_switch(given, "dashboard"),
        snapshot=read_switch(given, SNAPSHOT),
    )


def parse_history_query(
    query: bytes, last_event_id: str | None, since_limit: float
) -> HistoryQuery:
    """Parse a query with the parameters of Alpaca's event endpoints. Raises QueryError.

    `last_event_id` is the value of the Last-Event-ID header, which takes precedence over the
    position in the query. The parameter lastEventId stands for a missing header: replacements of
    EventSource use it, since they cannot set one. `since_limit` is the latest time for `since`
    (Unix time in seconds): see Dates.since_limit. Unknown parameters are ignored;
    near-misspellings of a known one are an error.
    """
    given = read_parameters(
        query,
        (*_POSITIONS, "until_id", "until", LAST_EVENT_ID, SNAPSHOT, CLIENT_NAME, *filters.NAMES),
    )
    for end, begin, others in (("until", "since", "since_id"), ("until_id", "since_id", "since")):
        if end in given and others in given:
            raise QueryError(f"{end}: goes with {begin}, not with {others}")
        if end in given and begin not in given:
            raise QueryError(f"{end}: needs {begin}")
    snapshot = read_switch(given, SNAPSHOT)
    for end in ("until", "until_id") if snapshot else ():
        if end in given:
            raise QueryError(f"{end}: cannot be given together with {SNAPSHOT}")
    until: UntilTime | UntilId | None = None
    if "until" in given:
        until = UntilTime(parse_time("until", given["until"])[0])
    elif "until_id" in given:
        until = UntilId(check_id("until_id", given["until_id"]))
    position = _parse_position(given, since_limit)
    last_event_id = last_event_id or given.get(LAST_EVENT_ID)
    if last_event_id:
        # A browser repeats the same URL when it reconnects, so the URL has the older position
        # (WHATWG HTML, 9.2.3).
        position = AfterId(check_id("Last-Event-ID", last_event_id))
    wanted, name = filters.read_filter(given), _parse_client_name(given)
    return HistoryQuery(position, wanted, name, snapshot, until)


def _parse_client_name(given: Query) -> str:
    name = given.get(CLIENT_NAME, "")
    if len(name) > MAX_CLIENT_NAME_LENGTH:
        raise QueryError(f"{CLIENT_NAME}: is longer than {MAX_CLIENT_NAME_LENGTH} characters")
    # It is shown in terminals and logs. The decoder makes U+FFFD of bytes that are not UTF-8.
    if not name.isprintable() or "\ufffd" in name or name != name.strip():
        raise QueryError(
            f"{CLIENT_NAME}: is not printable text in UTF-8 without blanks at its ends"
        )
    return name


def _parse_position(given: Query, since_limit: float) -> Position | None:
    chosen = [name for name in _POSITIONS if name in given]
    for other in chosen[1:]:
        raise QueryError(f"{other}: cannot be given together with {chosen[0]}")
    match chosen:
        case ["since_id"]:
            return AfterId(check_id("since_id", given["since_id"]))
        case ["since"]:
            time, is_exact = parse_time("since", given["since"])
            if time > since_limit * 1_000_000:
                raise QueryError("since: lies in the future")
            return FromTime(time) if is_exact else AfterTime(time)
        case ["replay"]:
            text = given["replay"]
            if re.fullmatch("[0-9]{1,7}", text) is None or int(text) > MAX_REPLAY:
                raise QueryError(f"replay: is not a number from 0 to {MAX_REPLAY}")
            return LastEvents(int(text))
    return None
