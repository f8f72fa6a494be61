"""The states of a spool, and that a journal needs none."""

from __future__ import annotations

import fcntl
import sys
from pathlib import Path
from resource import RLIMIT_FSIZE, getrlimit, setrlimit
from unittest.mock import patch
from zlib import crc32

from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from tests.support.journals import entries
from tradeproxy.journal.spool import HEAD, Spool, sync_file

EPOCH = "0123456789abcdef"


class SpoolStateTests(SynchronousTestCase):
    """At most two rows are written together."""

    def setUp(self) -> None:
        self.path = Path(self.mktemp())
        self.spool = self.build(self.path)
        self.addCleanup(self.spool.close)

    def build(self, path: Path | None) -> Spool:
        return Spool("paper", path, lambda: EPOCH, 2, full_sync=False)

    def test_without_a_file_it_takes_no_row(self) -> None:
        """A journal in memory has none."""
        spool = self.build(None)
        spool.restart()
        self.assertFalse(spool.write(entries(1)))
        self.assertEqual(spool.read(EPOCH, 0), [])
        self.assertEqual((spool.is_full, spool.is_lost), (False, False))
        spool.close(must_clear=True)

    def test_rows_are_taken_from_the_first_restart_on(self) -> None:
        """Before it, the file may have rows that the store has not got yet."""
        self.assertFalse(self.spool.write(entries(1)))
        self.spool.restart()
        self.assertTrue(self.spool.write(entries(1, 2)))
        self.assertFalse(self.spool.write(entries(3, 4, 5)))
        self.assertEqual(self.spool.read(EPOCH, 1), entries(2))
        self.spool.restart()
        self.assertTrue(self.spool.write(entries(6)))
        self.assertEqual(self.spool.read(EPOCH, 0), entries(6))

    def test_failed_write_closes_it_until_a_restart(self) -> None:
        """What was written of the row is removed then."""
        self.spool.restart()
        limit = getrlimit(RLIMIT_FSIZE)
        self.addCleanup(setrlimit, RLIMIT_FSIZE, limit)
        setrlimit(RLIMIT_FSIZE, (self.path.stat().st_size + 10, limit[1]))
        self.assertFalse(self.spool.write(entries(1)))
        setrlimit(RLIMIT_FSIZE, limit)
        self.assertFalse(self.spool.write(entries(1)))
        self.spool.restart()
        self.assertTrue(self.spool.write(entries(2)))
        self.assertEqual(self.spool.read(EPOCH, 0), entries(2))

    def test_rows_end_before_one_that_is_no_row(self) -> None:
        """Its checksum is right. A later version may write other rows."""
        self.spool.restart()
        body = b"\xc1"
        head = HEAD.pack(len(body), crc32(body, crc32(EPOCH.encode())))
        for count in (0, 1):
            if count:
                self.spool.write(entries(1))
            with self.path.open("ab") as file:
                file.write(head + body)
            self.assertEqual(self.spool.read(EPOCH, 0), entries(*range(1, count + 1)))

    def test_lost_file_is_made_again_by_a_restart(self) -> None:
        """A row in a file without a path would not survive a crash."""
        self.spool.restart()
        self.path.unlink()
        self.assertTrue(self.spool.is_lost)
        self.spool.restart()
        self.assertTrue(self.spool.write(entries(1)))
        self.assertEqual(self.spool.read(EPOCH, 0), entries(1))

    def test_file_that_cannot_be_made_is_one_warning(self) -> None:
        """It is tried again after each commit of the store."""
        self.path.mkdir()
        with capturedLogs() as logs:
            self.spool.restart()
            self.spool.restart()
        self.assertEqual(len(logs), 1)
        self.assertIn("paper: every event is committed by itself: ", formatEvent(logs[0]))
        self.assertFalse(self.spool.write(entries(1)))
        self.path.rmdir()
        self.spool.restart()
        self.assertTrue(self.spool.write(entries(1)))


class SyncTests(SynchronousTestCase):
    """What was written survives a power cut."""

    def test_macos_flushes_the_drives_cache_too(self) -> None:
        """There, fsync leaves it to the drive when it writes."""
        calls: list[tuple[int, int]] = []
        with (
            patch.object(sys, "platform", "darwin"),
            patch.object(fcntl, "F_FULLFSYNC", 51, create=True),
            patch.object(fcntl, "fcntl", lambda *call: calls.append(call)),
        ):
            sync_file(7)
        self.assertEqual(calls, [(7, 51)])
