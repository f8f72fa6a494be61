"""Tests for tradeproxy.journal.file."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.support.disks import limit_file_size, list_descriptors
from tests.support.processes import SOURCES
from tradeproxy.journal.base import JournalError
from tradeproxy.journal.file import JournalFile, check_journal
from tradeproxy.journal.schema import MIGRATIONS, migrate

CHECK_AND_ACQUIRE = """
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
ACQUIRE_AND_DIE = """
import os, signal, sys
from pathlib import Path
from tradeproxy.journal.file import JournalFile
JournalFile(Path(sys.argv[1])).acquire()
os.kill(os.getpid(), signal.SIGKILL)
"""


def run_in_another_process(program: str, path: Path) -> str:
    """Run a Python program with `path` as its argument, and return its output."""
    command = [sys.executable, "-c", program, str(path.absolute())]
    environment = {**os.environ, "PYTHONPATH": str(SOURCES)}
    return subprocess.run(
        command, capture_output=True, env=environment, text=True, check=False
    ).stdout


def get_mode(path: Path) -> int:
    """Return the permission bits of a file."""
    return stat.S_IMODE(path.stat().st_mode)


class JournalFileCase(SynchronousTestCase):
    """A base class with the path of a journal whose directory does not exist yet."""

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

    def list_locks(self) -> list[int]:
        return list_descriptors(self.path.with_suffix(".lock"))

    def contents(self) -> dict[str, bytes]:
        """Return the names and contents of all files in the directory."""
        return {path.name: path.read_bytes() for path in self.path.parent.iterdir()}


class AcquireTests(JournalFileCase):
    """One process at a time uses a journal, and only the owner can read it."""

    def test_acquire_any_umask_makes_files_private(self) -> None:
        """Trading history is private, and so are the names in the directories."""
        for umask in (0, 0o777):
            self.path = Path(self.mktemp())
            self.path.mkdir()
            self.path = self.path / "state" / "tradeproxy" / "paper.sqlite3"
            # A directory created with umask 0777 could not be entered.
            if umask == 0o777:
                self.path.parent.mkdir(parents=True, mode=0o700)
            before = os.umask(umask)
            try:
                file = self.file()
                file.acquire()
                file.create()
            finally:
                os.umask(before)
            self.assertEqual(get_mode(self.path), 0o600)
            self.assertEqual(get_mode(self.path.with_suffix(".lock")), 0o600)
            if umask == 0:
                self.assertEqual(get_mode(self.path.parent), 0o700)
                self.assertEqual(get_mode(self.path.parent.parent), 0o700)

    def test_acquire_existing_file_keeps_content_and_mode(self) -> None:
        """Neither the content nor the permissions are changed."""
        self.path.parent.mkdir(parents=True)
        self.path.write_bytes(b"")
        self.path.chmod(0o640)
        file = self.file()
        file.acquire()
        self.assertEqual(file.size, 0)
        self.path.write_bytes(b"content")
        file.create()
        self.assertEqual(
            (self.path.read_bytes(), get_mode(self.path), file.size), (b"content", 0o640, 7)
        )

    def test_acquire_locked_journal_fails_until_release(self) -> None:
        """The error names the file. A second release has no effect."""
        first, second = self.file(), self.file()
        first.acquire()
        for _ in range(2):
            with self.assertRaisesRegex(JournalError, f"^{self.path}: another tradeproxy uses it$"):
                second.acquire()
        first.release()
        first.release()
        second.acquire()
        self.assertIsNotNone(check_journal(self.path))

    def test_acquire_in_another_process_fails(self) -> None:
        """Both `check_journal` and `acquire` report the lock."""
        self.file().acquire()
        line = f"{self.path.absolute()}: another tradeproxy uses it\n"
        self.assertEqual(run_in_another_process(CHECK_AND_ACQUIRE, self.path), line * 2)

    def test_acquire_after_kill_succeeds(self) -> None:
        """The lock file stays, but the lock ends with the process."""
        run_in_another_process(ACQUIRE_AND_DIE, self.path)
        self.assertTrue(self.path.with_suffix(".lock").exists())
        self.assertIsNone(check_journal(self.path))
        self.file().acquire()

    def test_acquire_later_version_fails_and_changes_nothing(self) -> None:
        """The lock is released, so that the later version can use the file."""
        self.write_schema("CREATE TABLE more (x)")
        before = self.contents()
        for _ in range(2):
            with self.assertRaisesRegex(
                JournalError, f"^{self.path}: a newer tradeproxy"
            ) as caught:
                self.file().acquire()
        self.assertEqual(check_journal(self.path), str(caught.exception))
        self.assertEqual(self.contents(), before | {"paper.lock": b""})

    def test_acquire_path_of_wrong_kind_fails_with_reason(self) -> None:
        """A file is where a directory should be, or a directory where a file should be."""
        self.path.parent.parent.parent.mkdir(parents=True)
        self.path.parent.parent.write_text("")
        with self.assertRaisesRegex(JournalError, f"^{self.path}: .*[Nn]ot a directory"):
            self.file().acquire()
        self.path.parent.parent.unlink()
        self.path.mkdir(parents=True)
        with self.assertRaisesRegex(JournalError, f"^{self.path}: .* is not a regular file$"):
            self.file().acquire()


