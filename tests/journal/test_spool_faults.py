"""Faults that meet while rows are in the spool: removed files, crashes, another account."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

from tests.support.journals import SpooledCase, event, events, time_of
from tradeproxy.journal.disk import RETRY_EVERY, WATCH_EVERY
from tradeproxy.journal.retention import TRIM_EVERY
from tradeproxy.journal.spool import find_spool


class SpoolFaultTests(SpooledCase):
    """Faults that meet while rows are in the spool."""

    def test_another_url_after_crash_leaves_spooled_rows_in_the_old_file(self) -> None:
        """They are of another account: its fills and open orders are none of the new one's."""
        self.journal.append(events(1, 2))
        path = self.path
        journal = self.kill(base_url="wss://api.alpaca.markets/stream")
        self.assertNotEqual(path, self.path)
        self.assertEqual((journal.first, journal.last), (3, 2))
        self.assertIsNone(journal.read(2, 10))
        self.assertEqual(journal.open_orders(), [])
        [aside] = self.path.parent.glob("paper.sqlite3.other-url-????????????????")
        with closing(sqlite3.connect(aside)) as connection:
            self.assertEqual(connection.execute("SELECT count(*) FROM events").fetchone(), (2,))

    def test_directory_that_cannot_be_read_repeats_no_event(self) -> None:
        """SQLite goes on with its open files. An error here would come before the delivery."""
        self.journal.append(events(1))
        directory = self.path.parent
        moved = directory.rename(directory.with_name("moved"))
        directory.symlink_to(directory.name)  # a link to itself: no path behind it can be read
        self.journal.append(events(*range(2, 40)))
        directory.unlink()
        moved.rename(directory)
        self.assertEqual(self.journal.last, 39)
        self.assertEqual(sum(len(batch.rows) for batch in self.listener.batches), 39)
        self.assert_has(self.journal, 39)

    def test_metadata_is_stored_with_the_rows_before_it(self) -> None:
        """A gap that is settled is not asked for again. Without the spool its events were lost."""
        for change in (
            lambda: self.journal.set_metadata("key", "value"),
            lambda: self.journal.advance_dedup_horizon(time_of(2)),
        ):
            n = self.journal.last + 1
            self.journal.append(events(n))
            change()
            self.assertEqual(self.count_stored(), n)

    def test_metadata_that_is_not_urgent_is_stored_with_the_rows_that_wait(self) -> None:
        """The position of a webhook caused a commit every second, which delayed events."""
        for value, commit in (
            ("one", lambda: self.clock.advance(TRIM_EVERY)),
            ("two", lambda: self.journal.close()),
        ):
            before = self.journal.last
            self.journal.append(events(before + 1))
            self.journal.set_metadata("key", value, is_urgent=False)
            self.assertEqual(self.count_stored(), before)
            commit()
            self.journal = self.kill()
            self.assertEqual(self.journal.get_metadata("key"), value)
            self.assertEqual(self.count_stored(), before + 1)

    def test_metadata_is_stored_at_once_if_no_rows_wait(self) -> None:
        """A webhook that works off a backlog: after a kill it sent ten seconds of it again."""
        self.journal.set_metadata("key", "one", is_urgent=False)
        self.journal = self.kill()
        self.assertEqual(self.journal.get_metadata("key"), "one")

    def test_spool_removed_while_disk_fails_makes_its_rows_volatile(self) -> None:
        """A crash loses them now, so a client that reads them gets no cursor."""
        self.journal.append(events(1, 2))
        self.connections.refuse_writing()
        find_spool(self.path).unlink()
        self.clock.advance(WATCH_EVERY)
        batch = self.journal.read(0, 10)
        assert batch is not None
        self.assertEqual([row.durable for row in batch.rows], [False, False])
        self.connections.refuse_writing(False)
        self.clock.advance(RETRY_EVERY)
        self.assert_has(self.kill(), 2)

    def test_lost_directory_makes_spooled_rows_volatile(self) -> None:
        """The spool is gone too. A client that reads them gets no cursor until they are stored."""
        self.journal.append(events(1, 2))
        shutil.rmtree(self.path.parent)
        self.path.parent.write_text("")
        self.clock.advance(WATCH_EVERY)
        batch = self.journal.read(0, 10)
        assert batch is not None
        self.assertEqual([row.durable for row in batch.rows], [False, False])
        self.path.parent.unlink()
        self.clock.advance(RETRY_EVERY)
        self.assert_has(self.kill(), 2)

    def test_spool_cut_off_is_written_again(self) -> None:
        """`> paper.spool` leaves the file in its place."""
        self.journal.append(events(1, 2))
        find_spool(self.path).write_bytes(b"")
        self.clock.advance(WATCH_EVERY)
        self.assertEqual(self.count_stored(), 2)
        self.journal.append(events(3))
        self.assert_has(self.kill(), 3)

    def test_database_and_spool_removed_continue_with_spooled_rows(self) -> None:
        """The rows are for the new file, not for the removed one."""
        self.journal.append([event(n) for n in range(1, 100)])
        self.journal.append(events(100))
        shutil.rmtree(self.path.parent)
        self.clock.advance(WATCH_EVERY)
        self.assertEqual((self.journal.first, self.journal.last), (100, 100))
        self.journal.append(events(101))
        self.assertEqual(self.read_seqs(self.kill(), 99), [100, 101])

    def test_write_ahead_log_removed_repeats_no_spooled_event(self) -> None:
        """The database is opened again. It does not have the rows yet that repeats are of."""
        self.journal.append(events(1))
        epoch = self.journal.epoch
        self.path.with_name(f"{self.path.name}-wal").unlink()
        self.clock.advance(WATCH_EVERY)
        for n in (1, 2, 2, 1):
            self.journal.append(events(n))
        self.assertEqual((self.journal.epoch, self.count_stored()), (epoch, 0))
        self.assertEqual((self.journal.last, self.journal.duplicates), (2, 3))

    def test_damage_that_an_append_finds_repeats_none_of_its_events(self) -> None:
        """It is found as event 1 is looked for. A new file then gets both events."""
        self.journal.append([event(n) for n in range(1, 20)])
        epoch = self.journal.epoch
        self.connections.damage(self.path)
        self.journal.append(events(30, 1))
        self.assertNotEqual(self.journal.epoch, epoch)
        for n in (1, 30):
            self.journal.append(events(n))
        self.assertEqual((self.journal.last, self.journal.duplicates), (21, 2))

    def test_rows_left_out_do_not_come_back(self) -> None:
        """A power cut has taken what was before them. Their numbers are used again."""
        saved = Path(self.mktemp())
        shutil.copytree(self.path.parent, saved)
        self.journal.append(events(1, 2, 3))
        self.clock.advance(TRIM_EVERY)
        self.journal.append(events(4))
        shutil.copy(find_spool(self.path), saved)
        self.path = saved / self.path.name
        journal = self.open_spooled()
        self.assertEqual(journal.last, 0)
        # As large as row 4, which it replaces: behind it are rows 2 and 3 of before.
        journal.append(events(2))
        self.assertEqual(self.read_seqs(self.kill(), 0), [1])

    def test_zeros_instead_of_the_file_are_replaced(self) -> None:
        """After a power cut some file systems have the size of a new file, but not its content."""
        self.journal.close()
        find_spool(self.path).write_bytes(bytes(100))
        journal = self.open_spooled()
        journal.append(events(1))
        self.assertEqual(self.count_stored(), 0)
        self.assert_has(self.kill(), 1)

    def test_late_states_of_an_order_are_compared_one_by_one(self) -> None:
        """The newest one is the same before and after the database has them."""
        for n, filled in ((100, "5"), (90, "6"), (95, "3")):
            self.journal.append(
                [event(n, order_id="o", status="partially_filled", filled_qty=filled)]
            )
            if n == 100:
                self.clock.advance(TRIM_EVERY)
        before = self.journal.order("o"), self.journal.open_orders()
        self.clock.advance(TRIM_EVERY)
        self.assertEqual(before, (self.journal.order("o"), self.journal.open_orders()))
        self.assertEqual([state.filled_qty for state in before[1]], ["6"])
