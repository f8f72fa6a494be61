"""The regular checks of a healthy stream, and their progress, against the simulator."""

from __future__ import annotations

from twisted.logger import capturedLogs, formatEvent
from twisted.web.server import Request

from tests.recovery.recovery_case import INTERVAL, RecoveryTestCase
from tradeproxy.recovery.backfill import OVERLAP
from tradeproxy.runtime.dates import SECOND
from tradeproxy.simulator.faults import FaultKind
from tradeproxy.wire.event import format_time

PAST_OVERLAP = OVERLAP / SECOND + 100
"""Seconds after which an event is outside the overlap of the next backfill."""


class StreamCheckTests(RecoveryTestCase):
    """A healthy stream is checked at an interval."""

    def emit_silently(self, number: int) -> None:
        """Emit an event that the stream omits."""
        self.inject(FaultKind.SILENCE, seconds=0.5)
        self.emit(number)
        self.advance(1)

    def test_check_omitted_event_is_delivered_late(self) -> None:
        """The next check finds the event, and one log line states the count."""
        self.emit_silently(1)
        self.emit(2)
        with capturedLogs() as logs:
            self.advance(INTERVAL)
        self.assertEqual(self.delivered(), [(0, None), (2, None), (1, "events")])
        lines = [line for event in logs if "stream omitted" in (line := formatEvent(event) or "")]
        self.assertEqual(len(lines), 1)
        self.assertIn("omitted 1 event,", lines[0])
        with capturedLogs() as logs:
            self.advance(5 * INTERVAL)
        self.assertEqual(logs, [])
        self.assertEqual(len(self.delivered()), 3)

    def start_log_after_event(self) -> None:
        """Begin a new log, and stream, 0.7 s after an event in the same second of Alpaca's clock.

        The Date header, by which the begin of the stream is known, names only the second.
        """
        self.stop()
        self.journal = self.new_journal()
        self.addCleanup(self.journal.close)
        self.clock.advance(1 - self.clock.seconds() % 1 + 0.25)
        self.emit(7)
        self.clock.advance(0.7)
        self.recorder.frames.clear()
        self.start_new_process()

    def test_event_from_before_the_first_stream_is_not_reported_as_omitted(self) -> None:
        """At a first start two nodes warned of 2 and 4 omitted events; nothing was omitted.

        With an event of the stream after it, and without one: then the stream was opened again as
        mute.
        """
        for streamed in ((), (8,)):
            self.start_log_after_event()
            self.advance(0.5)
            self.emit(*streamed)
            with capturedLogs() as logs:
                self.advance(INTERVAL)
            self.assertEqual([formatEvent(event) for event in logs], [])
            self.assertEqual(self.account.gaps.found["check"], 0)
            self.assertEqual({number for number, _ in self.delivered()}, {7, *streamed})

    def test_omitted_event_after_the_first_one_of_the_stream_is_reported(self) -> None:
        """Within the same second too: the stream had begun, since it had brought an event."""
        self.start_log_after_event()
        self.advance(0.1)
        self.emit(8)
        self.advance(0.1)
        self.inject(FaultKind.SILENCE, seconds=0.1)
        self.emit(9)
        with capturedLogs() as logs:
            self.advance(INTERVAL)
        lines = [formatEvent(event) or "" for event in logs]
        self.assertEqual(sum("stream omitted 1 event," in line for line in lines), 1, lines)
        self.assertEqual(self.account.gaps.found["check"], 1)

    def test_failed_requests_log_no_secrets(self) -> None:
        """The log holds neither keys nor URLs."""
        self.host.refusing = True
        with capturedLogs() as logs:
            self.outage(lambda: self.emit(1))
            self.advance(INTERVAL)
        text = "".join(f"{event}" for event in logs)
        self.assertIn("cannot connect", text)
        for secret in ("PKUPSTREAM", "upstream-secret", "/v2/", "since="):
            self.assertNotIn(secret, text)

    def test_check_history_unavailable_logs_once_and_retries(self) -> None:
        """A long failure is one log line; the events are delivered when the history is back."""
        self.inject(FaultKind.HISTORY_REFUSE, status=503, seconds=3 * INTERVAL)
        self.emit_silently(1)
        with capturedLogs() as logs:
            self.advance(2.5 * INTERVAL)
        self.assertEqual(len(logs), 1)
        self.assertIn("HTTP 503", formatEvent(logs[0]) or "")
        self.assertEqual(self.delivered(), [(0, None)])
        self.advance(2 * INTERVAL)
        self.assertEqual(self.delivered(), [(0, None), (1, "events")])


class CheckProgressTests(RecoveryTestCase):
    """The time up to which the log was found complete is stored."""

    def omit(self, number: int) -> None:
        """Emit an event that the stream omits, and stream on until the overlap is past.

        The checks have their longest interval then, and the last one has just run.
        """
        self.advance(2 * INTERVAL + 60)
        self.inject(FaultKind.SILENCE, seconds=0.5)
        self.emit(number)
        self.advance(PAST_OVERLAP)
        self.emit(number + 1)
        self.advance(1)

    def test_omitted_event_before_reconnect_is_delivered(self) -> None:
        """The stream omitted an event, and was lost before the next check."""
        self.omit(1)
        self.outage(lambda: None)
        self.advance(3)
        self.assertEqual(self.delivered(), [(0, None), (2, None), (1, "events")])

    def test_omitted_event_before_restart_is_delivered(self) -> None:
        """The progress is in the journal."""
        self.omit(1)
        self.stop()
        self.start_new_process()
        self.advance(3)
        self.assertEqual(self.delivered(), [(0, None), (2, None), (1, "events")])

    def test_check_requests_only_time_since_last_check(self) -> None:
        """The request starts a little before the last check, not at the proxy's start."""
        asked: list[str] = []

        def answer(request: Request) -> None:
            if request.path == b"/v2/events/trades":
                asked.append(request.args[b"since"][0].decode())

        self.advance(5 * INTERVAL)
        self.override(answer)
        self.emit(1)
        self.advance(INTERVAL + 1)
        self.assertEqual(len(asked), 1)
        self.assertGreater(asked[0], self.time_ago(2 * INTERVAL + PAST_OVERLAP))

    def time_ago(self, seconds: float) -> str:
        return format_time(round((self.clock.seconds() - seconds) * SECOND))
