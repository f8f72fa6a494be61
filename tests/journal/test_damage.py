"""Tests for tradeproxy.journal.disk: a journal whose file is damaged."""

from __future__ import annotations

import sqlite3
from typing import Any

from twisted.logger import capturedLogs

from tests.support.journals import DiskCase, event, events, row, time_of
from tradeproxy.journal.base import TRIM_EVERY, Batch, TrimmedError
from tradeproxy.journal.disk import RETRY_EVERY
from tradeproxy.journal.metadata import OPEN_SINCE


class DamageTests(DiskCase):
    """A damaged file is set aside, and all goes on in a new one."""

    def test_found_when_events_come(self) -> None:
        """The events are on the disk when they are delivered; live clients see the numbers go on."""
        epoch = self.journal.epoch
        self.journal.set_metadata("complete from", "7")
        self.journal.identify("account")
        self.damage()
        with capturedLogs() as logs:
            self.journal.append(events(3, 4))
        self.assertEqual(self.listener.calls, [Batch((row(3, event(3)), row(4, event(4))))])
        self.assertNotEqual(self.journal.epoch, epoch)
        self.assertEqual((self.journal.first, self.journal.last), (3, 4))
        self.assertEqual(self.journal.complete_from, time_of(2) + 1)
        self.assertEqual(
            [log["aside"] for log in logs], [f"paper.sqlite3.damaged-{self.journal.epoch}"]
        )
        again = self.reopen(self.journal)
        again.identify("account")
        self.assertEqual((again.epoch, again.first, again.last), (self.journal.epoch, 3, 4))
        self.assertEqual(again.get_metadata("complete from"), "7")

    def test_found_when_rows_are_due(self) -> None:
        """The first to notice may be the look for what can be trimmed."""
        self.damage()
        self.clock.advance(TRIM_EVERY)
        self.assertTrue(self.set_aside(self.journal))
        self.assertTrue(self.journal.status.durable)

    def test_found_by_a_reader(self) -> None:
        """The reader is told that it is gone; others go on."""
        self.damage()
        self.assertRaises(TrimmedError, self.journal.read, 0, 10)
        self.assertTrue(self.set_aside(self.journal))
        self.assertTrue(self.journal.status.durable)
        self.journal.append(events(3))
        self.assertEqual(self.read_seqs(self.journal, 2), [3])

    def test_found_by_a_question(self) -> None:
        """All that was before it is known, and what comes is not."""
        self.damage()
        self.assertTrue(self.journal.has(event(1)))
        self.assertTrue(self.set_aside(self.journal))
        self.assertTrue(self.journal.has(event(2)))
        self.assertFalse(self.journal.has(event(3)))

    def test_what_was_known_is_known_but_for_a_gap(self) -> None:
        """What was delivered does not come again; what was missed while a gap is open still can."""
        self.journal.advance_dedup_horizon(time_of(5))
        self.damage()
        self.assertTrue(self.journal.has(event(5)))
        self.assertEqual(self.journal.dedup_horizon, time_of(5))
        self.journal.set_metadata(OPEN_SINCE, str(time_of(1)))
        self.damage()
        self.assertTrue(self.journal.has(event(1)))
        self.assertEqual(self.journal.dedup_horizon, time_of(1))
        again = self.reopen(self.journal)
        self.assertFalse(again.has(event(2)))

    def test_found_at_the_next_start(self) -> None:
        """Whether the whole file is of no use, or a part of it: it starts, and works."""

        def nonsense() -> None:
            self.path.write_bytes(b"nonsense" * 1000)

        def cut() -> None:
            self.path.write_bytes(self.path.read_bytes()[:5000])

        def rows() -> None:
            content = self.path.read_bytes()
            self.path.write_bytes(content[:4096] + b"\xff" * (len(content) - 4096))

        journal = self.journal
        for spoil in (nonsense, cut, rows):
            journal.append([event(n) for n in range(100)])
            journal.close()
            spoil()
            before, journal = journal, self.open_on_disk()
            self.assertNotEqual(journal.epoch, before.epoch)
            self.assertTrue(self.set_aside(journal), spoil)
            self.assertEqual(journal.first, journal.last + 1)
            journal.append(events(200))
            self.assertEqual(self.read_seqs(journal, journal.last - 1), [journal.last])

    def test_what_could_still_be_read_is_known_at_the_next_start(self) -> None:
        """An index is damaged: the numbers go on, and what was missed meanwhile can be asked for."""
        self.journal.append([event(n) for n in range(3, 500)])
        page = self.connections.query_value(
            "SELECT pageno FROM dbstat WHERE name = 'sqlite_autoindex_events_1' AND pagetype = 'leaf'"
        )
        self.journal.close()
        with self.path.open("r+b") as file:
            file.seek((page - 1) * 4096)
            file.write(b"\xff" * 4096)
        again = self.open_on_disk()
        self.assertTrue(self.set_aside(again))
        self.assertEqual((again.last, again.latest_time), (499, time_of(499)))

    def test_facts_that_do_not_fit_are_damage(self) -> None:
        """A row that is gone, a fact that is gone, or is no number."""
        journal = self.journal
        for statement in (
            "DELETE FROM events WHERE seq = (SELECT min(seq) FROM events)",
            "DELETE FROM meta WHERE key = 'epoch'",
            "UPDATE meta SET value = 'x' WHERE key = 'begins'",
            "DROP TABLE orders",
            "DROP TABLE meta",
        ):
            journal.append([event(n) for n in range(5)])
            journal.close()
            with sqlite3.connect(self.path) as connection:
                connection.execute(statement)
            connection.close()
            journal = self.open_on_disk()
            journal.append(events(5))
            self.assertTrue(self.set_aside(journal) or "orders" in statement, statement)

    def test_a_row_that_is_missing_is_damage(self) -> None:
        """A reader must not take what follows it for what it asked for."""
        self.journal.append(events(3))
        for gone, after in ((2, 1), (4, 3)):
            self.connections.execute(f"DELETE FROM events WHERE seq = {gone}")
            self.assertRaises(TrimmedError, self.journal.read, after, 10)
            self.assertTrue(self.set_aside(self.journal))
            self.journal.append(events(4))

    def test_a_number_that_is_taken_is_damage(self) -> None:
        """Somebody else has written to the file: a new event must not be lost for that."""
        self.connections.execute("INSERT INTO events (seq, received) VALUES (3, 0)")
        self.journal.append(events(3))
        self.assertEqual(self.listener.calls, [Batch((row(3, event(3)),))])
        self.assertTrue(self.set_aside(self.journal))

    def test_events_go_on_while_no_new_file_can_be_had(self) -> None:
        """The directory is gone, too; the events are delivered, and kept when there is one again."""
        self.damage()
        gone = self.path.parent.rename(self.path.parent.with_name("gone"))
        self.journal.append(events(3))
        self.assertEqual([status.durable for status in self.listener.statuses], [False])
        self.assertEqual(self.journal.status.reason, "the file is damaged")
        self.assertEqual(self.listener.batches, [Batch((row(3, event(3), durable=False),))])
        self.assertEqual((self.journal.first, self.read_seqs(self.journal, 2)), (3, [3]))
        self.assertRaises(TrimmedError, self.journal.read, 0, 1)
        self.assertTrue(self.journal.has(event(1)))
        self.clock.advance(RETRY_EVERY)
        self.assertFalse(self.journal.status.durable)
        gone.rename(self.path.parent)
        self.clock.advance(RETRY_EVERY)
        self.assertTrue(self.journal.status.durable)
        self.assertTrue(self.set_aside(self.journal))
        self.assertEqual([seq for seq, _ in self.read_disk()], [3])

    def test_damage_while_events_wait(self) -> None:
        """They keep their numbers, and are the first of the new file."""
        self.connections.refuse_writing()
        self.journal.append(events(3, 4))
        self.damage_later()
        self.connections.refuse_writing(False)
        self.clock.advance(RETRY_EVERY)
        self.assertTrue(self.set_aside(self.journal))
        self.clock.advance(RETRY_EVERY)
        self.assertTrue(self.journal.status.durable)
        self.assertEqual((self.journal.first, self.read_seqs(self.journal, 2)), (3, [3, 4]))

    def damage_later(self) -> None:
        other = sqlite3.connect(self.path)
        other.execute("INSERT INTO events (seq, received) VALUES (4, 0)")
        other.commit()
        other.close()

    def test_another_account_takes_over_while_no_new_file_can_be_had(self) -> None:
        """The old account's file is not written to, not even when it comes back."""
        self.journal.identify("one")
        gone = self.path.parent.rename(self.path.parent.with_name("away"))
        self.journal.identify("two")
        self.assertEqual(self.journal.status.reason, "the file cannot be replaced")
        self.journal.append(events(1))
        gone.rename(self.path.parent)
        self.clock.advance(RETRY_EVERY)
        self.assertTrue(self.journal.status.durable)
        self.assertEqual([seq for seq, _ in self.read_disk()], [3])
        again = self.reopen(self.journal)
        again.identify("two")
        self.assertEqual((again.epoch, again.last), (self.journal.epoch, 3))

    def test_a_new_file_that_cannot_be_written_is_tried_again(self) -> None:
        """As on a full disk: the old file is set aside, the new one is begun in time."""
        refusals = 2

        def connect(path: str, **options: Any) -> sqlite3.Connection:
            nonlocal refusals
            connection = self.connections(path, **options)
            if refusals and list(self.path.parent.glob("*damaged*")):
                refusals -= 1
                self.connections.refuse_writing()
            return connection

        self.journal.close()
        journal = self.open(connect=connect)
        self.damage()
        journal.append(events(3))
        self.assertEqual(journal.status.reason, "the file is damaged")
        self.clock.advance(RETRY_EVERY)
        self.assertFalse(journal.status.durable)
        self.clock.advance(RETRY_EVERY)
        self.assertTrue(journal.status.durable)
        self.assertEqual([seq for seq, _ in self.read_disk()], [3])
