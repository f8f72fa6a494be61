"""What nodes that share an account exchange about its upstream, and the role of this node."""

from __future__ import annotations

import math
from dataclasses import dataclass

import msgspec

from tradeproxy.wire.event import is_time
from tradeproxy.wire.proxy_status import Gap, UpstreamStatus


@dataclass(frozen=True, slots=True)
class StreamState:
    """The status of the upstream, and the last gaps, oldest first.

    The leader writes it to the shared log. The other nodes apply it.
    """

    upstream: UpstreamStatus
    gaps: tuple[Gap, ...]

    def encode(self) -> str:
        """Return the state as JSON. It is always complete, as a reader may have missed others."""
        return msgspec.json.encode(self).decode()

    @classmethod
    def parse(cls, text: str) -> StreamState:
        """Read what `encode` wrote. Unknown fields are ignored: a newer version may write them.

        A gap outside the calendar, which an earlier version may have written, is left out. Raises
        ValueError for anything else.
        """
        try:
            state = msgspec.json.decode(text, type=cls)
        except (msgspec.DecodeError, RecursionError) as error:
            raise ValueError(str(error)) from None
        since = state.upstream.since * 1_000_000
        if not (math.isfinite(since) and is_time(round(since))):
            raise ValueError("the upstream's time is outside the calendar")
        gaps = [gap for gap in state.gaps if all(map(_may_be_time, (gap.begin, gap.end)))]
        return cls(state.upstream, tuple(gaps))


def _may_be_time(time: int | None) -> bool:
    return time is None or is_time(time)


@dataclass(slots=True)
class NodeRole:
    """Whether this node leads the account, and how far it lags behind the shared log.

    Only the leader holds the connection to Alpaca and appends to the log.
    """

    since: float
    """When the role began (Unix time)."""
    is_leader: bool = False
    lease_renewed: float | None = None
    """When the lease was last renewed (Unix time); None unless this node leads."""
    terms: int = 0
    """How many terms this node has led, the current one included."""
    is_writing: bool = False
    """Whether this node leads and has read the whole log, with its metadata."""
    lag: int = 0
    """How many events of the log this node had not read at its last check."""

    def start_leading(self, now: float) -> None:
        """Record that a term begins at `now` (Unix time)."""
        self.is_leader, self.since, self.lease_renewed, self.lag = True, now, now, 0
        self.terms += 1

    def start_following(self, now: float) -> None:
        """Record that the term ends at `now` (Unix time)."""
        self.is_writing = False
        self.is_leader, self.since, self.lease_renewed, self.lag = False, now, None, 0

    def update(self, lag: int, now: float) -> None:
        """Record the result of a check of log and lease at `now` (Unix time)."""
        self.lag = max(lag, 0)
        self.lease_renewed = now if self.is_leader else None
