"""What nodes that share an account exchange about its upstream, and the role of this node."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from tradeproxy.wire.event import is_time
from tradeproxy.wire.proxy_status import Gap, GapOutcome, UpstreamStatus


@dataclass(frozen=True, slots=True)
class StreamState:
    """The status of the upstream, and the last gaps, oldest first.

    The leader writes it to the shared log. The other nodes apply it.
    """

    upstream: UpstreamStatus
    gaps: tuple[Gap, ...]

    def encode(self) -> str:
        """Return the state as JSON. It is always complete, as a reader may have missed others."""
        gaps = [{**asdict(gap), "outcome": gap.outcome.value} for gap in self.gaps]
        return json.dumps({"upstream": asdict(self.upstream), "gaps": gaps}, separators=(",", ":"))

    @classmethod
    def parse(cls, text: str) -> StreamState:
        """Read what `encode` wrote.

        A gap outside the calendar, which an earlier version may have written, is left out. Raises
        ValueError, TypeError, KeyError, OverflowError or RecursionError for anything else.
        """
        document = json.loads(text)
        upstream = UpstreamStatus(**_select_known(UpstreamStatus, document["upstream"]))
        if not math.isfinite(upstream.since) or not is_time(round(upstream.since * 1_000_000)):
            raise ValueError("the upstream's time is outside the calendar")
        if not isinstance(upstream.streaming, bool) or not isinstance(upstream.reason, str):
            raise ValueError("the upstream's status has another type")
        gaps = (Gap(**_select_known(Gap, gap)) for gap in document["gaps"])
        return cls(
            upstream,
            tuple(
                replace(gap, outcome=GapOutcome(gap.outcome))
                for gap in gaps
                if all(time is None or is_time(time) for time in (gap.begin, gap.end))
            ),
        )


def _select_known(kind: type, document: dict[str, Any]) -> dict[str, Any]:
    """Return only the fields that `kind` has: a node of a newer version may write more.

    Nodes are upgraded one after the other.
    """
    return {field.name: document[field.name] for field in fields(kind) if field.name in document}


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