class LockTests(JournalFileCase):
    """The lock is one descriptor of the lock file, for as long as the journal is in use."""

    def test_lock_twice_keeps_descriptor(self) -> None:
        """If it were closed for a moment, another process could take the lock."""
        lower = os.open("/dev/null", os.O_RDONLY)
        file = self.file()
        file.acquire()
        before = self.list_locks()
        os.close(lower)
        file.lock()
        self.assertEqual((len(before), self.list_locks()), (1, before))

    def test_lock_after_loss_leaves_no_descriptor(self) -> None:
        """The lock on the removed file is released."""
        file = self.file()
        file.acquire()
        self.path.with_suffix(".lock").unlink()
        file.lock()
        self.assertEqual(len(self.list_locks()), 1)
        file.release()
        self.assertEqual(self.list_locks(), [])

    def test_journal_in_use_leaves_no_descriptor(self) -> None:
        """A journal that lost its lock tries to get it every second."""
        self.file().acquire()
        for _ in range(2):
            self.assertRaises(JournalError, self.file().acquire)
            self.assertIsNotNone(check_journal(self.path))
        self.assertEqual(len(self.list_locks()), 1)


class SetAsideTests(JournalFileCase):
    """An old journal is kept under another name."""

    def test_set_aside_renames_write_ahead_log_too(self) -> None:
        """Without it, the last events of the old file would be lost."""
        file = self.file()
        file.acquire()
        for suffix in ("", "-wal"):
            self.path.with_name(f"paper.sqlite3{suffix}").write_bytes(suffix.encode())
        names = ["paper.sqlite3.damaged-0123", "paper.sqlite3.damaged-0123-wal"]
        self.assertEqual(file.set_aside("damaged", "0123"), names)
        kept = {
            "paper.sqlite3.damaged-0123": b"",
            "paper.sqlite3.damaged-0123-wal": b"-wal",
            "paper.lock": b"",
        }
        self.assertEqual(self.contents(), kept)


class CheckJournalTests(JournalFileCase):
    """Problems with a journal are found before twistd forks."""

    def test_check_before_first_start_creates_nothing(self) -> None:
        """The directory is created later, by the user that twistd changes to."""
        self.assertIsNone(check_journal(self.path))
        self.assertFalse(self.path.parent.exists())

    def test_check_existing_journal_changes_nothing_and_unlocks(self) -> None:
        """The files stay as they are, and the journal can be acquired afterwards."""
        self.write_schema()
        JournalFile(self.path).release()
        before = self.contents()
        self.assertIsNone(check_journal(self.path))
        self.assertEqual(self.contents(), before)
        self.file().acquire()

    def test_check_unusable_path_returns_reason(self) -> None:
        """The reason is one line that begins with the path."""
        self.path.mkdir(parents=True)
        file = self.path.parent / "file"
        file.write_text("")
        for path, reason in (
            (self.path, "it cannot be written to"),
            (file / "paper.sqlite3", "not a directory"),
            (file / "deeper" / "paper.sqlite3", "not a directory"),
        ):
            line = check_journal(path)
            assert line is not None
            self.assertRegex(line, f"^{path}: .*{reason}")
            self.assertNotIn("\n", line)

    def test_check_read_only_directory_returns_reason(self) -> None:
        """Uses /proc, where even root cannot create files."""
        directory = Path("/proc/self")
        if not directory.exists():
            raise SkipTest("this system has no /proc")
        self.assertEqual(
            check_journal(directory / "paper.sqlite3"),
            f"{directory}/paper.sqlite3: the directory {directory} cannot be written to",
        )

    def test_check_first_start_needs_256_kib(self) -> None:
        """An existing journal has its tables: it can be opened on a full disk."""
        self.write_schema()
        directory = self.path.parent
        empty, missing = directory / "empty.sqlite3", directory / "missing.sqlite3"
        empty.touch()
        for path in (empty, missing):
            with limit_file_size(256 * 1024):
                self.assertIsNone(check_journal(path))
            with limit_file_size(256 * 1024 - 1):
                line = check_journal(path)
            self.assertEqual(line, f"{path}: {directory}: File too large")
        with limit_file_size(256 * 1024 - 1):
            self.assertIsNone(check_journal(self.path))
