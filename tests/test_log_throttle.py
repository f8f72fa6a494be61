"""Tests for tradeproxy.logs: which lines of libraries the log has."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.logger import (
    ILogObserver,
    LimitedHistoryLogObserver,
    LogEvent,
    LogLevel,
    LogPublisher,
    formatEvent,
)
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from tradeproxy.logs import MAX_KINDS, LogThrottle, LogThrottleService


def line(text: str, namespace: str = "twisted.web.http", **values: Any) -> dict[str, Any]:
    """Return an event of a logger."""
    return {
        "log_namespace": namespace,
        "log_level": LogLevel.warn,
        "log_format": text,
        **values,
    }


@implementer(ILogObserver)
class Lines:
    """An observer that keeps what the log would show."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def __call__(self, event: LogEvent) -> None:
        self.lines.append(formatEvent(event))


class LogThrottleTests(SynchronousTestCase):
    """A library cannot fill the log."""

    def setUp(self) -> None:
        self.shown = Lines()
        self.lines = self.shown.lines
        self.throttle = LogThrottle(self.shown)

    def test_library_line_repeated_1000_times_is_logged_four_times(self) -> None:
        """The 1st, 10th, 100th and 1,000th, each with the count so far."""
        for port in range(1000):
            self.throttle(line("Timing out client: {peer}", peer=f"tcp4:{port}"))
        self.assertEqual(
            self.lines,
            [
                "Timing out client: tcp4:0",
                "Timing out client: tcp4:9 (10 so far)",
                "Timing out client: tcp4:99 (100 so far)",
                "Timing out client: tcp4:999 (1000 so far)",
            ],
        )

    def test_numbers_in_text_do_not_make_another_kind(self) -> None:
        """Old-style lines hold their values in the text."""
        for port in range(9):
            text = f"(TCP Port {8000 + port} Closed)"
            self.throttle(line("{log_text}", "log_legacy", log_text=text))
        self.assertEqual(self.lines, ["(TCP Port 8000 Closed)"])

    def test_library_line_at_level_info_is_left_out(self) -> None:
        """`Timing out client: IPv4Address(type='TCP', …` or `ApiSite starting on 8100` help nobody.

        The service begins before the other services listen, and again when the reactor runs.
        """
        self.throttle(line("Timing out client: {peer}", peer="x", log_level=LogLevel.info))
        self.throttle(line("upstream is up", "tradeproxy.upstream", log_level=LogLevel.info))
        self.assertEqual(self.lines, ["upstream is up"])
        later, kept = Lines(), LimitedHistoryLogObserver()
        until_then = LogPublisher(kept)
        publisher = LogPublisher(self.shown, until_then)
        calls: list[Callable[[], None]] = []
        service = LogThrottleService(calls.append, publisher)
        service.privilegedStartService()
        publisher(line("ApiSite starting on 8100", "log_legacy", log_level=LogLevel.info))
        service.startService()
        publisher.addObserver(later)
        for call in calls:
            call()
        publisher(line("(TCP Port 8100 Closed)", "log_legacy", log_level=LogLevel.info))
        self.assertEqual((self.lines, later.lines), (["upstream is up"], []))
        publisher.removeObserver(until_then)  # as twist does before it replays the events
        kept.replayTo(publisher)

    def test_own_line_without_traceback_always_passes(self) -> None:
        """It is a state change."""
        for _ in range(3):
            self.throttle(line("upstream is down", "tradeproxy.upstream.service"))
        self.assertEqual(len(self.lines), 3)

    def test_own_traceback_is_counted_by_account_and_type(self) -> None:
        """A fault that is tried again every second does not fill the log; another one shows."""
        for account, error in [("paper", KeyError())] * 9 + [
            ("live", KeyError()),
            ("live", OSError()),
        ]:
            failure = Failure(error)
            self.throttle(
                line(
                    "{account}: failed", "tradeproxy.cluster", account=account, log_failure=failure
                )
            )
        self.assertEqual(self.lines, ["paper: failed", "live: failed", "live: failed"])

    def test_legacy_lines_of_different_text_are_all_logged(self) -> None:
        """Twisted gives every line of log.msg and print one format, which must not merge them."""
        for text in ("Port 1 closed", "Could not bind", "Port 2 closed"):
            self.throttle(line("{log_text}", "log_legacy", log_text=text))
            self.throttle(line("{log_io}", "stderr", log_io=text))
        shown = ["Port 1 closed"] * 2 + ["Could not bind"] * 2
        self.assertEqual(self.lines, shown)

    def test_legacy_line_with_braces_is_counted(self) -> None:
        """A text is not a format: its braces mean nothing."""
        for _ in range(10):
            self.throttle(line("{log_text}", "log_legacy", log_text="{a} {0}"))
        self.assertEqual(self.lines, ["{a} {0}", "{a} {0} (10 so far)"])

    def test_failures_of_different_places_are_all_logged(self) -> None:
        """log.err gives them one format, and keeps the failure under an older key."""

        def first() -> None:
            raise ValueError

        def second() -> None:
            raise ValueError

        for place in (first, second, first):
            try:
                place()
            except ValueError:
                self.throttle(line("{log_text}", log_text="Unhandled Error", failure=Failure()))
        self.assertEqual(self.lines, ["Unhandled Error"] * 2)

    def test_kinds_are_bounded(self) -> None:
        """Text that a stranger chooses does not use up the memory."""
        for number in range(3 * MAX_KINDS):
            self.throttle(line("x" + "abcdefghij"[number % 10] * (number // 10)))
        self.assertLessEqual(len(self.throttle._counts), MAX_KINDS)  # noqa: SLF001

    def test_service_wraps_observers_and_restores_them(self) -> None:
        """While it runs, repeated lines are counted; afterwards everything passes."""
        publisher = LogPublisher(self.shown)
        service = LogThrottleService(lambda wrap: wrap(), publisher)
        service.startService()
        for _ in range(5):
            publisher(line("again"))
        service.stopService()
        for _ in range(2):
            publisher(line("again"))
        self.assertEqual(self.lines, ["again"] * 3)
