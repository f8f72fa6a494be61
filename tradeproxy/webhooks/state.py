"""What a webhook does for one account, as the dashboard, the metrics and /readyz show it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class DeliveryState(Enum):
    """The state of a webhook for one account. The value is the name that users see."""

    WAITING = "waiting"
    """Another node sends, or the log cannot be read yet."""
    READY = "ready"
    SENDING = "sending"
    RETRYING = "retrying"
    """The last attempt has failed."""
    STOPPED = "stopped"
    """The receiver has refused the URL or its token. A reload or a restart tries again."""


@dataclass(slots=True)
class DeliveryStats:
    """The state and the numbers of one webhook and account, since the process started.

    reason: why it is RETRYING or STOPPED; "" otherwise. It is safe to show.
    last_sent: when the last message was accepted (Unix time), or None.
    sent: messages that were accepted.
    failures: attempts that failed and were, or will be, repeated.
    rejected: messages that the receiver refused for good.
    skipped: events that were too old, or no longer stored.
    """

    webhook: str
    format: str
    account: str
    state: DeliveryState = DeliveryState.WAITING
    reason: str = ""
    last_sent: float | None = None
    sent: int = 0
    failures: int = 0
    rejected: int = 0
    skipped: int = 0

    @property
    def problem(self) -> str | None:
        """The reason for /readyz, or None. A restart of the proxy is no remedy for it."""
        if self.state is DeliveryState.STOPPED:
            return f"webhook {self.webhook}: stopped: {self.reason}"
        if self.state is DeliveryState.RETRYING:
            return f"webhook {self.webhook}: {self.account}: {self.reason}"
        return None
