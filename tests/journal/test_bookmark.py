"""Tests for tradeproxy.journal.bookmark: a journal that is damaged or gone at the start."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.support.journals import BASE_URL, SqliteCase, event, events, time_of
from tradeproxy.hub.completeness import Completeness
from tradeproxy.hub.gaps import Gaps
from tradeproxy.journal.bookmark import CHECK_EVERY, MAX_SIZE, WRITE_EVERY, Bookmark
from tradeproxy.journal.metadata import OPEN_SINCE, UNKNOWN
from tradeproxy.journal.sqlite import SqliteJournal
from tradeproxy.wire.proxy_status import Gap


class BookmarkCase(SqliteCase):
    """A base class with a journal of two events, and the path of its bookmark."""

    def setUp(self) -> None:
        super().setUp()
        self.journal = self.open()
        self.journal.append(events(1, 2))
        self.bookmark = self.path.with_suffix(".bookmark")

    def read_bookmark(self) -> dict[str, str]:
        saved: dict[str, str] = json.loads(self.bookmark.read_text())
        return saved

    def side(self, suffix: str) -> Path:
        """Return one of SQLite's files beside the database."""
        return self.path.with_name(self.path.name + suffix)

    def kill(self, journal: SqliteJournal) -> None:
        """Leave the files as a killed process does, without their lock."""
        kept = {path: path.read_bytes() for path in self.path.parent.iterdir()}
        journal.close()
        for path, content in kept.items():
            path.write_bytes(content)


class WrittenBookmarkTests(BookmarkCase):
    """The bookmark follows the log, at a distance."""

    def test_write_is_regular_and_at_close(self) -> None:
        """Never when an event arrives: a slow disk would delay it."""
        self.assertFalse(self.bookmark.exists())
        self.clock.advance(CHECK_EVERY)
        self.assertEqual(self.read_bookmark()["latest"], str(time_of(2)))
        self.journal.append(events(3))
        self.clock.pump([CHECK_EVERY] * int(WRITE_EVERY - 1))
        self.assertEqual(self.read_bookmark()["latest"], str(time_of(2)))
        self.clock.advance(CHECK_EVERY)
        self.assertEqual(self.read_bookmark()["latest"], str(time_of(3)))
        self.journal.append(events(4))
        self.journal.set_metadata("open orders", '["a"]')
        self.journal.identify("one")
        self.assertEqual(self.read_bookmark()["latest"], str(time_of(3)))
        self.journal.close()
        self.assertEqual(
            self.read_bookmark(),
            {
                "base_url": BASE_URL,
                "account_id": "one",
                "latest": str(time_of(4)),
                "remembered open orders": '["a"]',
            },
        )

    def test_write_same_state_leaves_file_alone(self) -> None:
        """A quiet account does not wear a memory card. A file that was removed is written again."""
        self.clock.advance(WRITE_EVERY)
        before = self.bookmark.stat()
        self.clock.advance(WRITE_EVERY)
        self.assertEqual(self.bookmark.stat().st_ino, before.st_ino)
        self.bookmark.unlink()
        self.clock.advance(WRITE_EVERY)
        self.assertEqual(self.read_bookmark()["latest"], str(time_of(2)))

    def test_write_file_is_private_and_complete(self) -> None:
        """Another file takes its place at once; what a crash left beside it is no obstacle."""
        self.clock.advance(WRITE_EVERY)
        self.assertEqual(stat.S_IMODE(self.bookmark.stat().st_mode), 0o600)
        before = self.bookmark.stat().st_ino
        left = self.bookmark.with_name("paper.bookmark.new")
        left.write_bytes(b"half of")
        self.journal.append(events(3))
        self.clock.advance(WRITE_EVERY)
        self.assertNotEqual(self.bookmark.stat().st_ino, before)
        self.assertFalse(left.exists())

    def test_write_disk_fails_is_ignored_and_repeated(self) -> None:
        """The journal's status reports the disk. The bookmark follows once it works again."""
        directory = self.bookmark.with_name("paper.bookmark.new")
        directory.mkdir()
        self.clock.advance(WRITE_EVERY)
        self.assertFalse(self.bookmark.exists())
        directory.rmdir()
        self.clock.advance(WRITE_EVERY)
        self.assertEqual(self.read_bookmark()["latest"], str(time_of(2)))

    def test_read_damaged_file_returns_no_state(self) -> None:
        """Whatever the disk returns is a state, or damage; nothing raises."""
        path = Path(self.mktemp())
        bookmark = Bookmark(path, self.clock, dict, full_sync=False)
        self.assertIsNone(bookmark.read())
        for text in ("", "{", "[]", "{}", '{"base_url": 1}', '{"base_url": "b", "latest": 1}'):
            path.write_text(text)
            self.assertEqual(bookmark.read(), {}, text)
        for text in (r'{"base_url": "b", "x": "\ud800"}', r'{"base_url": "b", "\ud800": "1"}'):
            path.write_text(text)
            self.assertEqual(bookmark.read(), {}, text)
        for content in (b"\xff\x00", b"[" * 50_000, b" " * MAX_SIZE + b"{}"):
            path.write_bytes(content)
            self.assertEqual(bookmark.read(), {}, content[:9])
        path.write_text('{"base_url": "b"}')
        self.assertEqual(bookmark.read(), {"base_url": "b"})


