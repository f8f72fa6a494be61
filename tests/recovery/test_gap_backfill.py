"""Gaps: what is delivered, buffered and counted when, against a server in memory."""

from __future__ import annotations

from typing import Any

from twisted.logger import capturedLogs, formatEvent
from twisted.web.server import Request

from tests.recovery.scripted_case import (
    FILLS,
    HISTORY,
    ScheduleTestCase,
    build_order,
)
from tests.recovery.test_recovery import OrderRecordingJournal
from tests.upstream.support import never, status
from tradeproxy.config.settings import RecoveryMode
from tradeproxy.journal.base import Batch
from tradeproxy.wire.event import Event
from tradeproxy.wire.frame import extract_data
from tradeproxy.wire.proxy_status import GapOutcome


class GapTests(ScheduleTestCase):
    """A backfill of a gap: what is counted and delivered when."""

    def test_orders_are_used_at_third_failure(self) -> None:
        """The attempts come after one and two seconds, and the orders a second later."""
        self.history = status(500)
        self.begin_gap()
        self.wires.advance(6)
        self.assertEqual([time for time in self.list_times(FILLS) if time > 0], [4])

    def test_orders_settle_gap_after_five_minutes(self) -> None:
        """Then the history is requested from the time where it worked last, by every check."""
        self.journal.set_metadata("checked through", None)
        self.history = status(500)
        self.log(self.build(0))
        begin = self.now
        self.clock.advance(1000)
        self.come_up()
        self.wires.advance(400)
        self.assertEqual(self.gap_state, (GapOutcome.ORDERS, 0))
        self.log(self.build(1))
        self.assertEqual(self.account.completeness.checked_through, begin)
        self.asked.clear()
        self.wires.advance(64)
        self.assertEqual(len(self.list_times(HISTORY)), 2)

    def test_buffered_events_do_not_count_as_missed(self) -> None:
        """The stream delivers them too. They follow in the same commit as the missed ones."""
        batches: list[int] = []

        def record(batch: Batch) -> None:
            batches.append(len(batch.rows))

        self.history = never
        self.begin_gap()
        self.lose()
        missed, both, newer = map(self.build, (1, 2, 3))
        self.bring(missed, both)
        self.recovery.connection_opened()
        self.account.mark_upstream_up()
        self.account.publish(both)
        self.account.publish(newer)
        self.journal.on_committed = record
        self.recovery.stream_up()
        self.wires.flush()
        self.assertEqual(self.gap_state, (GapOutcome.RECOVERED, 1))
        self.assertEqual(batches, [3])

    def test_event_that_is_too_large_makes_the_gap_lost(self) -> None:
        """The stream closes for it, and the history's copy is dropped: `recovered` was no truth."""

        def answer(request: Request) -> bytes:
            request.setHeader("content-type", "text/event-stream")
            return b'data: {"pad": "' + b"x" * 1024 * 1024 + b'"}\n\n'

        self.history = answer
        self.begin_gap()
        self.wires.advance(1)
        self.assertEqual(self.gap_state, (GapOutcome.LOST, 0))
        [*_, gap] = self.account.gaps
        self.assertEqual(gap.reason, "an event of the history has more than 1 MiB or 1000 lines")

    def test_order_that_is_too_large_makes_the_gap_lost(self) -> None:
        """Its event is left out. The others are delivered."""
        self.history = status(403)
        self.listed = [
            build_order(0, "canceled", id="large", note="x" * 1024 * 1024),
            build_order(0, "canceled", id="small"),
        ]
        self.begin_gap()
        self.wires.advance(5)
        self.assertEqual(self.gap_state, (GapOutcome.LOST, 1))
        [*_, gap] = self.account.gaps
        self.assertIn("an event made of an order is too large", gap.reason)

    def test_lists_that_are_too_large_make_the_gap_lost(self) -> None:
        """The same page was requested for ever, and the gap stayed open."""
        self.history = status(403)
        self.listed = [build_order(0, id=f"{n}", note="x" * 1_500_000) for n in range(6)]
        with capturedLogs() as logs:
            self.begin_gap()
            self.wires.advance(5)
        self.assertEqual(self.gap_state, (GapOutcome.LOST, 0))
        [*_, gap] = self.account.gaps
        self.assertEqual(
            gap.reason,
            "the history is refused: HTTP 403,"
            " the orders cannot be read: an answer of more than 8 MiB",
        )
        lines = [formatEvent(each) or "" for each in logs]
        self.assertEqual(sum("of more than 8 MiB" in line for line in lines), 1, lines)

    def test_order_that_is_too_large_is_found_again_after_a_reconnect(self) -> None:
        """The second backfill of the gap began behind it, and the gap was not `lost`."""
        self.history = status(500)
        self.come_up()
        self.wires.advance(1)
        self.lose()
        self.clock.advance(10)
        note = "x" * 1024 * 1024
        self.listed = [build_order(0, "canceled", time=self.now, id="large", note=note)]
        self.clock.advance(1000)
        self.come_up()
        self.wires.advance(60)
        self.lose()
        self.clock.advance(2)
        self.come_up()
        self.wires.advance(500)
        self.assertEqual(self.gap_state, (GapOutcome.LOST, 0))

    def test_deadline_counts_what_was_found(self) -> None:
        """Without buffered events too, the gap is open from then on: the next ones are newer."""
        self.history = self.hang_after(self.build(1), self.build(2))
        self.begin_gap()
        self.account.publish(self.build(2))
        self.wires.advance(4.5)
        self.assertEqual(self.gap_state, (GapOutcome.PENDING, 0))
        self.wires.advance(0.5)
        self.assertEqual(self.gap_state, (GapOutcome.OPEN, 1))
        self.assertFalse(self.account.is_buffering)

    def test_deadline_without_buffered_events_opens_gap(self) -> None:
        """The next event of the stream is newer than the missed ones."""
        self.history = never
        self.begin_gap()
        self.wires.advance(5)
        self.assertEqual(self.gap_state, (GapOutcome.OPEN, 0))

    def test_lost_stream_counts_what_was_found(self) -> None:
        """The events were delivered, although the backfill is canceled."""
        self.history = self.hang_after(self.build(1))
        self.begin_gap()
        self.lose()
        self.assertEqual(self.gap_state[1], 1)

    def hang_after(self, *events: Event) -> Any:
        """Return a history that never ends after these events."""
        lines = [b"data: %s\n\n" % extract_data(event.payload)[0] for event in events]

        def answer(request: Request) -> int:
            request.setHeader("content-type", "text/event-stream")
            for line in lines:
                request.write(line)
            return never(request)

        return answer

    def test_each_gap_is_logged_with_its_own_count(self) -> None:
        """The events of the gap before are not among them."""
        self.begin_gap()
        counts = []
        for numbers in ((1, 2), (3,)):
            self.lose()
            self.clock.advance(400)
            self.bring(*map(self.build, numbers))
            with capturedLogs() as logs:
                self.come_up()
            counts.append(" ".join(str(formatEvent(each)) for each in logs))
        for text, count in zip(counts, (2, 1), strict=True):
            self.assertIn(f"recovery ended: recovered, {count} missed event", text)

    def read_down(self, outcome: str = "recovered") -> str:
        """Let the stream come up, and return how long it was down according to the log."""
        with capturedLogs() as logs:
            self.come_up()
        texts = [str(formatEvent(each)) for each in logs]
        [line] = [text for text in texts if f"recovery ended: {outcome}" in text]
        return line.partition("the stream was down for ")[2]

    def test_end_of_recovery_says_how_long_the_stream_was_down(self) -> None:
        """The time since the last event, where the gap begins, may be hours more."""
        self.begin_gap()
        self.come_up()
        self.clock.advance(5000)
        self.lose()
        self.clock.advance(90)
        self.assertEqual(self.read_down(), "90.0 s")
        self.lose()
        self.clock.advance(7)
        self.assertEqual(self.read_down(), "7.0 s")

    def test_stream_that_is_lost_during_its_recovery_was_down_since_the_first_loss(self) -> None:
        """The events of both outages are recovered at once."""
        self.begin_gap()
        self.come_up()
        self.lose()
        self.clock.advance(20)
        self.history = never
        with capturedLogs():
            self.come_up()
        self.clock.advance(1)
        self.lose()
        self.clock.advance(9)
        self.bring()
        self.assertEqual(self.read_down(), "30.0 s")

    def test_stream_of_an_earlier_process_was_down_for_the_gap_at_most(self) -> None:
        """When that process lost it is not known; the gap begins with its last event or check."""
        self.begin_gap()
        self.lose()
        self.recovery.stop()
        self.recovery = self.new_recovery()
        self.clock.advance(60)
        # Alpaca's clock is known to a second.
        self.assertEqual(self.read_down(), "at most about 59 s")

    def test_second_stream_up_replaces_backfill(self) -> None:
        """The gap is longer now."""
        self.history = never
        self.begin_gap()
        self.bring(self.build(1))
        self.recovery.stream_up()
        self.wires.flush()
        self.assertEqual(self.gap_state, (GapOutcome.RECOVERED, 1))
        self.assertEqual(len(self.list_times(HISTORY)), 2)
        self.wires.advance(25)
        self.assertEqual(self.list_times(HISTORY), [])

    def test_gap_is_lost_if_log_was_trimmed_beyond_its_begin(self) -> None:
        """Missed events up to the horizon would be dropped as duplicates."""
        for beyond, outcome in ((0, GapOutcome.RECOVERED), (1, GapOutcome.LOST)):
            self.setUp()
            self.come_up()
            self.lose()
            gap = self.account.gaps.current
            assert gap is not None
            assert gap.begin is not None
            self.journal.advance_dedup_horizon(gap.begin + beyond)
            self.clock.advance(100)
            self.come_up()
            self.assertEqual(self.gap_state[0], outcome, beyond)


