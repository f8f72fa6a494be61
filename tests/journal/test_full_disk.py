"""Tests for tradeproxy.journal.disk: the reasons that SQLite hides, on a real full disk."""

from __future__ import annotations

import os
import resource
import sqlite3
from errno import ENOSPC
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.support.disks import fill_disk, list_descriptors, mount_disk, use_inodes
from tests.support.journals import DiskCase, event, events
from tradeproxy.journal.disk import RETRY_EVERY, WATCH_EVERY
from tradeproxy.journal.file import describe_os_error, find_problem


class FullDiskTests(DiskCase):
    """A journal on a small file system. The status names the file."""

    def setUp(self) -> None:
        self.disk = mount_disk(self)
        super().setUp()

    def mktemp(self) -> str:
        return str(self.disk / "data") if hasattr(self, "disk") else super().mktemp()

    def test_append_to_full_disk_names_file(self) -> None:
        """Once there is room, everything is on the disk."""
        fill_disk(self.disk)
        for n in range(3, 200):
            self.journal.append([event(n)])
        self.assertEqual(self.journal.status.reason, f"disk full: {self.path}")
        (self.disk / "fill").unlink()
        self.clock.advance(RETRY_EVERY)
        self.assertTrue(self.journal.status.durable)
        self.assertEqual(len(self.read_disk()), 199)

    def test_vague_error_has_reason_of_the_system(self) -> None:
        """SQLite reports many causes as an I/O error. A lock has only one."""
        for n, (code, reason) in enumerate(
            (
                (sqlite3.SQLITE_IOERR_WRITE, "disk full"),
                (sqlite3.SQLITE_CANTOPEN, "disk full"),
                (sqlite3.SQLITE_READONLY, "disk full"),
                (sqlite3.SQLITE_BUSY, "another program holds the file"),
            )
        ):
            fill_disk(self.disk)
            self.connections.fail("BEGIN", code)
            self.journal.append(events(3 + n))
            self.assertEqual(self.journal.status.reason, f"{reason}: {self.path}")
            self.connections.fail("BEGIN", None)
            (self.disk / "fill").unlink()
            self.clock.advance(RETRY_EVERY)
            self.assertTrue(self.journal.status.durable)

    def test_vague_error_is_explained_by_each_retry(self) -> None:
        """The disk is full first, and faulty later."""
        fill_disk(self.disk)
        self.connections.fail("BEGIN", sqlite3.SQLITE_IOERR)
        self.journal.append(events(3))
        self.assertEqual(self.journal.status.reason, f"disk full: {self.path}")
        (self.disk / "fill").unlink()
        self.clock.advance(RETRY_EVERY)
        self.assertEqual(self.journal.status.reason, f"disk error: {self.path}")

    def test_new_file_on_full_disk_names_it(self) -> None:
        """The database was removed. SQLite reports the full disk as an I/O error."""
        fill_disk(self.disk)
        self.path.unlink()
        self.clock.advance(WATCH_EVERY)
        self.assertRegex(self.journal.status.reason, f"^disk full: {self.path}")
        self.journal.append(events(3))
        (self.disk / "fill").unlink()
        self.clock.advance(RETRY_EVERY)
        self.assertTrue(self.journal.status.durable)
        self.assertEqual([seq for seq, _ in self.read_disk()], [3])

    def test_new_file_without_free_descriptor_names_path(self) -> None:
        """The process has too many open files."""
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.path.unlink()
        lowest = list_descriptors(self.path)[0]
        taken = [os.open("/dev/null", os.O_RDONLY)]
        while taken[-1] < lowest:
            taken.append(os.open("/dev/null", os.O_RDONLY))
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, before[1]))
        try:
            self.clock.advance(WATCH_EVERY)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
            for each in taken:
                os.close(each)
        self.assertRegex(self.journal.status.reason, f"^{self.path.parent}.*: Too many open files")
        self.clock.advance(RETRY_EVERY)
        self.assertTrue(self.journal.status.durable)


class OsErrorTests(SynchronousTestCase):
    """What is wrong with a disk, as a short phrase."""

    def test_find_problem_returns_error_of_the_system(self) -> None:
        """None if a file can be made. Nothing is left behind."""
        directory = Path(self.mktemp())
        directory.mkdir()
        self.assertIsNone(find_problem(directory / "x"))
        self.assertEqual(list(directory.iterdir()), [])
        for name in ("missing", "file"):
            (directory / "file").touch()
            problem = find_problem(directory / name / "x")
            assert problem is not None
            self.assertEqual(problem.filename, str(directory / name))

    def test_full_disk_without_inode_says_so(self) -> None:
        """Removing large files would not help."""
        disk = mount_disk(self, ",nr_inodes=9")
        error = OSError(ENOSPC, "No space left on device")
        self.assertEqual(describe_os_error(error, disk / "x"), "disk full")
        use_inodes(disk)
        reason = "disk full, no inode is free"
        for path in (disk / "missing" / "x", mount_disk(self, ",nr_inodes=1") / "x"):
            self.assertEqual(describe_os_error(error, path), reason)

    def test_full_disk_that_counts_no_inodes_is_full(self) -> None:
        """Btrfs reports 0 inodes, of which 0 are free, and so does /proc."""
        path = Path("/proc/x")
        if os.statvfs(path.parent).f_files:
            raise SkipTest("/proc counts inodes here")
        error = OSError(ENOSPC, "No space left on device")
        self.assertEqual(describe_os_error(error, path), "disk full")
