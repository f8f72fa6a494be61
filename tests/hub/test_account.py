"""Tests for tradeproxy.hub.account."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace
from twisted.internet.task import Clock
from twisted.logger import LogLevel, capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from tests.support.journals import (
    DAY,
    Connections,
    DiskCase,
    MemoryCase,
    SqliteCase,
    event,
    journal_at,
    memory_journal,
    time_of,
)
from tests.support.redisjournals import RedisJournalCase
from tradeproxy.hub.account import ANOTHER_ACCOUNT, RECONNECT_REASONS, Account
from tradeproxy.hub.broadcaster import CHUNK
from tradeproxy.hub.locate import UnrecoverablePositionError, locate
from tradeproxy.hub.replication import StreamState
from tradeproxy.journal.backlog import MAX_BYTES
from tradeproxy.journal.disk import WATCH_EVERY
from tradeproxy.runtime.dates import Dates
from tradeproxy.runtime.stats import SERIES_STEP
from tradeproxy.wire.position import AfterId, Cursor
from tradeproxy.wire.proxy_status import Gap, GapOutcome, JournalStatus, UpstreamStatus

if TYPE_CHECKING:
    from collections.abc import Callable

    from tradeproxy.journal.base import Batch, Journal


BEGIN = time_of(0) // 1_000_000
"""When the tests begin (Unix time): one second before the time of event 1."""


class PayloadSubscriber:
    """A subscriber that records what it gets, then calls `on_delivery`."""

    size = 1

    def __init__(self, on_delivery: Callable[[], object] = lambda: None) -> None:
        self.batches: list[list[bytes | None]] = []
        self.statuses: list[dict[str, Any]] = []
        self.last: Batch | None = None
        self._on_delivery = on_delivery

    def deliver(self, batch: Batch) -> None:
        """Record the payloads."""
        self.last = batch
        self.batches.append([row.payload for row in batch.rows])
        self._on_delivery()

    def announce(self, status: bytes) -> None:
        """Record the content of the frame."""
        self.statuses.append(json.loads(status)["data"])

    def abort(self) -> None:
        """Do nothing: no delivery fails here."""


class AccountTestCase(MemoryCase):
    """A base class with an account and one subscriber."""

    now = BEGIN

    def setUp(self) -> None:
        super().setUp()
        self.journal = self.open()
        self.account = Account("paper", self.journal, self.clock)
        self.subscriber = PayloadSubscriber()
        self.account.broadcaster.register(self.subscriber)

    def assert_delivered(self, *batches: list[int]) -> None:
        """Assert that exactly these batches were delivered, by the numbers of their events."""
        self.assertEqual(
            self.subscriber.batches, [[event(n).payload for n in batch] for batch in batches]
        )

    def publish(self, *numbers: int) -> None:
        for n in numbers:
            self.account.publish(event(n))


class PublishTests(AccountTestCase):
    """Published events are delivered as batches, after the journal has committed them."""

    def test_publish_several_events_in_one_turn_delivers_one_batch(self) -> None:
        """Events of one turn of the reactor are delivered at its end, together and in order."""
        self.publish(3, 1, 2)
        self.assert_delivered()
        self.clock.advance(0)
        self.assert_delivered([3, 1, 2])

    def test_publish_event_delivers_payload_unchanged(self) -> None:
        """The delivered payload is the object that was published, not a copy."""
        published = event(1)
        self.account.publish(published)
        self.clock.advance(0)
        self.assertIs(self.subscriber.batches[0][0], published.payload)

    def test_publish_event_is_in_journal_before_delivery(self) -> None:
        """A subscriber finds an event in the journal at the moment of its delivery (promise 1)."""
        found: list[int | None] = []
        other = PayloadSubscriber(lambda: found.append(self.journal.find(event(1).identity)))
        self.account.broadcaster.register(other)
        self.publish(1)
        self.clock.advance(0)
        self.assertEqual(found, [1])

    def test_publish_in_two_turns_delivers_two_batches(self) -> None:
        """The events of one turn do not wait for those of the next."""
        self.publish(1)
        self.clock.advance(0)
        self.publish(2, 3)
        self.clock.advance(0)
        self.assert_delivered([1], [2, 3])

    def test_publish_duplicate_drops_and_counts_it(self) -> None:
        """Duplicates are dropped and counted; without a new event there is no batch."""
        self.publish(1, 1)
        self.clock.advance(0)
        self.publish(1)
        self.clock.advance(0)
        self.assert_delivered([1])
        self.assertEqual(self.journal.duplicates, 2)

    def test_publish_during_delivery_delivers_in_next_turn(self) -> None:
        """An event published during a delivery follows the current batch, for every subscriber."""
        again = [2]
        echo = PayloadSubscriber(lambda: self.publish(again.pop()) if again else None)
        self.account.broadcaster.register(echo)
        last = PayloadSubscriber()
        self.account.broadcaster.register(last)
        self.publish(1)
        # One advance of a Clock also runs the calls that are scheduled meanwhile for time 0.
        self.clock.advance(0)
        for subscriber in (self.subscriber, echo, last):
            self.assertEqual(subscriber.batches, [[event(1).payload], [event(2).payload]])

    def test_publish_delivered_leaves_no_timer(self) -> None:
        """It is due at once, not in the past, which a reactor refuses."""
        before = len(self.clock.getDelayedCalls())
        self.publish(1, 2)
        self.assertEqual(len(self.clock.getDelayedCalls()), before + 1)
        due = min(call.getTime() for call in self.clock.getDelayedCalls())
        self.assertEqual(due, self.clock.seconds())
        self.clock.advance(0)
        self.assertEqual(len(self.clock.getDelayedCalls()), before)

    def test_publish_two_accounts_delivers_to_own_subscribers_only(self) -> None:
        """A subscriber of one account gets no event of another."""
        other, listener = (
            Account("live", memory_journal(self.clock, "live"), self.clock),
            PayloadSubscriber(),
        )
        other.broadcaster.register(listener)
        self.publish(1)
        other.publish(event(2))
        self.clock.advance(0)
        self.assert_delivered([1])
        self.assertEqual(listener.batches, [[event(2).payload]])


class ReadTests(AccountTestCase):
    """The events of one read are delivered at its end, without another turn of the reactor."""

    def test_events_of_one_read_are_one_batch(self) -> None:
        """They are delivered when the read ends, and no timer is set."""
        before = self.clock.getDelayedCalls()
        self.account.begin_read()
        self.publish(1)
        self.account.begin_read()  # the next TLS record of the same read
        self.publish(2)
        self.assert_delivered()
        self.assertEqual(self.clock.getDelayedCalls(), before)
        self.account.end_read()
        self.assert_delivered([1, 2])

    def test_read_without_event_delivers_nothing(self) -> None:
        """A pong, or half a frame."""
        self.account.begin_read()
        self.account.end_read()
        self.assert_delivered()

    def test_events_of_this_turn_are_delivered_with_the_read(self) -> None:
        """They are older. Their timer then has nothing to do."""
        self.account.publish_recovered(event(1))
        self.account.begin_read()
        self.publish(2)
        self.account.end_read()
        self.assert_delivered([1, 2])
        self.clock.advance(0)
        self.assert_delivered([1, 2])

    def test_end_of_buffering_within_a_read_delivers_at_its_end(self) -> None:
        """As after the first stream of a process."""
        self.account.start_buffering()
        self.account.begin_read()
        self.publish(1)
        self.account.stop_buffering()
        self.publish(2)
        self.account.end_read()
        self.assert_delivered([1, 2])

    def test_publish_during_delivery_of_a_read_waits_for_the_next_turn(self) -> None:
        """The delivery is not entered again: every subscriber gets the first event before."""
        again = [2]

        def echo() -> None:
            if again:
                self.publish(again.pop())
                self.assertEqual(last.batches, [])

        self.account.broadcaster.register(PayloadSubscriber(echo))
        last = PayloadSubscriber()
        self.account.broadcaster.register(last)
        self.account.begin_read()
        self.publish(1)
        self.account.end_read()
        self.assertEqual(last.batches, [[event(1).payload]])
        self.clock.advance(0)
        self.assertEqual(last.batches, [[event(1).payload], [event(2).payload]])

    def test_flush_during_delivery_of_a_read_delivers_nothing_twice(self) -> None:
        """The account may be closed by what a delivery does."""
        self.account.broadcaster.register(PayloadSubscriber(self.account.flush))
        self.account.begin_read()
        self.publish(1, 2)
        self.account.end_read()
        self.assert_delivered([1, 2])

    def test_subscriber_that_leaves_or_fails_during_the_delivery_is_dropped_alone(self) -> None:
        """Neither a client's close nor an error reaches the read."""

        def fail() -> None:
            raise ZeroDivisionError

        leaving = PayloadSubscriber(lambda: self.account.broadcaster.unregister(leaving))
        self.account.broadcaster.register(leaving)
        self.account.broadcaster.register(PayloadSubscriber(fail))
        last = PayloadSubscriber()
        self.account.broadcaster.register(last)
        for n in (1, 2):
            self.account.begin_read()
            self.publish(n)
            self.account.end_read()
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(leaving.batches, [[event(1).payload]])
        self.assertEqual(last.batches, [[event(1).payload], [event(2).payload]])

    def test_error_in_the_journal_leaves_later_events(self) -> None:
        """The error reaches the caller. The next event has a turn of its own."""
        self.journal.on_committed, kept = self.fail_once, self.journal.on_committed
        self.account.begin_read()
        self.publish(1)
        self.assertRaises(ZeroDivisionError, self.account.end_read)
        self.journal.on_committed = kept
        self.publish(2)
        self.clock.advance(0)
        self.assert_delivered([2])

    def fail_once(self, batch: Batch) -> None:
        raise ZeroDivisionError


