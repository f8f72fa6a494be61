"""A node's part in an account, where several nodes share it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
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

    def begin_to_lead(self, now: float) -> None:
        """Note that a turn begins."""
        self.leads, self.since, self.renewed, self.lag = True, now, now, 0
        self.turns += 1

    def begin_to_follow(self, now: float) -> None:
        """Note that it has ended."""
        self.leads, self.since, self.renewed, self.lag = False, now, None, 0

    def looked(self, lag: int, now: float) -> None:
        """Note what a look at the log, and at the lease, has shown."""
        self.lag = max(lag, 0)
        self.renewed = now if self.leads else None
