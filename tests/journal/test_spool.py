"""The spool: what it stores, what a crash leaves of it, and when the database gets its rows."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.support.disks import fill_disk, mount_disk
from tests.support.journals import (
    SpooledCase,
    entries,
    event,
    event_id_of,
    events,
    order_id_of,
    time_of,
)
from tests.support.properties import examples
from tradeproxy.journal import spool, stored_keys
from tradeproxy.journal.backlog import Entry
from tradeproxy.journal.base import JournalError
from tradeproxy.journal.disk import RETRY_EVERY, WATCH_EVERY
from tradeproxy.journal.retention import TRIM_EVERY
from tradeproxy.journal.spool import MAGIC, MAX_ROWS, MAX_SIZE, Spool, find_spool, read_spool
from tradeproxy.journal.sqlite import MAX_SPOOLED

EPOCH = "0123456789abcdef"


class SpoolFileTests(SynchronousTestCase):
    """The file of a spool."""

    def setUp(self) -> None:
        self.path = Path(self.mktemp())
        self.epoch = EPOCH
        self.spool = self.build()
        self.spool.restart()

    def build(self) -> Spool:
        spool = Spool("paper", self.path, lambda: self.epoch, MAX_ROWS, full_sync=True)
        self.addCleanup(spool.close)
        return spool

    def test_rows_come_back_with_all_fields(self) -> None:
        """A recovered event has a time of its own, and a hole has no event."""
        rows = [*entries(7), Entry(8, event(8).with_time(5), 9, 1, durable=True), *entries(9)]
        self.spool.write(rows[:1])
        self.spool.write(rows[1:])
        self.assertEqual(read_spool(self.path, EPOCH), rows)

    def test_rewound_file_has_the_new_rows_only(self) -> None:
        """What is left behind them has a lower number."""
        self.spool.write(entries(1, 2, 3))
        self.spool.restart()
        self.assertEqual(read_spool(self.path, EPOCH), entries(1, 2, 3))
        self.spool.write(entries(4))
        self.assertEqual(read_spool(self.path, EPOCH), entries(4))

    def test_rows_end_before_a_time_outside_the_calendar(self) -> None:
        """The database cannot store every number: such a row ended each start with a traceback."""
        far = 2**64 - 1
        for row in (
            Entry(2, event(2), time_of(2), far),
            Entry(2, event(2), far, 2),
            Entry(2, event(2).with_time(far), time_of(2), 2),
            Entry(2, None, time_of(2), -far // 2),
        ):
            self.spool.restart()
            self.spool.write([*entries(1), row, *entries(3)])
            self.assertEqual(read_spool(self.path, EPOCH), entries(1))

    def test_rows_of_another_epoch_do_not_count(self) -> None:
        """Their numbers have another meaning."""
        self.spool.write(entries(1, 2))
        self.epoch = "another"
        self.spool.close()
        self.spool.restart()
        self.spool.write(entries(3))
        self.assertEqual(read_spool(self.path, EPOCH), [])
        self.assertEqual(read_spool(self.path, "another"), entries(3))

    def test_torn_write_ends_the_rows(self) -> None:
        """Its event was not delivered: a delivery follows the whole write."""
        self.spool.write(entries(1, 2))
        whole = self.path.read_bytes()
        self.spool.write(entries(3))
        torn = self.path.read_bytes()
        for size in range(len(whole), len(torn)):
            self.path.write_bytes(torn[:size])
            self.assertEqual(read_spool(self.path, EPOCH), entries(1, 2), size)

    @examples()
    @given(st.integers(0, 5000), st.integers(1, 255))
    def test_damaged_byte_ends_the_rows_before_it(self, at: int, change: int) -> None:
        """No damaged row comes back, and no row behind it."""
        self.path.unlink()
        self.spool.restart()
        self.spool.write(entries(1, 2, 3))
        content = bytearray(self.path.read_bytes())
        content[at % len(content)] ^= change
        self.path.write_bytes(content)
        found = read_spool(self.path, EPOCH)
        self.assertEqual(found, entries(1, 2, 3)[: len(found)])
        self.assertLess(len(found), 3)

    @examples()
    @given(st.binary(max_size=200))
    def test_any_content_is_read(self, content: bytes) -> None:
        """The file may be another program's, or what a broken disk left."""
        for begin in (b"", MAGIC):
            self.path.write_bytes(begin + content)
            self.assertEqual(read_spool(self.path, EPOCH), [])

    def test_other_programs_file_is_refused_and_kept(self) -> None:
        """It is not ours to overwrite."""
        self.path.write_bytes(b"precious")
        self.spool.close()
        other = self.build()
        other.restart()
        self.assertFalse(other.write(entries(1)))
        self.assertEqual(self.path.read_bytes(), b"precious")

    def test_is_full_after_128_rows_or_a_mebibyte(self) -> None:
        """It bounds the time to store them, and the size of the file."""
        self.spool.write(entries(*range(1, MAX_ROWS)))
        self.assertFalse(self.spool.is_full)
        self.spool.write(entries(MAX_ROWS))
        self.assertTrue(self.spool.is_full)
        self.spool.restart()
        self.assertFalse(self.spool.is_full)
        half = event(1, note="x" * (MAX_SIZE // 2))
        for is_full in (False, True):
            self.assertTrue(self.spool.write([Entry(1, half, None, 0, durable=True)]))
            self.assertIs(self.spool.is_full, is_full)

    def test_rows_above_a_mebibyte_are_not_written(self) -> None:
        """A start reads the whole file."""
        large = event(1, note="x" * MAX_SIZE)
        self.assertFalse(self.spool.write([Entry(1, large, None, 0, durable=True)]))
        self.assertEqual(read_spool(self.path, EPOCH), [])

    def test_file_that_another_process_writes_to_is_refused(self) -> None:
        """Two writers would destroy each other's rows."""
        other = self.build()
        other.restart()
        self.assertFalse(other.write(entries(1)))


class SpooledJournalTests(SpooledCase):
    """What a journal does with its newest rows."""

    def test_single_events_wait_for_the_database(self) -> None:
        """They are durable before they are delivered."""
        for n in range(1, MAX_ROWS):
            self.journal.append(events(n))
            self.assertEqual(len(read_spool(find_spool(self.path), self.journal.epoch)), n)
        self.assertEqual(self.count_stored(), 0)
        self.assertTrue(all(row.durable for batch in self.listener.batches for row in batch.rows))
        self.journal.append(events(MAX_ROWS))
        self.assertEqual(self.count_stored(), MAX_ROWS)
        self.assert_has(self.journal, MAX_ROWS)

    def test_database_gets_rows_after_their_delivery(self) -> None:
        """The commit of 128 rows delays no event."""
        stored: list[int] = []
        self.journal.on_committed = lambda _: stored.append(self.count_stored())
        for n in range(1, MAX_ROWS + 1):
            self.journal.append(events(n))
        self.assertEqual(stored, [0] * MAX_ROWS)

    def test_many_events_go_to_the_database_at_once(self) -> None:
        """With those that wait for it, in their order."""
        self.journal.append(events(1))
        self.journal.append(events(*range(2, 3 + MAX_SPOOLED)))
        self.assertEqual(self.count_stored(), 2 + MAX_SPOOLED)
        self.assert_has(self.journal, 2 + MAX_SPOOLED)

    def test_quiet_account_has_all_rows_in_the_database_soon(self) -> None:
        """Other programs can read it."""
        self.journal.append(events(1, 2))
        self.clock.advance(TRIM_EVERY)
        self.assertEqual(self.count_stored(), 2)
        self.assert_has(self.journal, 2)

    def test_killed_process_loses_no_row(self) -> None:
        """Wherever it was killed: with rows in the spool, in both files, or in the database."""
        for n in range(1, MAX_ROWS + 3):
            self.journal.append(events(n))
            if n in (1, MAX_ROWS - 1, MAX_ROWS, MAX_ROWS + 1, MAX_ROWS + 2):
                path = self.path
                self.assert_has(self.kill(), n)
                self.path = path

    def test_killed_process_repeats_no_row(self) -> None:
        """Alpaca's history brings the last events again, one by one."""
        for n in (1, 2):
            self.journal.append(events(n))
        self.assertEqual(self.count_stored(), 0)
        journal = self.kill()
        for n in (2, 1, 3):
            journal.append(events(n))
        self.assertEqual((journal.last, journal.duplicates), (3, 2))

    def test_killed_during_commit_loses_no_row(self) -> None:
        """The rows are in the database, and the spool was not rewound."""
        self.journal.append(events(1, 2))
        spool = find_spool(self.path).read_bytes()
        self.clock.advance(TRIM_EVERY)
        self.journal.append(events(3))
        find_spool(self.path).write_bytes(spool)
        self.assert_has(self.kill(), 2)

    def test_spool_behind_lost_rows_is_left_out(self) -> None:
        """A power cut can take rows of the database. The numbers continue without a hole."""
        path = self.path.parent
        saved = Path(self.mktemp())
        shutil.copytree(path, saved)
        self.journal.append(events(1, 2))
        self.clock.advance(TRIM_EVERY)
        self.journal.append(events(3))
        shutil.copy(find_spool(self.path), saved)
        self.path = saved / self.path.name
        journal = self.open_spooled()
        self.assertEqual(journal.last, 0)
        journal.append(events(1))
        self.assert_has(journal, 1)

    def test_spool_behind_one_lost_row_is_left_out(self) -> None:
        """A reader would take the row that is missing for damage."""
        saved = Path(self.mktemp())
        shutil.copytree(self.path.parent, saved)
        self.journal.append(events(1))
        self.clock.advance(TRIM_EVERY)
        self.journal.append(events(2))
        shutil.copy(find_spool(self.path), saved)
        self.path = saved / self.path.name
        self.assertEqual(self.open_spooled().last, 0)

    def test_clean_close_leaves_everything_in_the_database(self) -> None:
        """A copy of that one file is a whole backup."""
        self.journal.append(events(1, 2, 3))
        self.journal.close()
        find_spool(self.path).unlink()
        self.assert_has(self.open_spooled(), 3)

    def test_large_event_goes_to_the_database(self) -> None:
        """It and the rows before it are stored together."""
        self.journal.append(events(1))
        self.journal.append([event(2, note="x" * MAX_SIZE)])
        self.assertEqual(self.count_stored(), 2)
        self.journal.append(events(3))
        self.assertEqual(self.count_stored(), 2)

    def test_open_orders_are_in_the_order_of_their_last_events(self) -> None:
        """The last event of one may be in the spool, and those of the others in the database."""
        self.journal.append(events(1, 2))
        self.clock.advance(TRIM_EVERY)
        self.journal.append([event(3, order_id=order_id_of(1))])
        self.assertEqual(self.count_stored(), 2)
        orders = [order.id for order in self.journal.open_orders()]
        self.assertEqual(orders, [order_id_of(2), order_id_of(1)])

    def test_full_filter_of_keys_is_made_anew_with_the_next_trimming(self) -> None:
        """Until then, each event costs a query."""
        self.patch(stored_keys, "MIN_KEYS", 2)
        journal = self.reopen(self.journal, connect=self.connections)
        journal.append(events(1, 2, 3))
        self.clock.advance(TRIM_EVERY)
        statements = self.connections.record()
        journal.append(events(4))
        self.assertEqual(statements, [])

    def test_events_are_found_in_the_spool(self) -> None:
        """By id, by time and by order, as in the database."""
        self.journal.append(events(5, 6))
        self.journal.append([event(7, order_id="o", status="partially_filled", filled_qty="3")])
        self.assertEqual(self.journal.find(event_id_of(6)), 2)
        self.assertEqual(self.journal.first_at(time_of(6)), 2)
        self.assertEqual(self.journal.first_since(time_of(6) + 1), 3)
        found = self.journal.order("o")
        assert found is not None
        self.assertEqual((found.filled_qty, self.journal.latest_time), ("3", time_of(7)))
        self.assertEqual(self.read_seqs(self.journal, 1), [2, 3])

    def test_database_on_failing_disk_keeps_spooled_rows_durable(self) -> None:
        """They are in the spool. Later ones are in memory only, which the status says first."""
        self.journal.append(events(1, 2))
        self.connections.refuse_writing()
        self.clock.advance(TRIM_EVERY)
        self.assertFalse(self.journal.status.durable)
        self.journal.append(events(3))
        batch = self.journal.read(0, 10)
        assert batch is not None
        self.assertEqual([row.durable for row in batch.rows], [True, True, False])
        journal = self.kill()
        self.assert_has(journal, 2)
        journal.append(events(3))
        self.assert_has(journal, 3)

    def test_database_on_failing_disk_gets_all_rows_later(self) -> None:
        """The spool is used again then."""
        self.journal.append(events(1, 2))
        self.connections.refuse_writing()
        self.clock.advance(TRIM_EVERY)
        self.journal.append(events(3))
        self.connections.refuse_writing(False)
        self.clock.advance(RETRY_EVERY)
        self.assertTrue(self.journal.status.durable)
        self.journal.append(events(4))
        self.assertEqual(self.count_stored(), 3)
        self.assert_has(self.kill(), 4)

    def test_spool_on_full_disk_is_done_without(self) -> None:
        """The database may have room in its write-ahead log; else the status says so."""
        disk = mount_disk(self)
        self.path = disk / "paper.sqlite3"
        journal = self.open_spooled()
        fill_disk(disk)
        for n in range(1, 200):
            journal.append(events(n))
            if not journal.status.durable:
                break
        self.assertIn("disk full", journal.status.reason)
        (disk / "fill").unlink()
        self.clock.advance(RETRY_EVERY)
        self.assert_has(journal, n)
        self.assert_has(self.kill(), n)

    def test_removed_spool_is_made_again(self) -> None:
        """What was in it is in the database at once."""
        self.journal.append(events(1, 2))
        find_spool(self.path).unlink()
        self.clock.advance(WATCH_EVERY)
        self.assertEqual(self.count_stored(), 2)
        self.journal.append(events(3))
        self.assertEqual(self.count_stored(), 2)
        self.assert_has(self.kill(), 3)

    def test_removed_spool_without_rows_is_made_again_with_the_next_row(self) -> None:
        """In the removed file it would be lost. The database gets that row at once."""
        self.journal.append(events(1))
        self.clock.advance(TRIM_EVERY)
        find_spool(self.path).unlink()
        self.clock.advance(WATCH_EVERY)
        self.journal.append(events(2))
        self.assertEqual(self.count_stored(), 2)
        self.journal.append(events(3))
        self.assertEqual(self.count_stored(), 2)
        self.assert_has(self.kill(), 3)

    def test_other_programs_file_leaves_all_to_the_database(self) -> None:
        """It is kept, and one line names it."""
        self.journal.close()
        find_spool(self.path).write_bytes(b"precious")
        journal = self.open_spooled()
        for n in (1, 2):
            journal.append(events(n))
        self.assertEqual(self.count_stored(), 2)
        self.assertEqual(find_spool(self.path).read_bytes(), b"precious")

    def test_unreadable_spool_prevents_the_start(self) -> None:
        """It may have rows that clients got."""
        self.journal.close()
        find_spool(self.path).unlink()
        find_spool(self.path).mkdir()
        error = self.assertRaises(JournalError, self.open_spooled)
        self.assertIn("paper.spool", str(error))

    def test_damaged_database_continues_with_spooled_rows(self) -> None:
        """They are in the new file, under its epoch."""
        self.journal.append([event(n) for n in range(1, 100)])
        self.journal.append(events(100))
        epoch = self.journal.epoch
        self.connections.damage(self.path)
        self.clock.advance(TRIM_EVERY)
        self.assertNotEqual(self.journal.epoch, epoch)
        self.assertEqual((self.journal.first, self.journal.last), (100, 100))
        self.journal.append(events(101))
        journal = self.kill()
        self.assertEqual(self.read_seqs(journal, 99), [100, 101])

    def test_another_account_leaves_spooled_rows_in_the_old_file(self) -> None:
        """They are of the account before."""
        self.journal.identify("one")
        self.journal.append(events(1, 2))
        self.assertTrue(self.journal.identify("two"))
        [aside] = self.path.parent.glob("paper.sqlite3.other-account-????????????????")
        connection = sqlite3.connect(aside)
        self.addCleanup(connection.close)
        self.assertEqual(connection.execute("SELECT count(*) FROM events").fetchone(), (2,))
        self.journal.append(events(3))
        self.assertEqual(self.read_seqs(self.journal, 2), [3])

    def test_synced_spool_is_synced_before_delivery(self) -> None:
        """With the journal `full`, a power cut loses no row that was delivered."""
        calls: list[str] = []
        self.patch(spool, "sync_file", lambda _: calls.append("sync"))
        self.journal.close()
        journal = self.open(full_sync=True)
        journal.on_committed = lambda _: calls.append("delivered")
        journal.append(events(1))
        self.assertEqual(calls, ["sync", "delivered"])