class AccountCloseTests(AccountTestCase):
    """Closing the account loses no event."""

    def test_close_with_undelivered_events_commits_and_delivers_them(self) -> None:
        """Pending and buffered events are delivered; the timer of the turn then does nothing."""
        self.account.start_buffering()
        self.publish(2)
        self.account.publish_recovered(event(1))
        self.account.close()
        self.assert_delivered([1, 2])
        self.clock.advance(60)
        self.assert_delivered([1, 2])


class BufferingTests(AccountTestCase):
    """While missed events are being fetched, newer events are buffered."""

    def test_stop_buffering_delivers_recovered_then_buffered_then_live_events(self) -> None:
        """Recovered events precede buffered events, and these precede live ones."""
        self.account.start_buffering()
        self.publish(3, 4)
        self.clock.advance(0)
        self.account.publish_recovered(event(1))
        self.clock.advance(0)
        self.account.publish_recovered(event(2))
        self.account.stop_buffering()
        self.publish(5)
        self.clock.advance(0)
        self.assert_delivered([1], [2, 3, 4, 5])

    def test_buffered_lists_events_until_stop_buffering(self) -> None:
        """Starting twice loses nothing. The account is settled only after the delivery."""
        self.assertFalse(self.account.is_buffering)
        self.account.start_buffering()
        self.publish(1)
        self.account.start_buffering()
        self.assertFalse(self.account.is_settled)
        self.assertTrue(self.account.is_buffering)
        self.assertEqual(self.account.buffered, (event(1),))
        self.account.stop_buffering()
        self.assertEqual((self.account.buffered, self.account.is_buffering), ((), False))
        self.account.stop_buffering()
        self.assertFalse(self.account.is_settled, "it is not delivered yet")
        self.clock.advance(0)
        self.assert_delivered([1])
        self.assertTrue(self.account.is_settled)

    def test_stop_buffering_event_recovered_and_buffered_delivers_it_once(self) -> None:
        """A backfill may find an event that the stream has sent meanwhile."""
        self.account.start_buffering()
        self.publish(1, 2)
        self.account.publish_recovered(event(1))
        self.account.stop_buffering()
        self.clock.advance(0)
        self.assert_delivered([1, 2])


