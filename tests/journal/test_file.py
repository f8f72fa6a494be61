"""Tests for tradeproxy.journal.file."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.support.processes import SOURCES
from tradeproxy.journal.base import JournalError
from tradeproxy.journal.file import JournalFile, check_journal
from tradeproxy.journal.schema import MIGRATIONS, migrate

LOOK = """
import sys
from pathlib import Path
from tradeproxy.journal.base import JournalError
from tradeproxy.journal.file import JournalFile, check_journal
path = Path(sys.argv[1])
print(check_journal(path))
try:
    JournalFile(path).acquire()
except JournalError as error:
    print(error)
"""
TAKE_AND_DIE = """
import os, signal, sys
from pathlib import Path
from tradeproxy.journal.file import JournalFile
JournalFile(Path(sys.argv[1])).acquire()
os.kill(os.getpid(), signal.SIGKILL)
"""


def in_another_process(program: str, path: Path) -> str:
    """Run a program with a path, to its end, and return what it printed."""
    command = [sys.executable, "-c", program, str(path.absolute())]
    environment = {**os.environ, "PYTHONPATH": str(SOURCES)}
    return subprocess.run(
        command, capture_output=True, env=environment, text=True, check=False
    ).stdout


def mode_of(path: Path) -> int:
    """Return the permissions of a file."""
    return stat.S_IMODE(path.stat().st_mode)


class JournalFileCase(SynchronousTestCase):
    """Has a place for a journal, of which not even the directory exists."""

    def setUp(self) -> None:
        self.path = Path(self.mktemp()) / "state" / "tradeproxy" / "paper.sqlite3"

    def file(self) -> JournalFile:
        file = JournalFile(self.path)
        self.addCleanup(file.release)
        return file

    def write_schema(self, *more: str) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(self.path, isolation_level=None)
        migrate(connection, (*MIGRATIONS, *more))
        connection.close()

    def contents(self) -> dict[str, bytes]:
        """Return all that is in the directory."""
        return {path.name: path.read_bytes() for path in self.path.parent.iterdir()}


class AcquireTests(JournalFileCase):
    """A journal is one process's, and its owner's."""

    def test_only_the_owner_may_read_it_whatever_the_umask(self) -> None:
        """Trading history is nobody else's business, the directories' names included."""
        for umask in (0, 0o777):
            self.path = Path(self.mktemp())
            self.path.mkdir()
            self.path = self.path / "state" / "tradeproxy" / "paper.sqlite3"
            if umask == 0o777:  # under which no directory would be of use
                self.path.parent.mkdir(parents=True, mode=0o700)
            before = os.umask(umask)
            try:
                file = self.file()
                file.acquire()
                file.create()
            finally:
                os.umask(before)
            self.assertEqual(mode_of(self.path), 0o600)
            self.assertEqual(mode_of(self.path.with_suffix(".lock")), 0o600)
            if umask == 0:
                self.assertEqual(mode_of(self.path.parent), 0o700)
                self.assertEqual(mode_of(self.path.parent.parent), 0o700)

    def test_a_file_that_exists_is_kept(self) -> None:
        """Neither its content nor the permissions that its owner gave it are changed."""
        self.path.parent.mkdir(parents=True)
        self.path.write_bytes(b"")
        self.path.chmod(0o640)
        file = self.file()
        file.acquire()
        self.assertEqual(file.size, 0)
        self.path.write_bytes(b"content")
        file.create()
        self.assertEqual(
            (self.path.read_bytes(), mode_of(self.path), file.size), (b"content", 0o640, 7)
        )

    def test_a_second_one_is_refused_until_the_first_has_let_go(self) -> None:
        """The line names the file; letting go twice does no harm."""
        first, second = self.file(), self.file()
        first.acquire()
        for _ in range(2):
            with self.assertRaisesRegex(JournalError, f"^{self.path}: another tradeproxy uses it$"):
                second.acquire()
        first.release()
        first.release()
        second.acquire()
        self.assertIsNotNone(check_journal(self.path))

    def test_another_process_is_refused(self) -> None:
        """It is told so both when it looks and when it tries."""
        self.file().acquire()
        line = f"{self.path.absolute()}: another tradeproxy uses it\n"
        self.assertEqual(in_another_process(LOOK, self.path), line * 2)

    def test_a_process_that_was_killed_holds_nothing(self) -> None:
        """The lock file stays, the lock does not."""
        in_another_process(TAKE_AND_DIE, self.path)
        self.assertTrue(self.path.with_suffix(".lock").exists())
        self.assertIsNone(check_journal(self.path))
        self.file().acquire()

    def test_a_later_versions_file_is_refused_and_untouched(self) -> None:
        """The lock is not kept, so that the later version can have it."""
        self.write_schema("CREATE TABLE more (x)")
        before = self.contents()
        for _ in range(2):
            with self.assertRaisesRegex(
                JournalError, f"^{self.path}: a newer tradeproxy"
            ) as caught:
                self.file().acquire()
        self.assertEqual(check_journal(self.path), str(caught.exception))
        self.assertEqual(self.contents(), before | {"paper.lock": b""})

    def test_says_what_stands_in_the_way(self) -> None:
        """A file where the directory should be, and a directory where a file should be."""
        self.path.parent.parent.parent.mkdir(parents=True)
        self.path.parent.parent.write_text("")
        with self.assertRaisesRegex(JournalError, f"^{self.path}: .*[Nn]ot a directory"):
            self.file().acquire()
        self.path.parent.parent.unlink()
        self.path.mkdir(parents=True)
        with self.assertRaisesRegex(JournalError, f"^{self.path}: .*Is a directory"):
            self.file().acquire()


class SetAsideTests(JournalFileCase):
    """An old journal is kept under another name."""

    def test_takes_the_write_ahead_log_along(self) -> None:
        """Without it, the last events would be lost to whoever looks into the old file."""
        file = self.file()
        file.acquire()
        for ending in ("", "-wal"):
            self.path.with_name(f"paper.sqlite3{ending}").write_bytes(ending.encode())
        self.assertEqual(file.set_aside("damaged-0123"), "paper.sqlite3.damaged-0123")
        kept = {
            "paper.sqlite3.damaged-0123": b"",
            "paper.sqlite3.damaged-0123-wal": b"-wal",
            "paper.lock": b"",
        }
        self.assertEqual(self.contents(), kept)


class CheckTests(JournalFileCase):
    """What stands in the way of a journal is found before twistd has forked."""

    def test_leaves_nothing_behind(self) -> None:
        """A first start is in order; the directory is made by the user that twistd changes to."""
        self.assertIsNone(check_journal(self.path))
        self.assertFalse(self.path.parent.exists())

    def test_changes_nothing_in_a_journal(self) -> None:
        """Not its files, and it is free afterwards."""
        self.write_schema()
        JournalFile(self.path).release()
        before = self.contents()
        self.assertIsNone(check_journal(self.path))
        self.assertEqual(self.contents(), before)
        self.file().acquire()

    def test_says_why_it_cannot_be(self) -> None:
        """One line, that begins with the path."""
        self.path.mkdir(parents=True)
        taken = self.path.parent / "file"
        taken.write_text("")
        for path, words in (
            (self.path, "it cannot be written to"),
            (taken / "paper.sqlite3", "not a directory"),
            (taken / "deeper" / "paper.sqlite3", "not a directory"),
        ):
            line = check_journal(path)
            assert line is not None
            self.assertRegex(line, f"^{path}: .*{words}")
            self.assertNotIn("\n", line)

    def test_says_when_the_directory_cannot_be_written_to(self) -> None:
        """Root may write everywhere but where the kernel itself says no."""
        directory = Path("/proc/self")
        if not directory.exists():
            raise SkipTest("this system has no /proc")
        self.assertEqual(
            check_journal(directory / "paper.sqlite3"),
            f"{directory}/paper.sqlite3: the directory {directory} cannot be written to",
        )
