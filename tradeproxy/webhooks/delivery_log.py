"""What a delivery counts and logs. Of many lines alike, only some are written."""

from __future__ import annotations

from typing import Any

from twisted.logger import Logger
from twisted.python.failure import Failure

from tradeproxy.runtime.repeated_lines import is_logged
from tradeproxy.webhooks.state import DeliveryState, DeliveryStats
from tradeproxy.wire.plural import plural_ending


class DeliveryLog:
    """The numbers and the lines of one webhook and account."""

    _log = Logger()

    def __init__(self, stats: DeliveryStats) -> None:
        self._stats = stats
        self._names: dict[str, Any] = {"webhook": stats.webhook, "account": stats.account}

    def record_error(self, problem: str, failure: Failure | None = None) -> None:
        """Log an error of the proxy; by default the exception that is being handled."""
        text = f"webhook {{webhook}}: {{account}}: {problem}"  # equal formats are counted together
        self._log.failure(text, failure, **self._names)

    def record_skipped(self, count: int, *, is_first: bool) -> None:
        """Count events that are not sent; `is_first`: since the last message that was sent."""
        self._stats.skipped += count
        if is_first:
            self._log.warn(
                "webhook {webhook}: {account}: events are skipped: they are older than a day, or no"
                " longer stored; the next message says how many",
                **self._names,
            )

    def record_sent(self, failures: int, now: float) -> None:
        """Count a message that was accepted after failed attempts."""
        self._stats.sent += 1
        self._stats.last_sent = now
        if failures:
            self._log.info(
                "webhook {webhook}: {account}: sent after {count} failed attempt{s}",
                **self._names,
                count=failures,
                s=plural_ending(failures),
            )

    def record_rejected(self, message_id: str, reason: str) -> None:
        """Count a message that the receiver refuses for good."""
        self._stats.rejected += 1
        if is_logged(self._stats.rejected):
            self._log.warn(
                "webhook {webhook}: {account}: event {id} is skipped: the receiver answers {reason}"
                " ({count} so far)",
                **self._names,
                id=message_id,
                reason=reason,
                count=self._stats.rejected,
            )

    def record_failure(self, reason: str, delay: float, failures: int) -> None:
        """Count an attempt that failed and is repeated after `delay` seconds."""
        self._stats.failures += 1
        self._stats.state, self._stats.reason = DeliveryState.RETRYING, reason
        if is_logged(failures):
            self._log.warn(
                "webhook {webhook}: {account}: not sent: {reason}; next attempt in {delay:.0f} s"
                " ({count} so far)",
                **self._names,
                reason=reason,
                delay=delay,
                count=failures,
            )
