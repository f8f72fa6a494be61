"""The `proxy_status` stream: what the proxy says of itself to the clients that ask for it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

from tradeproxy.wire.event import format_time

if TYPE_CHECKING:
    from collections.abc import Sequence

PROXY_STATUS = "proxy_status"
"""The name of the stream."""


@dataclass(frozen=True, slots=True)
class UpstreamStatus:
    """Whether Alpaca's stream is up, why not, and since when (Unix time in seconds)."""

    streaming: bool
    reason: str
    since: float


@dataclass(frozen=True, slots=True)
class JournalStatus:
    """Whether events are on the disk before they are delivered, why not, and since when (Unix time)."""

    durable: bool
    reason: str
    since: float


class GapOutcome(Enum):
    """What became of a gap in Alpaca's stream."""

    PENDING = "pending"
    """What was missed is being asked for, and newer events wait."""
    OPEN = "open"
    """It could not be had in time: newer events go on, what is found will come late, and marked."""
    RECOVERED = "recovered"
    """All that was missed has been delivered."""
    ORDERS = "orders"
    """The orders' present states have been delivered, marked; events in between are not to be had."""
    LOST = "lost"
    """Nothing could be had of it."""


@dataclass(frozen=True, slots=True)
class Gap:
    """A time in which events could not arrive: from the last moment that is known to be complete to the
    stream's return (microseconds since 1970), which is None while it is down."""

    begin: int
    end: int | None = None
    outcome: GapOutcome = GapOutcome.PENDING
    events: int = 0
    """How many missed events were found, or made of orders."""
    reason: str = ""

    @property
    def is_closed(self) -> bool:
        """Whether nothing more will come of it."""
        return self.outcome not in (GapOutcome.PENDING, GapOutcome.OPEN)


class ReplayState(Enum):
    """How far the replay that a client asked for has come."""

    BEGUN = "begun"
    COMPLETE = "complete"
    IMPOSSIBLE = "impossible"


def encode_hello(
    account: str,
    cursor: str | None,
    upstream: UpstreamStatus,
    journal: JournalStatus,
    gaps: Sequence[Gap],
) -> bytes:
    """Write all there is to know. `cursor` is where this client's stream stands, None if it has no place."""
    return _frame(
        "hello",
        account=account,
        cursor=cursor,
        upstream=describe_upstream(upstream),
        journal=_journal(journal),
        gaps=[describe_gap(gap) for gap in gaps],
    )


def encode_upstream(upstream: UpstreamStatus) -> bytes:
    """Write that the upstream is up, or down."""
    return _frame("upstream", **describe_upstream(upstream))


def encode_journal(journal: JournalStatus) -> bytes:
    """Write that the journal is durable, or not."""
    return _frame("journal", **_journal(journal))


def encode_gap(gap: Gap) -> bytes:
    """Write that a gap has begun, or what became of it."""
    return _frame("gap", **describe_gap(gap))


def encode_position(cursor: str) -> bytes:
    """Write where a stream stands from which events have been held back."""
    return _frame("position", cursor=cursor)


def encode_replay(replay: ReplayState, cursor: str | None, reason: str = "") -> bytes:
    """Write that a replay begins, is complete, or cannot be had; `cursor` is where the stream stands."""
    return _frame("replay", state=replay.value, cursor=cursor, reason=reason)


def describe_upstream(upstream: UpstreamStatus) -> dict[str, Any]:
    """Return how the upstream is, as JSON shows it."""
    state = "up" if upstream.streaming else "down"
    return {"state": state, "since": format_seconds(upstream.since), "reason": upstream.reason}


def _journal(journal: JournalStatus) -> dict[str, Any]:
    state = "durable" if journal.durable else "not durable"
    return {"state": state, "since": format_seconds(journal.since), "reason": journal.reason}


def describe_gap(gap: Gap) -> dict[str, Any]:
    """Return a gap as JSON shows it."""
    return {
        "begin": format_time(gap.begin),
        "end": None if gap.end is None else format_time(gap.end),
        "outcome": gap.outcome.value,
        "events": gap.events,
        "reason": gap.reason,
    }


def format_seconds(seconds: float) -> str:
    """Write Unix time as JSON shows it."""
    return format_time(round(seconds * 1_000_000))


def _frame(kind: str, **fields: Any) -> bytes:
    document = {"stream": PROXY_STATUS, "data": {"event": kind, **fields}}
    return json.dumps(document, separators=(",", ":")).encode()
