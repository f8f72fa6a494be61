"""Tests for tradeproxy.journal.disk: the reasons that SQLite hides, on a real full disk."""

from __future__ import annotations

import os
import resource
from errno import ENOSPC
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.support.disks import fill_disk, mount_disk, use_inodes
from tests.support.journals import DiskCase, event, events
from tradeproxy.journal.disk import RETRY_EVERY, WATCH_EVERY
from tradeproxy.journal.file import describe_os_error, find_problem


def link(path: Path) -> str:
    """Return what an entry of /proc/self/fd stands for."""
    try:
        return str(path.readlink())
    except FileNotFoundError:  # the directory itself, which is closed again
        return ""


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
        lowest = min(
            int(each.name)
            for each in Path("/proc/self/fd").iterdir()
            if "paper.sqlite3" in link(each)
        )
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
        self.assertEqual(describe_os_error(error, disk / "missing" / "x"), reason)