class LatencyTests(AccountTestCase):
    """Latency is the time from the read of an event to the last subscriber's delivery."""

    def measured(self) -> tuple[float, float, int]:
        """Return all seconds of latency, the slowest of the last step, and the deliveries."""
        latency = self.account.latency
        slowest = self.account.slowest.series(int(self.clock.seconds()) // SERIES_STEP)[-1]
        return round(latency.total, 3), round(slowest or 0.0, 3), latency.counts[-1]

    def test_latency_begins_when_data_is_received(self) -> None:
        """Parsing, and the events that follow in the same read, are included."""
        self.assertEqual(self.measured(), (0.0, 0.0, 0))
        self.account.begin_read()
        self.clock.advance(0.25)
        self.publish(1)
        self.clock.advance(0.5)
        self.publish(2)
        self.account.end_read()
        self.assertEqual(self.measured(), (0.75, 0.75, 1))

    def test_latency_of_recovered_event_begins_when_it_is_published(self) -> None:
        """It was received by another connection."""
        self.account.begin_read()
        self.account.end_read()
        self.clock.advance(100)
        self.account.publish_recovered(event(1))
        self.clock.advance(0.5)
        self.assertEqual(self.measured(), (0.5, 0.5, 1))

    def test_latency_of_buffered_events_includes_the_wait(self) -> None:
        """Even if a recovered event, which came later, is delivered with them."""
        self.account.begin_read()
        self.account.start_buffering()
        self.publish(2)
        self.account.end_read()
        self.clock.advance(2)
        self.account.begin_read()
        self.publish(3)
        self.account.end_read()
        self.clock.advance(1)
        self.account.publish_recovered(event(1))
        self.account.stop_buffering()
        self.account.flush()
        self.assertEqual(self.measured(), (3.0, 3.0, 1))

    def test_batch_sizes_counts_events_of_each_batch(self) -> None:
        """The metric shows how many events one commit saves."""
        self.publish(1, 2, 3)
        self.clock.advance(0)
        self.publish(4)
        self.clock.advance(0)
        sizes = self.account.batch_sizes
        self.assertEqual((sizes.total, sizes.counts[-1]), (4.0, 2))


class EventTimeTests(AccountTestCase):
    """Times of events that the stream brought."""

    def test_newest_streamed_is_highest_time_of_the_stream(self) -> None:
        """Recovered events, and events without a time, do not change it."""
        self.assertEqual(self.account.newest_streamed, 0)
        self.account.publish(event(9, at=None))
        self.assertEqual(self.account.newest_streamed, 0)
        self.publish(3, 1)
        self.account.publish_recovered(event(5))
        self.assertEqual(self.account.newest_streamed, time_of(3))
        self.account.start_buffering()
        self.publish(4)
        self.assertEqual(self.account.newest_streamed, time_of(3))
        self.account.stop_buffering()
        self.assertEqual(self.account.newest_streamed, time_of(4))

    def test_publish_event_of_the_future_gets_present_time(self) -> None:
        """With its own time every later event would count as older than the log."""
        future = event(1, at="2999-01-01T00:00:00Z")
        self.account.publish(future)
        self.clock.advance(0)
        self.assertEqual(self.subscriber.batches, [[future.payload]])
        self.assertEqual(self.account.newest_streamed, BEGIN * 1_000_000)
        self.assertEqual(self.journal.newest_time, BEGIN * 1_000_000)


class NewAccountTests(AccountTestCase):
    """An account before anything has happened."""

    def test_new_account_has_every_count_at_zero(self) -> None:
        """Prometheus computes no rate from a series that begins with its first event."""
        self.assertEqual(self.account.reconnect_reasons, dict.fromkeys(RECONNECT_REASONS, 0))
        self.assertEqual(self.account.reconnects, 0)

    def test_new_account_is_healthy_and_has_no_role(self) -> None:
        """/healthz and /readyz read these before the first connection."""
        account = self.account
        self.assertEqual((account.has_failed, account.is_mute, account.role), (False, False, None))


class WrongClockTests(AccountTestCase):
    """The machine's clock is ahead until Alpaca's clock is known."""

    now = BEGIN + 90 * int(DAY)

    def open(self, **options: Any) -> Journal:
        dates = Dates(self.clock.seconds, self.clock.seconds)
        return super().open(dates=dates, **options)

    def test_upstream_up_corrects_log_and_gap(self) -> None:
        """The Date of the handshake may be the one that confirms Alpaca's clock.

        A log that is complete from a future time would reject every position until then.
        """
        self.account.mark_upstream_up()
        self.account.mark_upstream_down("lost")
        for _ in range(2):
            self.journal.dates.observe(self.clock.seconds() - 90 * DAY)
            self.clock.advance(40)
        self.account.mark_upstream_up()
        now = round((self.clock.seconds() - 90 * DAY) * 1_000_000)
        [gap] = self.account.gaps
        assert gap.begin is not None
        self.assertLessEqual(gap.begin, now)
        self.assertLessEqual(self.journal.complete_from, now)


class FlushTests(AccountTestCase):
    """A flush commits and delivers before the end of the turn."""

    def test_flush_pending_events_delivers_them_at_once(self) -> None:
        """The end of the turn then delivers nothing again."""
        self.publish(1, 2)
        self.assert_delivered()
        self.account.flush()
        self.assert_delivered([1, 2])
        self.clock.advance(0)
        self.assert_delivered([1, 2])


class AccountCursorTests(AccountTestCase):
    """Cursors are valid after a restart of the process."""

    def test_cursor_at_returns_cursor_for_every_row(self) -> None:
        """There is a cursor before the first row and behind each row, but none beyond the last."""
        self.publish(1, 2)
        self.clock.advance(0)
        assert self.subscriber.last is not None
        cursors = [self.account.cursor_at(seq) for seq in range(3)]
        self.assertEqual(
            cursors[1:], [self.account.cursor_after(row) for row in self.subscriber.last.rows]
        )
        parsed = [Cursor.parse(str(cursor)) for cursor in cursors]
        self.assertEqual([cursor and cursor.seq for cursor in parsed], [0, 1, 2])
        self.assertEqual({cursor and cursor.epoch for cursor in parsed}, {self.journal.epoch})
        self.assertIsNone(self.account.cursor_at(3))

    def test_cursor_after_row_that_is_not_durable_is_none(self) -> None:
        """A crash would lose the row, and another event would get its number."""
        self.publish(1)
        self.clock.advance(0)
        assert self.subscriber.last is not None
        [row] = self.subscriber.last.rows
        self.assertIsNotNone(self.account.cursor_after(row))
        self.assertIsNone(self.account.cursor_after(replace(row, durable=False)))

    def test_hello_contains_cursor_upstream_journal_and_gaps(self) -> None:
        """The hello frame holds the whole state of the account."""
        self.account.mark_upstream_up()
        self.publish(1)
        self.clock.advance(0)
        self.account.mark_upstream_down("lost")
        data = json.loads(self.account.hello(1))["data"]
        self.assertEqual((data["event"], data["account"]), ("hello", "paper"))
        self.assertEqual(data["cursor"], self.account.cursor_at(1))
        self.assertEqual((data["upstream"]["state"], data["upstream"]["reason"]), ("down", "lost"))
        self.assertEqual(data["journal"]["state"], "durable")
        self.assertEqual([gap["outcome"] for gap in data["gaps"]], ["pending"])


class DropFrameTests(SynchronousTestCase):
    """Frames that are not events are counted."""

    def test_drop_frame_repeated_problem_counts_all_and_logs_first(self) -> None:
        """Any number of unusable frames costs one log line per problem."""
        clock = Clock()
        account = Account("paper", memory_journal(clock), clock)
        with capturedLogs() as events:
            for problem in ("not JSON", "an error frame", "not JSON", "not JSON"):
                account.drop_frame(problem)
        self.assertEqual(account.dropped_frames, {"not JSON": 3, "an error frame": 1})
        self.assertEqual(
            [(event["log_level"], event["account"], event["problem"]) for event in events],
            [(LogLevel.warn, "paper", "not JSON"), (LogLevel.warn, "paper", "an error frame")],
        )
        for logged in events:
            self.assertIn(logged["problem"], formatEvent(logged))


class UpstreamStatusTests(SynchronousTestCase):
    """The account records the state of its upstream, and since when."""

    def test_upstream_after_each_change_has_state_reason_and_since(self) -> None:
        """`since` is the beginning of the state: another failed attempt does not move it."""
        clock = Clock()
        clock.advance(1000)
        account = Account("paper", memory_journal(clock), clock)
        up, down = account.mark_upstream_up, account.mark_upstream_down
        self.assertEqual(account.upstream, UpstreamStatus(False, "not connected yet", 1000.0))
        steps: list[tuple[str, Callable[[], None], UpstreamStatus]] = [
            (
                "the first attempt fails",
                lambda: down("refused"),
                UpstreamStatus(False, "refused", 1000.0),
            ),
            ("it comes up", up, UpstreamStatus(True, "streaming", 1020.0)),
            ("it is lost", lambda: down("lost"), UpstreamStatus(False, "lost", 1030.0)),
            (
                "an attempt fails",
                lambda: down("HTTP 429"),
                UpstreamStatus(False, "HTTP 429", 1030.0),
            ),
            ("it comes up again", up, UpstreamStatus(True, "streaming", 1050.0)),
            ("it is lost again", lambda: down("lost"), UpstreamStatus(False, "lost", 1060.0)),
        ]
        for name, step, status in steps:
            clock.advance(10)
            step()
            self.assertEqual(account.upstream, status, name)


class AccountGapTests(AccountTestCase):
    """An outage is a gap: from the last event to the return of the stream."""

    def outage(self) -> None:
        self.account.mark_upstream_down("lost")
        self.clock.advance(10)
        self.account.mark_upstream_up()

    def test_upstream_up_with_new_journal_begins_no_gap(self) -> None:
        """Before the first stream of a new journal no event can have been missed."""
        self.account.mark_upstream_up()
        self.assertIsNone(self.account.gaps.current)

    def test_outage_begins_gap_at_last_event(self) -> None:
        """The gap lasts from the newest event to the return of the stream."""
        self.account.mark_upstream_up()
        self.publish(1)
        self.clock.advance(0)
        self.outage()
        gap = self.account.gaps.current
        assert gap is not None
        self.assertEqual(gap.begin, event(1).time)
        self.assertEqual(gap.end, (BEGIN + 10) * 1_000_000)

    def test_upstream_up_with_earlier_journal_begins_gap_at_last_event(self) -> None:
        """Events while no proxy ran were missed too. A failed attempt begins no gap."""
        self.journal.append([event(1)])
        self.account.mark_upstream_down("refused")
        self.assertIsNone(self.account.gaps.current)
        self.account.mark_upstream_up()
        gap = self.account.gaps.current
        assert gap is not None
        self.assertEqual(gap.begin, event(1).time)

    def test_outage_announces_every_change_of_upstream_and_gap(self) -> None:
        """Subscribers get a frame for each change of the upstream and of the gap."""
        self.account.mark_upstream_up()
        self.publish(1)
        self.clock.advance(0)
        self.subscriber.statuses.clear()
        self.outage()
        self.account.gaps.count_found(3)
        self.account.gaps.settle(GapOutcome.RECOVERED)
        announced = [
            (status["event"], status.get("outcome", status.get("state")))
            for status in self.subscriber.statuses
        ]
        self.assertEqual(
            announced,
            [
                ("upstream", "down"),
                ("gap", "pending"),
                ("upstream", "up"),
                ("gap", "pending"),
                ("gap", "recovered"),
            ],
        )
        self.assertEqual(self.subscriber.statuses[-1]["events"], 3)

    def test_identify_another_account_settles_gap_as_lost_and_sends_hello(self) -> None:
        """The hello frame has a cursor of the new epoch. The same account changes nothing."""
        self.account.identify("one")
        self.account.mark_upstream_up()
        self.publish(1)
        self.clock.advance(0)
        self.account.mark_upstream_down("lost")
        self.subscriber.statuses.clear()
        epoch = self.journal.epoch
        self.account.identify("one")
        self.assertEqual(self.subscriber.statuses, [])
        self.account.identify("two")
        hello, gap = self.subscriber.statuses
        self.assertEqual((gap["outcome"], gap["reason"]), ("lost", ANOTHER_ACCOUNT))
        self.assertEqual(hello["event"], "hello")
        self.assertNotIn(epoch, hello["cursor"])

    def test_reconnects_counts_streams_after_the_first(self) -> None:
        """Failed attempts and the first stream do not count."""
        self.account.mark_upstream_down("refused")
        self.account.mark_upstream_up()
        self.assertEqual(self.account.reconnects, 0)
        self.outage()
        self.outage()
        self.assertEqual(self.account.reconnects, 2)

    def test_upstream_down_same_reason_announces_once(self) -> None:
        """Repeated attempts with the same failure are announced once."""
        for reason in ("refused", "refused", "HTTP 429"):
            self.account.mark_upstream_down(reason)
        self.assertEqual(
            [status["reason"] for status in self.subscriber.statuses], ["refused", "HTTP 429"]
        )


class HoleCursorTests(SqliteCase):
    """Events of a hole all have its number, and a fan-out may take several turns."""

    def test_cursor_of_hole_with_queued_events_is_none(self) -> None:
        """With it, a client that has one event of the hole would miss the queued one unnoticed."""
        disk = Connections()
        account = Account("paper", journal_at(self.path, self.clock, connect=disk), self.clock)
        account.open()
        self.addCleanup(account.close)
        first = PayloadSubscriber()
        first.size = CHUNK
        account.broadcaster.register(first)
        account.broadcaster.register(PayloadSubscriber())
        disk.refuse_writing()
        for n in range(3):
            account.publish(replace(event(n), payload=b"x" * (MAX_BYTES // 2 + 1)))
            account.flush()
        disk.refuse_writing(False)
        account.journal.append([])
        hole = account.journal.last
        self.assertIsNone(account.cursor_at(hole))
        self.clock.pump([0] * 8)
        self.assertIsNotNone(account.cursor_at(hole))


class ReplacedFileTests(MemoryCase):
    """A damaged journal file does not affect the gaps."""

    now = BEGIN

    def test_identify_after_file_replaced_keeps_gap_pending(self) -> None:
        """A new epoch because of damage is not another account: missed events are still sought."""
        disk = Connections()
        journal = journal_at(Path(self.mktemp()) / "paper.sqlite3", self.clock, connect=disk)
        account = Account("paper", journal, self.clock)
        account.open()
        self.addCleanup(account.close)
        account.mark_upstream_up()
        account.publish(event(1))
        self.clock.advance(0)
        account.mark_upstream_down("lost")
        epoch = journal.epoch
        disk.execute("DROP TABLE meta")
        account.identify("one")
        self.assertNotEqual(journal.epoch, epoch)
        gap = account.gaps.current
        assert gap is not None
        self.assertEqual(gap.outcome, GapOutcome.PENDING)

    def test_lost_file_announces_new_epoch(self) -> None:
        """Clients get the new cursor. Live ones continue; older positions are unknown."""
        path = Path(self.mktemp()) / "paper.sqlite3"
        disk = Connections()
        journal = journal_at(path, self.clock, connect=disk)
        account = Account("paper", journal, self.clock)
        account.open()
        self.addCleanup(account.close)
        for number, lose in enumerate(
            (
                lambda: disk.execute("DROP TABLE meta"),
                path.unlink,
                lambda: path.parent.rename(self.mktemp()),
            )
        ):
            account.publish(event(2 * number))
            self.clock.advance(0)
            subscriber = PayloadSubscriber()
            account.broadcaster.register(subscriber)
            cursor = account.cursor_at(journal.last)
            assert cursor is not None
            lose()
            journal.set_metadata("open orders", str(number))
            self.clock.advance(WATCH_EVERY)
            self.clock.advance(0)
            account.publish(event(2 * number + 1))
            self.clock.advance(0)
            [hello] = subscriber.statuses
            self.assertEqual(hello["event"], "hello")
            self.assertEqual(hello["cursor"].split(".")[1], journal.epoch)
            self.assertEqual(hello["journal"]["state"], "durable")
            self.assertEqual(locate(account, AfterId(hello["cursor"])), journal.last - 1)
            self.assertEqual(subscriber.batches, [[event(2 * number + 1).payload]])
            self.assertRaises(UnrecoverablePositionError, locate, account, AfterId(cursor))
            account.broadcaster.unregister(subscriber)


class UnreadableJournalTests(DiskCase):
    """A disk that fails, and a journal that is closed."""

    now = BEGIN

    def test_cursor_at_unreadable_row_is_none(self) -> None:
        """The client keeps the cursor that it has."""
        account = Account("paper", self.journal, self.clock)
        self.assertIsNotNone(account.cursor_at(2))
        self.connections.refuse_everything()
        self.assertIsNone(account.cursor_at(2))

    def test_close_closes_the_file(self) -> None:
        """Only a file that was closed has no write-ahead log beside it."""
        account = Account("paper", self.journal, self.clock)
        log = self.path.with_name(f"{self.path.name}-wal")
        self.assertTrue(log.exists())
        account.close()
        self.assertFalse(log.exists())


class AccountStreamStateTests(AccountTestCase):
    """One of several nodes leads an account; the others copy its stream state."""

    def setUp(self) -> None:
        super().setUp()
        self.states: list[StreamState] = []
        self.account.on_stream_state = self.states.append

    def test_on_stream_state_every_change_passes_complete_state(self) -> None:
        """Each call has the status of the upstream and all gaps."""
        self.account.mark_upstream_up()
        self.publish(1)
        self.account.flush()
        self.account.mark_upstream_down("lost")
        self.account.gaps.settle(GapOutcome.OPEN, "HTTP 500")
        self.assertEqual([len(state.gaps) for state in self.states], [0, 0, 1, 1])
        self.assertEqual(
            self.states[-1], StreamState(self.account.upstream, tuple(self.account.gaps))
        )

    def test_apply_stream_state_repeated_announces_once(self) -> None:
        """The state of the leader is copied, and announced when it changes."""
        up = UpstreamStatus(streaming=True, reason="streaming", since=BEGIN + 1.5)
        gap = Gap(1, 2, GapOutcome.RECOVERED, 3)
        for _ in range(2):
            self.account.apply_stream_state(StreamState(up, (gap,)))
        self.assertEqual((self.account.upstream, list(self.account.gaps)), (up, [gap]))
        self.assertEqual(
            [status["event"] for status in self.subscriber.statuses], ["gap", "upstream"]
        )
        self.assertEqual(self.account.reconnects, 0)

    def test_take_over_ends_gap_at_first_stream(self) -> None:
        """Events between the two streams may have been missed."""
        self.journal.append([event(1)])
        self.account.apply_stream_state(
            StreamState(UpstreamStatus(streaming=True, reason="streaming", since=BEGIN), ())
        )
        self.clock.advance(5)
        self.account.take_over()
        self.assertEqual(self.account.upstream, UpstreamStatus(False, "connecting", BEGIN + 5))
        self.clock.advance(1)
        self.account.mark_upstream_up()
        self.assertEqual(
            list(self.account.gaps), [Gap(time_of(1), max((BEGIN + 6) * 1_000_000, time_of(1)))]
        )
        self.assertEqual(self.account.reconnects, 0)

    def test_take_over_second_term_begins_gap(self) -> None:
        """Another node led in between, although this one has streamed before."""
        self.account.mark_upstream_up()
        self.publish(1)
        self.account.flush()
        self.account.mark_upstream_down("the lease was lost")
        self.account.apply_stream_state(
            StreamState(UpstreamStatus(streaming=True, reason="streaming", since=BEGIN), ())
        )
        self.account.take_over()
        self.account.mark_upstream_up()
        [gap] = self.account.gaps
        self.assertEqual((gap.begin, gap.outcome), (time_of(1), GapOutcome.PENDING))

    def test_take_over_while_stream_was_down_begins_gap(self) -> None:
        """The other node may have missed events before it lost the lease."""
        self.account.mark_upstream_up()
        self.publish(1)
        self.account.flush()
        self.account.apply_stream_state(
            StreamState(UpstreamStatus(streaming=False, reason="lost", since=BEGIN), ())
        )
        self.account.take_over()
        self.account.mark_upstream_up()
        self.assertEqual([gap.begin for gap in self.account.gaps], [time_of(1)])
        self.assertEqual(self.account.reconnects, 0)

    def test_journal_status_is_announced(self) -> None:
        """Clients of the proxy_status stream see that the disk fails."""
        self.journal.on_status(JournalStatus(durable=False, reason="disk full", since=BEGIN))
        [status] = self.subscriber.statuses
        self.assertEqual(
            (status["event"], status["state"], status["reason"]),
            ("journal", "not durable", "disk full"),
        )

    def test_journal_durable_again_is_announced_with_cursor(self) -> None:
        """The last events had none. A client that resumes before the next event needs it."""
        self.publish(1)
        self.account.flush()
        self.journal.on_status(JournalStatus(durable=True, reason="", since=BEGIN))
        journal, hello = self.subscriber.statuses
        self.assertEqual((journal["event"], journal["state"]), ("journal", "durable"))
        self.assertEqual(
            (hello["event"], hello["cursor"]), ("hello", self.account.cursor_at(self.journal.last))
        )

    def test_journal_replaced_drops_every_subscriber(self) -> None:
        """No earlier position is valid in the new log."""
        self.journal.on_replaced()
        self.assertEqual(len(self.account.broadcaster), 0)


class PublishInRedisTests(RedisJournalCase, PublishTests):
    """The same with a journal in Redis."""

    def test_publish_event_delivers_payload_unchanged(self) -> None:
        """The payload is read back from Redis, so it is equal but not the same object."""
        self.publish(1)
        self.clock.advance(0)
        self.assert_delivered([1])


class AccountCloseInRedisTests(RedisJournalCase, AccountCloseTests):
    """The same with a journal in Redis."""


class BufferingInRedisTests(RedisJournalCase, BufferingTests):
    """The same with a journal in Redis."""


class FlushInRedisTests(RedisJournalCase, FlushTests):
    """The same with a journal in Redis."""


class AccountCursorInRedisTests(RedisJournalCase, AccountCursorTests):
    """The same with a journal in Redis."""


class AccountGapInRedisTests(RedisJournalCase, AccountGapTests):
    """The same with a journal in Redis."""


class AccountStreamStateInRedisTests(RedisJournalCase, AccountStreamStateTests):
    """The same with a journal in Redis."""