class BookmarkFileTests(SynchronousTestCase):
    """When and how the file of a bookmark is written, whatever the state is of."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.path = Path(self.mktemp())
        self.state = {"base_url": "b"}

    def make(self, *, full_sync: bool = False, is_ours: bool = True) -> Bookmark:
        return Bookmark(
            self.path,
            self.clock,
            lambda: self.state,
            is_ours=lambda: is_ours,
            full_sync=full_sync,
        )

    def test_write_checks_every_second_and_waits_10_seconds_between_writes(self) -> None:
        """A new log has its first bookmark soon. A busy one does not wear a memory card."""
        self.make().start()
        times = []
        before: object = {}
        for _ in range(100):
            self.clock.advance(0.25)
            self.state = {"base_url": "b", "latest": str(self.clock.seconds())}
            if self.path.exists() and (found := json.loads(self.path.read_text())) != before:
                times.append(self.clock.seconds())
                before = found
        self.assertEqual(times, [1.0, 11.0, 21.0])

    def test_quiet_account_is_looked_at_every_10_seconds(self) -> None:
        """It was every second. With cold caches, each look cost as much as an event."""
        looks = []

        def state() -> dict[str, str]:
            looks.append(self.clock.seconds())
            return {"base_url": "b", "latest": "1"}

        Bookmark(self.path, self.clock, state, full_sync=False).start()
        self.clock.pump([1.0] * 60)
        self.assertEqual(looks, [0.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0])

    def test_start_writes_at_once(self) -> None:
        """A crash may follow soon."""
        self.state = {"base_url": "b", "latest": "1"}
        self.make().start()
        self.assertEqual(json.loads(self.path.read_text()), self.state)

    def test_stop_twice_or_without_start_writes_nothing(self) -> None:
        """A journal that could not be opened is closed too."""
        bookmark = self.make()
        bookmark.stop()
        bookmark.start()
        bookmark.stop()
        self.state = {"base_url": "b", "latest": "1"}
        bookmark.stop()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertFalse(self.path.exists())

    def test_write_needs_more_than_the_base_url_and_the_lock(self) -> None:
        """The bookmark of a log without events would hide that it is a first start."""
        self.make().write()
        self.assertFalse(self.path.exists())
        self.state = {"base_url": "b", "latest": "1"}
        self.make(is_ours=False).write()
        self.assertFalse(self.path.exists())
        self.make().write()
        self.assertTrue(self.path.exists())

    def test_write_full_sync_syncs_complete_file_before_it_replaces_the_old_one(self) -> None:
        """After a power cut there is the old file or the new one."""
        synced = []

        def sync(descriptor: int) -> None:
            written = Path(f"/proc/self/fd/{descriptor}").read_bytes()
            synced.append((written, self.path.exists()))

        self.patch(os, "fsync", sync)
        self.state = {"base_url": "b", "latest": "1"}
        self.make(full_sync=True).write()
        self.assertEqual(synced, [(self.path.read_bytes(), False)])
        self.make().write()
        self.assertEqual(len(synced), 1)

    def test_read_file_over_1_mib_is_damaged(self) -> None:
        """Another program's file may be of any size."""
        for size, state in ((1_048_576, {"base_url": "b"}), (1_048_577, {})):
            text = b'{"base_url": "b"'
            self.path.write_bytes(text + b" " * (size - len(text) - 1) + b"}")
            self.assertEqual(self.make().read(), state, size)


