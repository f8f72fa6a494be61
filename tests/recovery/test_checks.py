"""The checks of a healthy stream, and how far they have come, against the simulator."""

from __future__ import annotations

from twisted.logger import capturedLogs, formatEvent
from twisted.web.server import Request

from tests.recovery.recovery_case import INTERVAL, RecoveryTestCase
from tradeproxy.recovery.backfill import OVERLAP, SECOND
from tradeproxy.simulator.faults import FaultKind
from tradeproxy.wire.event import format_time

LONG = OVERLAP / SECOND + 100
"""Seconds after which an inquiry does not look at something any more for the sake of the overlap."""


class CheckTests(RecoveryTestCase):
    """A healthy stream is checked now and then."""

    def drop_silently(self, number: int) -> None:
        """Let an event happen of which the stream says nothing."""
        self.inject(FaultKind.SILENCE, seconds=0.5)
        self.emit(number)
        self.advance(1)

    def test_what_a_healthy_stream_left_out_is_delivered_late(self) -> None:
        """It is found at the next check, and the log says how much it was."""
        self.drop_silently(1)
        self.emit(2)
        with capturedLogs() as logs:
            self.advance(INTERVAL)
        self.assertEqual(self.told(), [(0, None), (2, None), (1, "events")])
        lines = [line for event in logs if "stream omitted" in (line := formatEvent(event) or "")]
        self.assertEqual(len(lines), 1)
        self.assertIn("omitted 1 events", lines[0])
        with capturedLogs() as logs:
            self.advance(5 * INTERVAL)
        self.assertEqual(logs, [])
        self.assertEqual(len(self.told()), 3)

    def test_secrets_stay_out_of_what_is_logged(self) -> None:
        """Neither keys nor URLs, however the requests fail."""
        self.host.refusing = True
        with capturedLogs() as logs:
            self.outage(lambda: self.emit(1))
            self.advance(INTERVAL)
        text = "".join(f"{event}" for event in logs)
        self.assertIn("cannot connect", text)
        for secret in ("PKUPSTREAM", "upstream-secret", "/v2/", "since="):
            self.assertNotIn(secret, text)

    def test_a_check_that_fails_is_left_to_the_next_and_logged_once(self) -> None:
        """A history that is away for hours is one line, and the events come when it is back."""
        self.inject(FaultKind.HISTORY_REFUSE, status=503, seconds=3 * INTERVAL)
        self.drop_silently(1)
        with capturedLogs() as logs:
            self.advance(2.5 * INTERVAL)
        self.assertEqual(len(logs), 1)
        self.assertIn("HTTP 503", formatEvent(logs[0]) or "")
        self.assertEqual(self.told(), [(0, None)])
        self.advance(2 * INTERVAL)
        self.assertEqual(self.told(), [(0, None), (1, "events")])


class CheckedTests(RecoveryTestCase):
    """How far all was found complete is known to whoever asks next."""

    def leave_out(self, number: int) -> None:
        """Let the stream leave out an event, and then go on for long."""
        self.inject(FaultKind.SILENCE, seconds=0.5)
        self.emit(number)
        self.advance(LONG)
        self.emit(number + 1)
        self.advance(1)

    def test_a_reconnect_does_not_make_it_forgotten(self) -> None:
        """A stream left out an event, and was lost before the check that would have found it."""
        self.leave_out(1)
        self.outage(lambda: None)
        self.advance(3)
        self.assertEqual(self.told(), [(0, None), (2, None), (1, "events")])

    def test_a_restart_does_not_either(self) -> None:
        """It is in the journal."""
        self.advance(2 * INTERVAL)
        self.leave_out(1)
        self.stop()
        self.new_process()
        self.advance(3)
        self.assertEqual(self.told(), [(0, None), (2, None), (1, "events")])

    def test_the_question_stays_small(self) -> None:
        """After a check it begins a little before that, not where the proxy did."""
        asked: list[str] = []

        def answer(request: Request) -> None:
            if request.path == b"/v2/events/trades":
                asked.append(request.args[b"since"][0].decode())

        self.advance(5 * INTERVAL)
        self.detour(answer)
        self.emit(1)
        self.advance(INTERVAL + 1)
        self.assertEqual(len(asked), 1)
        self.assertGreater(asked[0], self.time_ago(2 * INTERVAL + LONG))

    def time_ago(self, seconds: float) -> str:
        return format_time(round((self.clock.seconds() - seconds) * SECOND))
