"""The deadline of the buffering: newer events wait for missed ones until then."""

from __future__ import annotations

from twisted.logger import capturedLogs, formatEvent
from twisted.web.server import Request

from tests.recovery.recovery_case import INTERVAL, RecoveryTestCase
from tests.support.journals import event, memory_journal
from tests.upstream.support import RestClientTestCase, event_stream, never
from tradeproxy.config.settings import RecoveryMode, RecoverySettings
from tradeproxy.hub.account import Account
from tradeproxy.hub.buffer import MAX_BUFFERED
from tradeproxy.recovery.recovery import FIRST_CHECK, MAX_RETRY, Recovery
from tradeproxy.simulator.faults import FaultKind
from tradeproxy.wire.frame import Recovered, extract_data, frame_event, with_mark
from tradeproxy.wire.messages import TradeUpdate, parse_server
from tradeproxy.wire.proxy_status import GapOutcome


class DeadlineTests(RecoveryTestCase):
    """Newer events are buffered until the deadline at most."""

    def test_deadline_passed_delivers_missed_events_late(self) -> None:
        """Newer events are sent first and the gap is open; later it is recovered."""
        self.inject(FaultKind.HISTORY_REFUSE, status=503, seconds=12.0)
        self.outage(lambda: self.emit(1, 2))
        self.emit(3)
        with capturedLogs() as logs:
            self.advance(4.5)
            self.assertEqual(self.delivered(), [(0, None)])
            self.advance(1)
        self.assertEqual(self.delivered(), [(0, None), (3, None)])
        self.assertEqual((self.gap.outcome, self.gap.reason), (GapOutcome.OPEN, "HTTP 503"))
        lines = [line for event in logs if "late" in (line := formatEvent(event) or "")]
        self.assertEqual(len(lines), 1)
        self.assertTrue(lines[0].endswith("HTTP 503"), lines)
        self.emit(4)
        self.advance(20)
        self.assertEqual(
            self.delivered(), [(0, None), (3, None), (4, None), (1, "events"), (2, "events")]
        )
        self.assertEqual((self.gap.outcome, self.gap.events), (GapOutcome.RECOVERED, 2))

    def test_deadline_passed_while_alpaca_is_mute(self) -> None:
        """The deadline starts when the stream returns, whatever the requests do."""
        self.host.hanging = True
        self.outage(lambda: self.emit(1))
        self.emit(2)
        self.advance(5.5)
        self.assertEqual(self.delivered(), [(0, None), (2, None)])
        self.assertEqual(self.gap.reason, "Alpaca takes longer than 5 s")
        self.host.hanging = False
        self.advance(60)
        self.assertEqual(self.delivered(), [(0, None), (2, None), (1, "events")])

    def test_full_buffer_is_released_before_the_deadline(self) -> None:
        """A flood of events must not fill the memory; the gap is open, and is recovered later."""
        self.inject(FaultKind.HISTORY_REFUSE, status=503, seconds=12.0)
        self.outage(lambda: self.emit(1))
        newer = range(2, MAX_BUFFERED + 2)
        with capturedLogs() as logs:
            self.flood(newer)
            self.advance(0)
        self.assertEqual(self.delivered(), [(n, None) for n in (0, *newer)])
        reason = "too many newer events wait"
        self.assertEqual((self.gap.outcome, self.gap.reason), (GapOutcome.OPEN, reason))
        self.assertEqual(len(logs), 1)
        self.advance(40)
        self.assertEqual(self.delivered()[-1], (1, "events"))

    def test_full_buffer_before_the_first_stream_is_logged(self) -> None:
        """There is no gap then whose outcome could say it."""
        self.account.start_buffering()
        with capturedLogs() as logs:
            self.flood(range(1, MAX_BUFFERED + 1))
        self.assertIn("10000 events sent now: too many", formatEvent(logs[0]) or "")

    def flood(self, numbers: range) -> None:
        """Publish events of the stream without the simulator, which keeps each."""
        for n in numbers:
            data = b'{"n":%d,"event_id":"flood %d"}' % (n, n)  # no order to ask for
            update = parse_server(frame_event(data))
            assert isinstance(update, TradeUpdate)
            self.account.publish(update.event)

    def test_deadline_of_buffered_events_survives_reconnect(self) -> None:
        """A second loss of the stream does not drop the buffered events."""
        self.inject(FaultKind.HISTORY_DELAY, delay=60)
        self.outage(lambda: self.emit(1))
        self.emit(2)
        self.advance(1)
        self.wire.refusing = True
        self.inject(FaultKind.DROP)
        self.advance(3.5)
        self.assertEqual(self.delivered(), [(0, None)])
        self.advance(1)
        self.assertEqual(self.delivered(), [(0, None), (2, None)])
        self.assertEqual(
            (self.gap.outcome, self.gap.reason), (GapOutcome.OPEN, "the stream was lost again")
        )

    def test_deadline_without_buffered_events_keeps_gap_pending(self) -> None:
        """While the stream is down no newer event is sent, so none is late."""
        self.inject(FaultKind.HISTORY_DELAY, delay=60)
        self.outage(lambda: self.emit(1))
        self.advance(1)
        self.outage(lambda: self.emit(2), 10)
        self.assertEqual(self.gap.outcome, GapOutcome.PENDING)
        self.emit(3)
        self.advance(3)
        self.assertEqual(self.delivered(), [(n, None) for n in range(4)])

    def test_recovery_error_releases_events_and_retries(self) -> None:
        """The error is logged, the gap stays open, and the recovery is retried later."""
        self.rate_limiter.broken = True
        self.outage(lambda: self.emit(1))
        self.emit(2)
        self.advance(0)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(self.delivered(), [(0, None), (2, None)])
        self.assertEqual(
            (self.gap.outcome, self.gap.reason),
            (GapOutcome.OPEN, "an error of the proxy's own: see its log"),
        )
        self.rate_limiter.broken = False
        self.inject(FaultKind.HISTORY_DELAY, delay=9)
        with capturedLogs() as logs:
            self.advance(MAX_RETRY + 12)
        self.assertEqual(len(logs), 1, "no event is buffered, so no deadline passes")
        self.assertEqual(self.delivered(), [(0, None), (2, None), (1, "events")])
        self.assertEqual(self.gap.outcome, GapOutcome.RECOVERED)

    def test_check_error_is_followed_by_next_check(self) -> None:
        """After an error in a check, nothing counts as checked."""
        self.inject(FaultKind.SILENCE, seconds=0.5)
        self.emit(1)
        self.rate_limiter.broken = True
        self.advance(FIRST_CHECK)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.rate_limiter.broken = False
        self.advance(MAX_RETRY + FIRST_CHECK + 2)
        self.assertEqual(self.delivered(), [(0, None), (1, "events")])

    def test_recovered_events_are_marked_only_if_late(self) -> None:
        """After a second outage, the first one's events are late, the second one's are not."""
        self.inject(FaultKind.HISTORY_REFUSE, status=503, seconds=10.0)
        self.outage(lambda: self.emit(1))
        self.emit(2)
        self.advance(5.5)
        self.outage(lambda: self.emit(3), 10)
        self.emit(4)
        self.advance(4)
        self.assertEqual(
            self.delivered(), [(0, None), (2, None), (1, "events"), (3, None), (4, None)]
        )
        self.assertEqual((self.gap.outcome, self.gap.events), (GapOutcome.RECOVERED, 2))