class UmaskTests(BookmarkCase):
    """A umask that removes the owner's permissions too."""

    def test_bookmark_is_private_and_readable_with_any_umask(self) -> None:
        """Without read permission, a start after a lost journal would fail."""
        self.bookmark.unlink(missing_ok=True)
        self.addCleanup(os.umask, os.umask(0o777))
        self.clock.advance(WRITE_EVERY)
        self.assertEqual(self.bookmark.stat().st_mode & 0o777, 0o600)


class LostJournalTests(BookmarkCase):
    """The journal is gone or damaged when the proxy starts."""

    def damages(self) -> dict[str, Callable[[], object]]:
        """Return the ways in which the file of a stopped or killed proxy is lost."""

        def overwrite(begin: int, end: int) -> None:
            with self.path.open("r+b") as file:
                file.seek(begin)
                file.write(b"\xff" * (end - begin))

        def truncate() -> None:
            with self.path.open("r+b") as file:
                file.truncate(self.path.stat().st_size // 2)

        def remove_log() -> None:
            self.side("-wal").unlink()
            self.side("-shm").unlink()

        def remove_all() -> None:
            for each in self.path.parent.glob("paper.sqlite3*"):
                each.unlink()

        def empty() -> None:
            self.path.write_bytes(b"")

        return {
            "header": lambda: overwrite(0, 100),
            "first page": lambda: overwrite(0, 4096),
            "half": truncate,
            "write-ahead log": remove_log,
            "database": self.path.unlink,
            "empty database": empty,
            "everything": remove_all,
        }

    def lose(self, damage: Callable[[], object], *, killed: bool) -> SqliteJournal:
        """Damage the files of a journal that was closed or killed, and open it again."""
        journal = self.open()
        journal.append([event(n) for n in range(3, 200)])
        journal.set_metadata("checked through", str(time_of(150)))
        self.clock.advance(max(WRITE_EVERY, 200))
        if killed:
            self.kill(journal)
        else:
            journal.close()
        damage()
        return self.open()

    def each_damage(self) -> list[tuple[str, Callable[[], object], bool]]:
        self.journal.close()
        # A closed journal has no write-ahead log. With one, nothing is lost with the pages that it
        # has, here all.
        kills = {"write-ahead log": (True,)}
        kills |= dict.fromkeys(("header", "first page", "half"), (False,))
        return [
            (name, damage, killed)
            for name, damage in self.damages().items()
            for killed in kills.get(name, (False, True))
        ]

    def begin_again(self) -> None:
        for each in list(self.path.parent.iterdir()):
            each.unlink()

    def test_open_lost_journal_continues_from_bookmark(self) -> None:
        """Delivered events are duplicates. The gap begins at the last one."""
        for name, damage, killed in self.each_damage():
            self.begin_again()
            journal = self.lose(damage, killed=killed)
            state = (journal.latest_time, journal.dedup_horizon)
            self.assertEqual(state, (time_of(199), time_of(199)), (name, killed))
            self.assertTrue(journal.has(event(199)))
            self.assertFalse(journal.has(event(200)))
            gaps = Gaps(journal, Completeness(journal), lambda _: None)
            gaps.begin_gap()
            self.assertEqual(gaps.current, Gap(time_of(199)))
            self.assertEqual(gaps.completeness.backfill_from, time_of(150))
            journal.append(events(200))
            journal.close()
            again = self.open()
            self.assertEqual((again.epoch, again.last), (journal.epoch, journal.last))
            again.close()

    def test_open_damaged_journal_without_bookmark_begins_unknown_gap(self) -> None:
        """The same for a damaged bookmark. Without any file it is a first start."""
        for bookmark in (None, b"\xff"):

            def spoil(bookmark: bytes | None = bookmark) -> None:
                if bookmark is None:
                    self.bookmark.unlink()
                else:
                    self.bookmark.write_bytes(bookmark)

            for name, damage, killed in self.each_damage():

                def lose(damage: Callable[[], object] = damage) -> None:
                    damage()
                    spoil()

                self.begin_again()
                journal = self.lose(lose, killed=killed)
                no_trace = {"everything", "write-ahead log"} | (
                    set() if killed else {"database", "empty database"}
                )
                is_first = bookmark is None and name in no_trace
                self.assertEqual(
                    journal.get_metadata(OPEN_SINCE),
                    None if is_first else UNKNOWN,
                    (name, killed, bookmark),
                )
                self.assertIsNone(journal.dedup_horizon)
                journal.close()

    def test_open_lost_journal_of_open_gap_continues_gap(self) -> None:
        """Events of the gap, although older than the last event, are still to be delivered."""
        self.clock.advance(10)
        self.journal.set_metadata(OPEN_SINCE, str(time_of(1)))
        self.journal.close()
        self.path.unlink()
        journal = self.open()
        self.assertEqual(journal.dedup_horizon, time_of(1))
        gaps = Gaps(journal, Completeness(journal), lambda _: None)
        gaps.begin_gap()
        self.assertEqual(gaps.current, Gap(time_of(1)))

    def test_open_lost_journal_with_half_a_surrogate_in_bookmark_begins_unknown_gap(self) -> None:
        """SQLite refuses such text; the start ended with a traceback."""
        for damaged in ({"account_id": "\ud800"}, {"remembered open orders": "\ud800"}):
            self.journal.close()
            self.path.unlink()
            self.bookmark.write_text(json.dumps({"base_url": BASE_URL, **damaged}))
            self.journal = self.open()
            self.assertEqual(self.journal.get_metadata(OPEN_SINCE), UNKNOWN)

    def test_open_lost_journal_keeps_account_and_notes(self) -> None:
        """Another account under the same name is still recognised."""
        self.journal.identify("one")
        self.journal.set_metadata("open orders", '["a"]')
        self.journal.close()
        self.path.unlink()
        journal = self.open()
        self.assertEqual(journal.get_metadata("open orders"), '["a"]')
        self.assertTrue(journal.identify("two"))

    def test_open_with_bookmark_of_another_url_is_a_first_start(self) -> None:
        """The events that followed are another account's."""
        self.journal.close()
        self.path.unlink()
        journal = self.open(base_url="wss://api.alpaca.markets/stream")
        self.assertEqual((journal.latest_time, journal.get_metadata(OPEN_SINCE)), (None, None))

    def test_open_usable_journal_ignores_bookmark(self) -> None:
        """A restored backup is older than the bookmark: Alpaca is asked from its last event."""
        backup = self.path.with_name("backup")
        self.journal.close()
        backup.write_bytes(self.path.read_bytes())
        self.journal = self.open()
        self.journal.append(events(9))
        self.journal.close()
        backup.rename(self.path)
        journal = self.open()
        self.assertEqual((journal.latest_time, journal.dedup_horizon), (time_of(2), None))

    def test_open_leftover_write_ahead_log_is_set_aside(self) -> None:
        """SQLite would take it for a part of the new database."""
        self.kill(self.journal)
        content = self.side("-wal").read_bytes()
        self.path.unlink()
        journal = self.open()
        aside = self.side(f".damaged-{journal.epoch}-wal")
        self.assertEqual(aside.read_bytes(), content)
        self.assertEqual(self.read_seqs(journal, 0), [])

    def test_open_unknown_gap_survives_crash_before_first_stream(self) -> None:
        """Even one between the renaming of the old file and the first commit to the new one."""
        self.journal.close()
        self.path.write_bytes(b"nonsense" * 1000)
        self.bookmark.unlink()
        self.kill(self.open())
        self.assertEqual(self.open().get_metadata(OPEN_SINCE), UNKNOWN)
        self.doCleanups()
        self.path.unlink()
        self.assertEqual(self.open().get_metadata(OPEN_SINCE), UNKNOWN)
