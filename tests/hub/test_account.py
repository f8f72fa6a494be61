"""Tests for tradeproxy.hub.account: what is published reaches the subscribers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.internet.task import Clock
from twisted.logger import LogLevel, capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from tests.support.accounts import AccountTestCase, PayloadSubscriber
from tests.support.journals import event, memory_journal
from tests.support.redisjournals import RedisJournalCase
from tradeproxy.hub.account import RECONNECT_REASONS, Account

if TYPE_CHECKING:
    from tradeproxy.journal.base import Batch


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


class NewAccountTests(AccountTestCase):
    """An account before anything has happened."""

    def test_new_account_has_every_count_at_zero(self) -> None:
        """Prometheus computes no rate from a series that begins with its first event."""
        self.assertEqual(self.account.reconnect_reasons, dict.fromkeys(RECONNECT_REASONS, 0))
        self.assertEqual(self.account.reconnects, 0)
        self.assertEqual(self.account.found_events, {"gap": 0, "check": 0})

    def test_new_account_is_healthy_and_has_no_role(self) -> None:
        """/healthz and /readyz read these before the first connection."""
        account = self.account
        self.assertEqual((account.has_failed, account.is_mute, account.role), (False, False, None))

    def test_new_account_has_no_book_and_no_trade_log(self) -> None:
        """A setting leaves them out. Neither is then a reason in /readyz."""
        account = self.account
        self.assertEqual((account.book, account.trade_log, account.notices), (None, None, {}))


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


class LagTests(AccountTestCase):
    """How far a client or a file is behind the log."""

    def test_lag_counts_rows_after_a_position(self) -> None:
        """A position behind the end is one of a log that has been replaced."""
        self.publish(1, 2, 3)
        self.account.flush()
        self.assertEqual([self.account.lag(position) for position in (0, 2, 3, 4)], [3, 1, 0, 0])


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


class PublishInRedisTests(RedisJournalCase, PublishTests):
    """The same with a journal in Redis."""

    def test_publish_event_delivers_payload_unchanged(self) -> None:
        """The payload is read back from Redis, so it is equal but not the same object."""
        self.publish(1)
        self.clock.advance(0)
        self.assert_delivered([1])


class AccountCloseInRedisTests(RedisJournalCase, AccountCloseTests):
    """The same with a journal in Redis."""


class FlushInRedisTests(RedisJournalCase, FlushTests):
    """The same with a journal in Redis."""
