"""How an account's stream is, as the node that holds it tells the others: its upstream, and its gaps."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from tradeproxy.wire.proxy_status import Gap, GapOutcome, UpstreamStatus


@dataclass(frozen=True, slots=True)
class StreamState:
    """The upstream's status, and the last gaps, the oldest first."""

    upstream: UpstreamStatus
    gaps: tuple[Gap, ...]

    def encode(self) -> str:
        """Write it; whole, since who reads it may have missed what was said before."""
        gaps = [{**asdict(gap), "outcome": gap.outcome.value} for gap in self.gaps]
        return json.dumps({"upstream": asdict(self.upstream), "gaps": gaps}, separators=(",", ":"))

    @classmethod
    def parse(cls, text: str) -> StreamState:
        """Read what `encode` wrote."""
        document = json.loads(text)
        gaps = (Gap(**_known(Gap, gap)) for gap in document["gaps"])
        return cls(
            UpstreamStatus(**_known(UpstreamStatus, document["upstream"])),
            tuple(replace(gap, outcome=GapOutcome(gap.outcome)) for gap in gaps),
        )


def _known(kind: type, document: dict[str, Any]) -> dict[str, Any]:
    """Return the fields that this version knows: another node may be of a newer one."""
    return {field.name: document[field.name] for field in fields(kind) if field.name in document}


@dataclass(slots=True)
class NodeRole:
    """Whether this node holds the account's connection to Alpaca, and how near it is to the log's end."""

    since: float
    """Unix time in seconds."""
    is_leader: bool = False
    lease_renewed: float | None = None
    """When the lease was last renewed (Unix time); None unless it leads."""
    terms: int = 0
    """How often it has led, this time included."""
    lag: int = 0
    """How many events the log has that this node had not read when it last looked."""

    def start_leading(self, now: float) -> None:
        """Note that a turn begins."""
        self.is_leader, self.since, self.lease_renewed, self.lag = True, now, now, 0
        self.terms += 1

    def start_following(self, now: float) -> None:
        """Note that it has ended."""
        self.is_leader, self.since, self.lease_renewed, self.lag = False, now, None, 0

    def update(self, lag: int, now: float) -> None:
        """Note what a look at the log, and at the lease, has shown."""
        self.lag = max(lag, 0)
        self.lease_renewed = now if self.is_leader else None
