"""A node's part in an account, where several nodes share it."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Role:
    """Whether this node holds the account's connection to Alpaca, and how near it is to the log's end."""

    since: float
    """Unix time in seconds."""
    leads: bool = False
    renewed: float | None = None
    """When the lease was last renewed (Unix time); None unless it leads."""
    turns: int = 0
    """How often it has led, this time included."""
    lag: int = 0
    """How many events the log has that this node had not read when it last looked."""

    def begins(self, now: float) -> Role:
        """Return the role of the node as it begins to lead."""
        return Role(now, leads=True, renewed=now, turns=self.turns + 1)

    def ends(self, now: float) -> Role:
        """Return its role as it begins to follow."""
        return Role(now, turns=self.turns)

    def seen(self, lag: int, now: float) -> Role:
        """Return the role after another look at the log, and at the lease."""
        return replace(self, lag=max(lag, 0), renewed=now if self.leads else None)
