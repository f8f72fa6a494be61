"""Tests for tradeproxy.hub.account: cursors, with holes and with a journal that fails."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec.structs import replace

from tests.support.accounts import BEGIN, AccountTestCase, PayloadSubscriber
from tests.support.journals import Connections, DiskCase, MemoryCase, SqliteCase, event, journal_at
from tests.support.redisjournals import RedisJournalCase
from tradeproxy.hub.account import Account
from tradeproxy.hub.broadcaster import CHUNK
from tradeproxy.hub.locate import UnrecoverablePositionError, locate
from tradeproxy.journal.backlog import MAX_BYTES
from tradeproxy.journal.disk import WATCH_EVERY
from tradeproxy.wire.position import AfterId, Cursor
from tradeproxy.wire.proxy_status import GapOutcome

if TYPE_CHECKING:
    pass


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
            account.publish(replace(event(n), payload=b"{}".ljust(MAX_BYTES // 2 + 1)))
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


class AccountCursorInRedisTests(RedisJournalCase, AccountCursorTests):
    """The same with a journal in Redis."""
