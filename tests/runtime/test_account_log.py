"""Tests of the lines about one account."""

from __future__ import annotations

from twisted.logger import LogEvent, capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from tradeproxy.runtime.account_log import AccountLogger


class Owner:
    """Logs about an account."""

    def __init__(self) -> None:
        self.log = AccountLogger(self, "paper")


class AccountLoggerTests(SynchronousTestCase):
    """Operators filter the log by the account, as text and as a field."""

    def log(self) -> list[LogEvent]:
        """Return a line with a value, and a failure."""
        owner = Owner()
        with capturedLogs() as events:
            owner.log.warn("{count} events are lost", count=2)
            try:
                raise ValueError
            except ValueError:
                owner.log.failure("it failed")
        self.flushLoggedErrors(ValueError)
        return list(events)

    def test_every_line_begins_with_the_account(self) -> None:
        """The values stay fields of their own."""
        events = self.log()
        lines = [(formatEvent(event) or "").splitlines()[0] for event in events]
        self.assertEqual(lines, ["paper: 2 events are lost", "paper: it failed"])
        self.assertEqual([event["account"] for event in events], ["paper", "paper"])
        self.assertEqual(events[0]["count"], 2)

    def test_namespace_is_the_owners_class(self) -> None:
        """The throttle of library lines tells ours by it, and JSON logs have it as `logger`."""
        self.assertEqual({event["log_namespace"] for event in self.log()}, {f"{__name__}.Owner"})