class FlappingTests(RestClientTestCase):
    """Connections that open and close while Alpaca answers no request."""

    def setUp(self) -> None:
        super().setUp()
        self.answer = never
        journal = memory_journal(self.clock)
        self.addCleanup(journal.close)
        journal.append([event(0)])
        self.account = Account("paper", journal, self.clock)
        self.recovery = Recovery(
            self.account, self.rest, RecoverySettings(RecoveryMode.AUTO, 5.0, INTERVAL), self.clock
        )
        self.addCleanup(self.recovery.stop)

    def open(self) -> None:
        self.recovery.connection_opened()

    def come_up(self) -> None:
        self.account.mark_upstream_up()
        self.recovery.stream_up()

    def lose(self) -> None:
        self.recovery.connection_closed()
        self.account.mark_upstream_down("lost")

    def test_deadline_of_earlier_connection_keeps_newer_events(self) -> None:
        """No event was buffered when the connection closed, so a new deadline applies."""
        self.open()
        self.come_up()
        self.clock.advance(1)
        self.lose()
        self.clock.advance(4.9)
        self.open()
        self.clock.advance(0.2)
        self.account.publish(event(1))
        self.assertTrue(self.account.is_buffering)
        self.come_up()
        self.clock.advance(4.9)
        self.assertEqual(self.account.buffered, (event(1),))
        self.clock.advance(0.2)
        self.assertFalse(self.account.is_buffering)

    def test_deadline_between_connect_and_stream_restarts_buffering(self) -> None:
        """The deadline passed between the new connection and its stream."""
        self.open()
        self.come_up()
        self.clock.advance(1)
        self.account.publish(event(1))
        self.lose()
        self.clock.advance(3.9)
        self.open()
        self.clock.advance(0.2)
        self.assertFalse(self.account.is_buffering)
        self.come_up()
        self.account.publish(event(2))
        self.assertEqual(self.account.buffered, (event(2),))

    def test_events_released_in_same_turn_count_as_newer(self) -> None:
        """The deadline can release events in the reactor turn in which the next stream starts."""
        delivered: list[bytes] = []
        journal = self.account.journal
        journal.on_committed = lambda batch: delivered.extend(
            row.payload or b"" for row in batch.rows
        )
        missed, newer = event(1), event(2)
        history = [b"data: %s\n\n" % extract_data(missed.payload)[0]]

        def answer(request: Request) -> bytes | int:
            return event_stream(*history)(request) if b"/v2/events" in request.uri else b"{}"

        self.answer = answer
        self.account.publish(newer)
        self.open()
        self.come_up()
        for _ in range(5):
            self.wires.flush()
            self.clock.advance(0.5)
        self.assertEqual(delivered, [newer.payload, with_mark(missed.payload, Recovered.EVENTS)])
