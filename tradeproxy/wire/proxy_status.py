"""The `proxy_status` stream: the proxy's own state, for clients that subscribe to it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from tradeproxy.wire.event import format_time

PROXY_STATUS = "proxy_status"
"""The name of the stream."""


@dataclass(frozen=True, slots=True)
class UpstreamStatus:
    """Whether Alpaca's stream is up, the reason if not, and since when (Unix time in seconds)."""

    streaming: bool
    reason: str
    since: float


@dataclass(frozen=True, slots=True)
class JournalStatus:
    """Whether events are on disk before delivery, the reason if not, and since when.

    `since` is Unix time in seconds.
    """

    durable: bool
    reason: str
    since: float


class GapOutcome(Enum):
    """The result of a gap in Alpaca's stream.

    PENDING -> RECOVERED, ORDERS or LOST; or PENDING -> OPEN and then one of those three.
    """

    PENDING = "pending"
    """The backfill is running, and newer events are buffered."""
    OPEN = "open"
    """The backfill exceeded its deadline. Newer events flow; missed ones follow late and marked."""
    RECOVERED = "recovered"
    """All missed events are delivered."""
    ORDERS = "orders"
    """The current state of changed orders is delivered, marked; events in between are lost."""
    LOST = "lost"
    """Nothing of the gap could be recovered."""


@dataclass(frozen=True, slots=True)
class Gap:
    """A period without events from Alpaca's stream.

    `begin` is the last time up to which events are complete, or None if that is unknown. `end` is
    the stream's return, or that of a check which left something out, or None while the stream is
    down. Both are microseconds since 1970.
    """

    begin: int | None
    end: int | None = None
    outcome: GapOutcome = GapOutcome.PENDING
    events: int = 0
    """The number of missed events that were found, or built from orders."""
    reason: str = ""

    @property
    def is_closed(self) -> bool:
        """Whether the outcome is final."""
        return self.outcome not in (GapOutcome.PENDING, GapOutcome.OPEN)


class ReplayState(Enum):
    """The progress of the replay that a client requested."""

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
    """Encode the complete state, the first frame that a client gets.

    The cursor is the position of this client's stream; None if it has none. The gaps are the recent
    ones, oldest first.
    """
    return _frame(
        "hello",
        account=account,
        cursor=cursor,
        upstream=describe_upstream(upstream),
        journal=_describe_journal(journal),
        gaps=[describe_gap(gap) for gap in gaps],
    )


def encode_upstream(upstream: UpstreamStatus) -> bytes:
    """Encode a change of Alpaca's stream to up or down."""
    return _frame("upstream", **describe_upstream(upstream))


def encode_journal(journal: JournalStatus) -> bytes:
    """Encode a change of the journal to durable or not durable."""
    return _frame("journal", **_describe_journal(journal))


def encode_gap(gap: Gap) -> bytes:
    """Encode the start of a gap, or a change of its outcome."""
    return _frame("gap", **describe_gap(gap))


def encode_position(cursor: str) -> bytes:
    """Encode the position of a stream after events that its filter dropped."""
    return _frame("position", cursor=cursor)


def encode_replay(replay: ReplayState, cursor: str | None, reason: str = "") -> bytes:
    """Encode that a replay begins, is complete or is impossible.

    `cursor` is the stream's position.
    """
    return _frame("replay", state=replay.value, cursor=cursor, reason=reason)


def describe_upstream(upstream: UpstreamStatus) -> dict[str, Any]:
    """Return the upstream's state as a JSON object."""
    state = "up" if upstream.streaming else "down"
    return {"state": state, "since": format_seconds(upstream.since), "reason": upstream.reason}


def _describe_journal(journal: JournalStatus) -> dict[str, Any]:
    state = "durable" if journal.durable else "not durable"
    return {"state": state, "since": format_seconds(journal.since), "reason": journal.reason}


def describe_gap(gap: Gap) -> dict[str, Any]:
    """Return a gap as a JSON object."""
    return {
        "begin": _format_optional(gap.begin),
        "end": _format_optional(gap.end),
        "outcome": gap.outcome.value,
        "events": gap.events,
        "reason": gap.reason,
    }


def _format_optional(time: int | None) -> str | None:
    return None if time is None else format_time(time)


def format_seconds(seconds: float) -> str:
    """Format Unix time in seconds as RFC 3339."""
    return format_time(round(seconds * 1_000_000))


def _frame(kind: str, **fields: Any) -> bytes:
    document = {"stream": PROXY_STATUS, "data": {"event": kind, **fields}}
    return json.dumps(document, separators=(",", ":")).encode()
