"""Tests for tradeproxy.journal: a journal with times outside the calendar works again."""

from __future__ import annotations

import sqlite3
from contextlib import closing

from twisted.logger import capturedLogs

from tests.support.journals import DiskCase, event, events, time_of
from tradeproxy.hub.account import Account
from tradeproxy.wire.event import MAX_TIME, MIN_TIME


class RepairTests(DiskCase):
    """Earlier versions stored such times. They raised OverflowError for good."""

    def spoil(self, time: int) -> None:
        """Give event 2 of 4 a time, as an earlier version would have stored it."""
        self.journal.append(events(3, 4))
        self.journal.close()
        rising = max(time, time_of(1))
        with closing(sqlite3.connect(self.path)) as connection, connection:
            connection.execute("UPDATE events SET time = ? WHERE seq = 2", (time,))
            if time > time_of(4):
                connection.execute("UPDATE events SET high = ? WHERE seq >= 2", (rising,))
            else:
                connection.execute(
                    "UPDATE events SET time = ?, high = ? WHERE seq = 1", (time, time)
                )
            connection.execute("UPDATE orders SET time = ?", (time,))
            for key in ("latest", "horizon", "begins", "remembered open gap since"):
                connection.execute(
                    "INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)", (key, str(time))
                )

    def test_late_time_is_removed_and_order_of_times_restored(self) -> None:
        """The events stay. Derived times come from the other events."""
        self.spoil(MAX_TIME + 1)
        with capturedLogs() as logs:
            journal = self.reopen(self.journal)
        self.assertEqual([log["count"] for log in logs if "count" in log], [1])
        self.assertEqual(self.read_seqs(journal, 0), [1, 2, 3, 4])
        self.assertEqual((journal.latest_time, journal.dedup_horizon), (time_of(4), None))
        self.assertEqual(journal.complete_from, time_of(4))
        self.assertEqual(journal.first_since(time_of(3)), 3)
        self.assertIsNone(journal.first_since(time_of(5)))

    def test_highest_time_before_the_removed_one_stays_highest(self) -> None:
        """Rows behind it are late: the times of the log never fall."""
        with closing(sqlite3.connect(self.path)) as connection, connection:
            connection.execute("UPDATE events SET time = ?, high = ?", (time_of(9), time_of(9)))
        self.spoil(MAX_TIME + 1)
        journal = self.reopen(self.journal)
        self.assertEqual(journal.latest_time, time_of(9))
        self.assertIsNone(journal.first_since(time_of(9) + 1))

    def test_early_time_is_removed(self) -> None:
        """The same for a time before year 1."""
        self.spoil(MIN_TIME - 1)
        journal = self.reopen(self.journal)
        self.assertEqual(self.read_seqs(journal, 0), [1, 2, 3, 4])
        self.assertEqual((journal.latest_time, journal.dedup_horizon), (time_of(4), None))

    def test_account_with_repaired_journal_reports_and_gets_events(self) -> None:
        """Its gap has a beginning in the calendar, and new events are appended."""
        self.spoil(MAX_TIME + 1)
        journal = self.reopen(self.journal)
        account = Account("paper", journal, self.clock)
        account.mark_upstream_up()
        account.mark_upstream_down("lost")
        [gap] = account.gaps
        self.assertEqual(gap.begin, time_of(4))
        account.publish(event(5))
        self.clock.advance(0)
        self.assertEqual(journal.last, 5)

    def test_clean_journal_is_not_changed(self) -> None:
        """Nothing is logged."""
        self.journal.append(events(3, 4))
        self.journal.close()
        with capturedLogs() as logs:
            journal = self.reopen(self.journal)
        self.assertEqual([log for log in logs if "count" in log], [])
        self.assertEqual(journal.latest_time, time_of(4))

    def test_order_without_its_event_is_repaired(self) -> None:
        """Its event was trimmed, but a later event must still change it."""
        known = self.journal.open_orders()[0]
        self.journal.close()
        with closing(sqlite3.connect(self.path)) as connection, connection:
            connection.execute("UPDATE orders SET time = ?", (MAX_TIME + 1,))
            connection.execute("INSERT OR REPLACE INTO meta VALUES (x'00', x'ff')")
        order = self.reopen(self.journal).order(known.id)
        assert order is not None
        self.assertEqual(order.time, 0)
