"""Tests for tradeproxy.hub.log_tail."""

from __future__ import annotations

from tests.support.accounts import AccountTestCase
from tests.support.journals import event
from tradeproxy.hub.account import Account
from tradeproxy.hub.locate import UnrecoverablePositionError
from tradeproxy.hub.log_tail import LogTail, ReplacedLogError
from tradeproxy.journal.base import TrimmedError, UnreadableError
from tradeproxy.journal.retention import TRIM_EVERY
from tradeproxy.wire.position import AfterId, LastEvents


class LogTailTests(AccountTestCase):
    """A tail gets every row once per life, behind the clients, and resumes at its cursor."""

    def setUp(self) -> None:
        super().setUp()
        self.calls: list[int] = []
        self.tail = LogTail(self.account, self.record)

    def record(self) -> None:
        """Record how many batches the client had by then."""
        self.calls.append(len(self.subscriber.batches))

    def take(self, limit: int = 128) -> list[bytes | None]:
        """Take the next rows and return their payloads."""
        rows = self.tail.read(limit)
        if rows:
            self.tail.take(rows[-1].seq)
        return [row.payload for row in rows]

    def publish_now(self, *numbers: int) -> None:
        self.publish(*numbers)
        self.clock.advance(0)

    def test_a_tail_is_called_after_the_clients_have_the_batch(self) -> None:
        """What a tail does never delays a client."""
        self.tail.start(LastEvents(0))
        self.publish_now(1, 2)
        self.assertEqual(self.calls, [1])
        self.assertEqual(self.take(), [event(1).payload, event(2).payload])
        self.assertEqual(self.take(), [])

    def test_read_returns_the_same_rows_until_they_are_taken(self) -> None:
        """Work that failed is done again."""
        self.tail.start(LastEvents(0))
        self.publish_now(1, 2)
        self.assertEqual(self.tail.read(1), self.tail.read(1))
        self.assertEqual(self.take(1), [event(1).payload])
        self.assertEqual(self.take(1), [event(2).payload])

    def test_start_at_a_cursor_continues_after_it(self) -> None:
        """That is how a tail resumes in the next life of the process."""
        self.tail.start(LastEvents(0))
        self.publish_now(1, 2, 3)
        self.take(2)
        other = LogTail(self.account, self.record)
        self.assertTrue(other.start_at(self.tail.cursor, LastEvents(0)))
        self.assertEqual([row.seq for row in other.read(128)], [3])

    def test_start_at_an_unknown_cursor_continues_where_the_owner_says(self) -> None:
        """The owner learns that rows may be missing."""
        self.publish_now(1, 2)
        unknown = "paper.0123456789abcdef.1.00000000"
        self.assertIs(self.tail.start_at(unknown, LastEvents(1)), False)
        self.assertEqual([row.seq for row in self.tail.read(128)], [2])

    def test_start_at_an_unknown_position_raises_and_stays_idle(self) -> None:
        """Otherwise an owner without a fallback would read a wrong part of the log."""
        with self.assertRaises(UnrecoverablePositionError):
            self.tail.start(AfterId("no such id"))
        self.publish_now(1)
        self.assertEqual(self.calls, [])

    def test_tail_before_its_start_is_at_the_beginning(self) -> None:
        """Metrics show how far it is behind. It has no cursor that could be stored."""
        self.publish_now(1)
        self.assertEqual((self.tail.position, self.tail.cursor), (0, None))

    def test_stop_ends_the_calls(self) -> None:
        """A second stop has no effect."""
        self.tail.start(LastEvents(0))
        self.tail.stop()
        self.tail.stop()
        self.publish_now(1)
        self.assertEqual(self.calls, [])

    def test_read_after_another_account_raises(self) -> None:
        """The rows that follow are not the account's that the tail worked for."""
        self.account.identify("one")
        self.tail.start(LastEvents(0))
        self.account.identify("another")
        with self.assertRaises(ReplacedLogError):
            self.tail.read(128)

    def test_row_that_cannot_be_read_is_looked_at(self) -> None:
        """If the log has it, the bytes are an event's; else the log is another one by now."""
        self.tail.start(LastEvents(0))
        self.publish_now(1)
        self.tail.find_damage(1)
        with self.assertRaises(UnreadableError):
            self.tail.find_damage(2)

    def test_a_replaced_log_has_no_cursor_of_the_tail(self) -> None:
        """The number of the last row means another row there, or none."""
        self.account.identify("one")
        self.tail.start(LastEvents(0))
        self.assertIsNotNone(self.tail.cursor)
        self.account.identify("another")
        self.assertIsNone(self.tail.cursor)

    def test_read_of_trimmed_rows_raises_until_they_are_skipped(self) -> None:
        """The owner reports how many it could not see."""
        journal = self.open(max_events=2)
        account = Account("paper", journal, self.clock)
        tail = LogTail(account, self.record)
        tail.start(LastEvents(0))
        journal.append([event(n) for n in (1, 2, 3, 4)])
        self.clock.advance(TRIM_EVERY)
        with self.assertRaises(TrimmedError):
            tail.read(128)
        self.assertEqual(tail.skip_trimmed(), 2)
        self.assertEqual([row.seq for row in tail.read(128)], [3, 4])
        tail.take(3)
        self.assertEqual((tail.skip_trimmed(), tail.position), (0, 3))
