"""Newer events wait for missed ones, but not for long."""

from __future__ import annotations

from twisted.logger import capturedLogs, formatEvent
from twisted.web.server import Request

from tests.recovery.recovery_case import INTERVAL, RecoveryTestCase
from tests.support.journals import event, memory_journal
from tests.upstream.support import RestTestCase, event_stream, never
from tradeproxy.config.settings import RecoveryMode, RecoverySettings
from tradeproxy.hub.account import Account
from tradeproxy.recovery.recovery import MAX_RETRY, Recovery
from tradeproxy.simulator.faults import FaultKind
from tradeproxy.wire.frame import Recovered, extract_data, with_mark
from tradeproxy.wire.proxy_status import GapOutcome


class LateTests(RecoveryTestCase):
    """Newer events don't wait longer than the deadline."""

    def test_past_the_deadline_what_was_missed_comes_late_and_marked(self) -> None:
        """Newer events go first, the gap is open and says why; in the end it is recovered all the same."""
        self.inject(FaultKind.HISTORY_REFUSE, status=503, seconds=12.0)
        self.outage(lambda: self.emit(1, 2))
        self.emit(3)
        with capturedLogs() as logs:
            self.advance(4.5)
            self.assertEqual(self.told(), [(0, None)])
            self.advance(1)
        self.assertEqual(self.told(), [(0, None), (3, None)])
        self.assertEqual((self.gap.outcome, self.gap.reason), (GapOutcome.OPEN, "HTTP 503"))
        lines = [line for event in logs if "late" in (line := formatEvent(event) or "")]
        self.assertEqual(len(lines), 1)
        self.assertTrue(lines[0].endswith("HTTP 503"), lines)
        self.emit(4)
        self.advance(20)
        self.assertEqual(
            self.told(), [(0, None), (3, None), (4, None), (1, "events"), (2, "events")]
        )
        self.assertEqual((self.gap.outcome, self.gap.events), (GapOutcome.RECOVERED, 2))

    def test_a_mute_alpaca_is_no_reason_to_wait(self) -> None:
        """The deadline counts from the stream's return, whatever the requests do."""
        self.host.hanging = True
        self.outage(lambda: self.emit(1))
        self.emit(2)
        self.advance(5.5)
        self.assertEqual(self.told(), [(0, None), (2, None)])
        self.assertEqual(self.gap.reason, "Alpaca takes longer than 5 s")
        self.host.hanging = False
        self.advance(60)
        self.assertEqual(self.told(), [(0, None), (2, None), (1, "events")])

    def test_held_events_outlive_a_connection_but_not_the_deadline(self) -> None:
        """A stream that is lost again takes nothing along."""
        self.inject(FaultKind.HISTORY_DELAY, delay=60)
        self.outage(lambda: self.emit(1))
        self.emit(2)
        self.advance(1)
        self.wire.refusing = True
        self.inject(FaultKind.DROP)
        self.advance(3.5)
        self.assertEqual(self.told(), [(0, None)])
        self.advance(1)
        self.assertEqual(self.told(), [(0, None), (2, None)])
        self.assertEqual(
            (self.gap.outcome, self.gap.reason), (GapOutcome.OPEN, "the stream was lost again")
        )

    def test_a_deadline_without_held_events_opens_no_gap(self) -> None:
        """While the stream is down nothing newer goes by, so nothing will be late."""
        self.inject(FaultKind.HISTORY_DELAY, delay=60)
        self.outage(lambda: self.emit(1))
        self.advance(1)
        self.outage(lambda: self.emit(2), 10)
        self.assertEqual(self.gap.outcome, GapOutcome.PENDING)
        self.emit(3)
        self.advance(3)
        self.assertEqual(self.told(), [(n, None) for n in range(4)])

    def test_a_mistake_of_our_own_holds_up_nobody(self) -> None:
        """It is logged, the gap stays open, newer events go on at once; and it is tried again later."""
        self.budget.broken = True
        self.outage(lambda: self.emit(1))
        self.emit(2)
        self.advance(0)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(self.told(), [(0, None), (2, None)])
        self.assertEqual(
            (self.gap.outcome, self.gap.reason),
            (GapOutcome.OPEN, "an error of the proxy's own: see its log"),
        )
        self.budget.broken = False
        self.inject(FaultKind.HISTORY_DELAY, delay=10)
        with capturedLogs() as logs:
            self.advance(MAX_RETRY + 12)
        self.assertEqual(len(logs), 1, "nothing waits any more, so no deadline passes")
        self.assertEqual(self.told(), [(0, None), (2, None), (1, "events")])
        self.assertEqual(self.gap.outcome, GapOutcome.RECOVERED)

    def test_a_mistake_in_a_check_ends_no_checks(self) -> None:
        """Neither a mistake nor the way out of it makes anything count as looked at."""
        self.inject(FaultKind.SILENCE, seconds=0.5)
        self.emit(1)
        self.budget.broken = True
        self.advance(INTERVAL)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.budget.broken = False
        self.advance(MAX_RETRY + INTERVAL + 2)
        self.assertEqual(self.told(), [(0, None), (1, "events")])

    def test_only_what_is_older_than_what_was_delivered_is_marked(self) -> None:
        """After another outage the events of the first are late, those of the second are not."""
        self.inject(FaultKind.HISTORY_REFUSE, status=503, seconds=10.0)
        self.outage(lambda: self.emit(1))
        self.emit(2)
        self.advance(5.5)
        self.outage(lambda: self.emit(3), 10)
        self.emit(4)
        self.advance(4)
        self.assertEqual(self.told(), [(0, None), (2, None), (1, "events"), (3, None), (4, None)])
        self.assertEqual((self.gap.outcome, self.gap.events), (GapOutcome.RECOVERED, 2))


class FlappingTests(RestTestCase):
    """Connections that come and go while Alpaca answers nothing."""

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

    def test_an_older_connections_deadline_does_not_let_go_of_newer_events(self) -> None:
        """Nothing was held when it was lost, so what follows has a deadline of its own."""
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

    def test_a_deadline_of_held_events_stays_and_what_follows_waits_again(self) -> None:
        """It passed between the new connection and its stream."""
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

    def test_what_is_handed_on_in_this_very_turn_is_newer_too(self) -> None:
        """The deadline may let go of events in the turn in which the next stream begins."""
        told: list[bytes] = []
        journal = self.account.journal
        journal.on_committed = lambda burst: told.extend(row.payload or b"" for row in burst.rows)
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
        self.assertEqual(told, [newer.payload, with_mark(missed.payload, Recovered.EVENTS)])
