"""Tests for tradeproxy.journal: a journal of schema version 1 is upgraded in place."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import closing
from typing import Any

from msgspec.structs import replace
from twisted.logger import capturedLogs, formatEvent

from tests.support.journals import Connections, SqliteCase, event, event_id_of, events, time_of
from tradeproxy.hub.account import Account
from tradeproxy.hub.locate import UnrecoverablePositionError, locate
from tradeproxy.journal.base import UnreadableError, max_optional
from tradeproxy.journal.disk import RETRY_EVERY
from tradeproxy.journal.retention import TRIM_EVERY
from tradeproxy.journal.schema import APPLICATION_ID, MIGRATIONS
from tradeproxy.journal.upgrade import STEP_EVERY
from tradeproxy.wire.event import Event, format_time
from tradeproxy.wire.position import AfterId, AfterTime, Cursor, compute_check

EXECUTION = {"event": "fill", "execution_id": "x", "qty": "1", "price": "2.5"}
EPOCH = "0123456789abcdef"


class UpgradeTests(SqliteCase):
    """Positions stay valid, and older rows count for repeats and for times as positions."""

    def write_version_1(self, rows: Sequence[Event | None]) -> None:
        """Write a journal as the version before wrote it. None is a hole."""
        self.path.parent.mkdir(parents=True)
        with closing(sqlite3.connect(self.path)) as connection, connection:
            connection.executescript(MIGRATIONS[0])
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute("PRAGMA user_version = 1")
            high: int | None = None
            for seq, each in enumerate(rows, 1):
                values: tuple[object, ...]
                if each is None:
                    values = (seq, None, None, None, high, 0, None)
                else:
                    high = max_optional(high, each.time)
                    values = (seq, each.identity, each.digest, each.time, high, 0, each.payload)
                connection.execute("INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?)", values)
            metadata = {"trimmed": "0", "begins": "1", "epoch": EPOCH}
            metadata["base_url"] = "wss://paper-api.alpaca.markets/stream"
            connection.executemany("INSERT INTO meta VALUES (?, ?)", metadata.items())

    def read_versions(self) -> tuple[int, list[str]]:
        """Return the schema version, and the keys of the metadata that tell of the upgrade."""
        with closing(sqlite3.connect(self.path)) as connection:
            [version] = connection.execute("PRAGMA user_version").fetchone()
            rows = connection.execute("SELECT value FROM meta WHERE key = 'unindexed'")
            return version, [value for (value,) in rows]

    def test_upgrade_keeps_positions_and_is_logged(self) -> None:
        """Clients resume from cursors and ids that the version before gave them."""
        self.write_version_1(events(1, 2, 3))
        with capturedLogs() as logs:
            journal = self.open(upgrade_step=60.0)
        lines = [formatEvent(each) or "" for each in logs]
        expected = f"from version 1 to version {len(MIGRATIONS)}"
        self.assertEqual(sum(expected in line for line in lines), 1)
        account = Account("paper", journal, self.clock)
        cursor = Cursor("paper", EPOCH, 2, compute_check(event(2).payload))
        self.assertEqual(locate(account, AfterId(str(cursor))), 2)
        self.assertEqual(locate(account, AfterId(event_id_of(1))), 1)
        journal.append(events(3, 4))
        self.assertEqual(journal.last, 4)
        journal.close()
        with capturedLogs() as logs:
            self.open()
        self.assertFalse([each for each in logs if "from version" in (formatEvent(each) or "")])
        self.assertEqual(self.read_versions(), (len(MIGRATIONS), []))

    def test_execution_of_older_row_is_a_repeat(self) -> None:
        """The stream's copy was written before the upgrade, the history's copy comes after it.

        Other words in the event do not matter.
        """
        stream = {"event_id": None, "at": None, "timestamp": format_time(time_of(1)), **EXECUTION}
        words = ["partial_fill", "trade_bust", "trade_correct"]
        self.write_version_1([event(1, **stream, words=words), event(2)])
        journal = self.open(upgrade_step=60.0)  # all rows in one step
        history, corrected = event(1, **EXECUTION), event(1, **{**EXECUTION, "price": "2.6"})
        journal.append([history, corrected])
        self.assertEqual((journal.last, journal.duplicates), (3, 1))

    def test_older_late_row_is_found_by_its_time(self) -> None:
        """A client of the Go SDK resumes one nanosecond after it."""
        self.write_version_1(events(3, 1, 4))
        account = Account("paper", self.open(upgrade_step=60.0), self.clock)
        self.assertEqual(locate(account, AfterTime(time_of(1))), 2)

    def test_upgrade_takes_many_steps_newest_rows_first(self) -> None:
        """A step is short. Until the last one, a time that an older row may have is not known."""
        fills = [event(n, **{**EXECUTION, "execution_id": str(n)}) for n in (3, 1, 4, 2)]
        self.write_version_1(fills)
        journal = self.open(upgrade_step=0.0)  # one row
        account = Account("paper", journal, self.clock)
        self.assertEqual(locate(account, AfterTime(time_of(4))), 3)
        self.assertRaises(UnreadableError, locate, account, AfterTime(time_of(1)))
        journal.append(fills)
        self.assertEqual(journal.duplicates, 4)
        for _ in range(3):
            self.clock.advance(STEP_EVERY)
        self.assertEqual(locate(account, AfterTime(time_of(1))), 2)
        self.assertEqual(self.read_versions(), (len(MIGRATIONS), []))
        # The trimming and the bookmark go on.
        later = self.clock.seconds() + STEP_EVERY
        self.assertGreater(min(call.getTime() for call in self.clock.getDelayedCalls()), later)

    def test_upgrade_continues_after_restart(self) -> None:
        """The process may end before the last step."""
        self.write_version_1([event(n, **{**EXECUTION, "execution_id": str(n)}) for n in (1, 2)])
        self.open(upgrade_step=0.0).close()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(self.read_versions(), (len(MIGRATIONS), ["1"]))
        journal = self.open(upgrade_step=60.0)
        again = event(1, **{**EXECUTION, "execution_id": "1", "event_id": "another"})
        self.assertTrue(journal.has(again))
        self.assertEqual(self.read_versions(), (len(MIGRATIONS), []))

    def test_step_that_fails_is_repeated(self) -> None:
        """The rows of a step whose commit failed were in no table: their fills came twice."""
        fills = [event(n, **{**EXECUTION, "execution_id": str(n)}) for n in (1, 2, 3)]
        self.write_version_1(fills)
        connections = Connections()
        connections.fail("COMMIT", sqlite3.SQLITE_FULL)  # the migrations commit otherwise
        journal = self.open(connect=connections, upgrade_step=60.0)
        self.assertFalse(journal.status.durable)
        connections.fail("COMMIT", None)
        self.clock.advance(RETRY_EVERY)
        journal.append(fills)
        self.assertEqual((journal.last, journal.duplicates), (3, 3))

    def test_correction_of_older_row_is_no_repeat(self) -> None:
        """The older row had only its event_id as a key."""
        bust = event(2, event="trade_bust")
        self.write_version_1([event(1, **EXECUTION), bust, event(3), event(4)])
        journal = self.open(upgrade_step=0.0)
        corrected = event(1, **{**EXECUTION, "price": "2.6"})
        journal.append([corrected, event(2, event="trade_correct"), bust, event(1, **EXECUTION)])
        self.assertEqual((journal.last, journal.duplicates), (6, 2))

    def test_time_of_row_that_was_trimmed_before_skips_no_row(self) -> None:
        """Which event the former version trimmed last is not known."""
        self.write_version_1(events(10, 7, 12))
        with closing(sqlite3.connect(self.path)) as connection, connection:
            connection.execute("DELETE FROM events WHERE seq = 1")
            connection.execute("UPDATE meta SET value = '1' WHERE key = 'trimmed'")
            begins = str(time_of(10) + 1)
            connection.execute("UPDATE meta SET value = ? WHERE key = 'begins'", (begins,))
        account = Account("paper", self.open(upgrade_step=60.0), self.clock)
        with self.assertRaises(UnrecoverablePositionError):
            locate(account, AfterTime(time_of(10)))

    def test_upgrade_finds_late_rows_among_holes_and_rows_without_time(self) -> None:
        """Only a row with a time before that of an earlier row is late."""
        same = event(5, at=format_time(time_of(3)))
        self.write_version_1([event(3), None, event(4, at=None), same, event(1)])
        self.open(upgrade_step=60.0)
        with closing(sqlite3.connect(self.path)) as connection:
            rows = connection.execute("SELECT seq, time FROM late").fetchall()
        self.assertEqual(rows, [(5, time_of(1))])

    def test_upgrade_with_unreadable_progress_begins_again(self) -> None:
        """Rows that are in the new tables already are not added twice."""
        fills = [event(n, **{**EXECUTION, "execution_id": str(n)}) for n in (1, 2, 3)]
        self.write_version_1(fills)
        self.open(upgrade_step=0.0).close()
        with closing(sqlite3.connect(self.path)) as connection, connection:
            connection.execute("UPDATE meta SET value = 'x' WHERE key = 'unindexed'")
        journal = self.open(upgrade_step=60.0)
        self.assertEqual(self.read_versions(), (len(MIGRATIONS), []))
        journal.append(fills)
        self.assertEqual(journal.duplicates, 3)

    def test_steps_follow_each_other_after_10_milliseconds(self) -> None:
        """In between, the proxy delivers events."""
        self.write_version_1(events(1, 2))
        self.open(upgrade_step=0.0)
        self.clock.advance(0.0078125)
        self.assertEqual(self.read_versions(), (len(MIGRATIONS), ["1"]))
        self.clock.advance(0.0078125)
        self.assertEqual(self.read_versions(), (len(MIGRATIONS), []))

    def test_trimming_adds_no_step_while_they_follow_each_other(self) -> None:
        """An upgrade takes minutes: another chain of steps would begin with each trim."""
        self.write_version_1(events(1, 2, 3, 4))
        self.open(upgrade_step=0.0)
        self.assertEqual(self.read_versions(), (len(MIGRATIONS), ["3"]))
        timers = len(self.clock.getDelayedCalls())
        self.clock.advance(TRIM_EVERY)
        self.assertEqual(self.read_versions(), (len(MIGRATIONS), ["2"]))
        self.assertEqual(len(self.clock.getDelayedCalls()), timers)

    def test_steps_are_short_and_take_many_rows(self) -> None:
        """A million rows are upgraded in minutes, and no step delays an event noticeably."""
        small = replace(event(1), payload=b"{}")
        rows = [replace(small, identity=str(n)) for n in range(20_000)]
        self.write_version_1(rows)
        self.open()
        steps = 1
        while self.read_versions() != (len(MIGRATIONS), []):
            self.clock.advance(STEP_EVERY)
            steps += 1
            self.assertLess(steps, len(rows) // 4)
        self.assertGreater(steps, 2)

    def test_step_is_committed_without_sync(self) -> None:
        """A sync takes longer than a step."""
        connections = Connections()
        levels: list[int] = []

        def record() -> None:
            levels.append(connections.query_value("PRAGMA synchronous"))

        def connect(path: str, **options: Any) -> sqlite3.Connection:
            connection = connections(path, **options)
            connections.on_commit(record)
            return connection

        self.write_version_1(events(1, 2))
        journal = self.open(connect=connect, full_sync=True, max_spooled=0, upgrade_step=60.0)
        step = levels[-1]
        journal.append(events(3))
        self.assertEqual((step, levels[-1]), (1, 2))
