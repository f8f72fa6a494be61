"""Tests for tradeproxy.hub.account: events that are buffered, late, or have a wrong time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from tests.support.accounts import BEGIN, AccountTestCase
from tests.support.journals import DAY, event, time_of
from tests.support.redisjournals import RedisJournalCase
from tradeproxy.hub.buffer import MAX_BUFFERED, MAX_BUFFERED_BYTES
from tradeproxy.runtime.dates import SECOND, Dates
from tradeproxy.runtime.stats import SERIES_STEP
from tradeproxy.wire.event import format_time

if TYPE_CHECKING:
    from tradeproxy.journal.base import Journal


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

    def test_release_before_recovered_event_keeps_the_streams_order(self) -> None:
        """An event of a future time is in no history, and would follow the recovered one."""
        self.assertEqual(self.account.release_buffered_before(event(3)), ())
        future = event(1, at=format_time(time_of(2 * 86_400)))
        self.account.start_buffering()
        for each in (future, event(3), event(4)):
            self.account.publish(each)
        found = [self.account.has_buffered(each) for each in (event(3), event(5))]
        self.assertEqual(found, [True, False])
        self.assertEqual(self.account.release_buffered_before(event(3)), (future,))
        self.account.publish_recovered(event(3))
        self.assertEqual(self.account.release_buffered_before(event(3)), ())
        self.account.stop_buffering()
        self.assertFalse(self.account.has_buffered(event(3)))
        self.clock.advance(0)
        payloads = [future.payload, event(3).payload, event(4).payload]
        self.assertEqual(self.subscriber.batches, [payloads])

    def test_event_may_precede_stream_until_it_brings_one_of_its_time(self) -> None:
        """The stream did not omit what was before it. Its begin is known to two seconds."""
        self.assertFalse(self.account.may_precede_stream(0))
        self.journal.dates.observe(self.clock.seconds())
        self.account.mark_upstream_up()
        began = round(self.clock.seconds() * SECOND)
        found = [self.account.may_precede_stream(began + n * SECOND) for n in (-9, 1, 2)]
        self.assertEqual(found, [True, True, False])
        first = event(1, at=format_time(began + SECOND))
        self.account.publish(first)
        found = [self.account.may_precede_stream(began + SECOND + n) for n in (-1, 0)]
        self.assertEqual(found, [True, False])
        self.account.mark_upstream_down("lost")
        self.account.mark_upstream_up()
        self.assertFalse(self.account.may_precede_stream(began))

    def test_full_buffer_is_released(self) -> None:
        """Alpaca can send events for 15 s without a login: they took 140 MB. None is lost."""
        self.account.start_buffering()
        self.publish(*range(MAX_BUFFERED - 1))
        self.assertTrue(self.account.is_buffering)
        self.publish(MAX_BUFFERED - 1)
        self.assertFalse(self.account.is_buffering)
        self.clock.advance(0)
        delivered = [payload for batch in self.subscriber.batches for payload in batch]
        self.assertEqual(delivered, [event(n).payload for n in range(MAX_BUFFERED)])
        self.account.start_buffering()
        self.account.publish(replace(event(0), payload=b"{}".ljust(MAX_BUFFERED_BYTES)))
        self.assertFalse(self.account.is_buffering)

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


class BufferingInRedisTests(RedisJournalCase, BufferingTests):
    """The same with a journal in Redis."""