class StoredProgressTests(ScheduleTestCase):
    """A journal that records its last event whenever the complete time is updated."""

    def new_journal(self) -> OrderRecordingJournal:
        journal = OrderRecordingJournal(self.clock)
        journal.open()
        return journal

    def test_found_events_are_written_before_progress(self) -> None:
        """After a crash in between, the events counted as delivered and were never requested."""
        assert isinstance(self.journal, OrderRecordingJournal)
        self.come_up()
        self.lose()
        self.clock.advance(100)
        self.bring(self.build(1), self.build(2))
        self.journal.last_at_update.clear()
        self.come_up()
        self.assertEqual(self.journal.last_at_update, [2])


class ConnectionTests(ScheduleTestCase):
    """Connections that end, or have not begun to stream."""

    def test_events_before_stream_are_buffered_until_deadline(self) -> None:
        """The stream begins a moment later. If it does not, nothing else releases them."""
        self.come_up()
        self.lose()
        self.recovery.connection_opened()
        event = self.build(1)
        self.account.publish(event)
        self.assertEqual(self.account.buffered, (event,))
        self.recovery.connection_closed()
        self.clock.advance(4.5)
        self.assertEqual(self.account.buffered, (event,))
        self.clock.advance(0.5)
        self.assertEqual(self.account.buffered, ())

    def test_late_event_of_outage_does_not_make_stream_mute(self) -> None:
        """The stream could not bring what happened before its connection."""
        self.come_up()
        self.lose()
        event = self.build(1)
        self.clock.advance(100)
        self.come_up()
        self.bring(event)
        self.wires.advance(30)
        self.assertEqual(self.account.gaps.found["check"], 1)
        self.assertFalse(self.account.is_mute)

    def test_stop_ends_all_requests(self) -> None:
        """The connection may still be open."""
        self.come_up()
        self.recovery.stop()
        self.asked.clear()
        self.wires.advance(1000)
        self.assertEqual(self.asked, [])


class OffScheduleTests(ScheduleTestCase):
    """PROXY_RECOVERY=off."""

    mode = RecoveryMode.OFF

    def test_gap_is_lost_without_a_request(self) -> None:
        """Events are passed on at once."""
        self.begin_gap()
        self.assertEqual(self.gap_state[0], GapOutcome.LOST)
        self.assertFalse(self.account.is_buffering)
        self.wires.advance(100)
        self.assertEqual(self.asked, [])
