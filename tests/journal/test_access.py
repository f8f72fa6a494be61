"""Tests for tradeproxy.journal.access: journals that other users can change."""

from __future__ import annotations

import os
import re
import sqlite3
from contextlib import closing

from twisted.trial.unittest import SkipTest

from tests.support.journals import SqliteCase, events
from tradeproxy.journal.access import check_access, find_access_warnings
from tradeproxy.journal.base import JournalError
from tradeproxy.journal.file import check_journal

STRANGER = 4001


class AccessTests(SqliteCase):
    """Who can write a journal can forge events, and bring down what reads it."""

    def setUp(self) -> None:
        super().setUp()
        journal = self.open()
        journal.append(events(1))
        self.clock.advance(10)
        journal.close()

    def assert_refused(self, reason: str) -> None:
        """Expect the same line of the checks before a start and of the opening."""
        line = f"{self.path}: {reason}"
        self.assertEqual(check_journal(self.path), line)
        self.assertRaisesRegex(JournalError, f"^{re.escape(line)}$", self.open)

    def test_directory_of_everyone_is_refused_without_sticky_bit(self) -> None:
        """Everyone could put another file in the place of the journal."""
        directory = self.path.parent
        directory.chmod(0o777)
        self.assert_refused(
            f"everyone can replace it: run chmod o-w on {directory}, or choose a directory in it"
        )
        directory.chmod(0o1777)
        self.open().close()

    def test_file_of_everyone_is_refused(self) -> None:
        """The bookmark is read if the journal is lost, the lock keeps others out."""
        for name in ("paper.sqlite3", "paper.lock", "paper.bookmark"):
            each = self.path.with_name(name)
            each.chmod(0o666)
            self.assert_refused(f"everyone can write {each}; run chmod 600 on it")
            each.chmod(0o600)
        left = self.path.with_name("paper.sqlite3-wal")
        left.touch()
        left.chmod(0o602)
        self.assert_refused(f"everyone can write {left}; run chmod 600 on it")

    def test_what_is_not_a_regular_file_is_refused(self) -> None:
        """A FIFO in place of the spool or the bookmark blocked the start for ever."""
        for name in ("paper.sqlite3-wal", "paper.lock", "paper.bookmark", "paper.spool"):
            each = self.path.with_name(name)
            for make, remove in ((os.mkfifo, os.unlink), (os.mkdir, os.rmdir)):
                each.unlink(missing_ok=True)
                make(each)
                self.assert_refused(f"{each} is not a regular file")
                remove(each)
        self.open().close()

    def test_link_to_file_of_everyone_is_refused(self) -> None:
        """The target counts."""
        target = self.path.rename(self.path.with_name("target"))
        target.chmod(0o666)
        self.path.symlink_to("target")
        self.assert_refused(f"everyone can write {self.path}; run chmod 600 on it")

    def test_file_of_another_user_in_directory_of_everyone_is_refused(self) -> None:
        """In /tmp, a stranger may have made the file or the link first."""
        if os.geteuid() != 0:
            raise SkipTest("only root can give a file to another user")
        self.path.parent.chmod(0o1777)
        bookmark = self.path.with_name("paper.bookmark")
        bookmark.unlink()
        bookmark.symlink_to(self.path.absolute())
        os.chown(bookmark, STRANGER, -1, follow_symlinks=False)
        reason = f"owns {bookmark}, and everyone can make files there"
        self.assert_refused(f"another user (uid {STRANGER}) {reason}")
        self.path.parent.chmod(0o755)
        self.assertIsNone(check_journal(self.path))

    def test_file_of_root_in_directory_of_everyone_is_accepted(self) -> None:
        """A backup may have been restored by root, for the proxy's own user."""
        if os.geteuid() != 0:
            raise SkipTest("only root can make a file of root")
        self.patch(os, "geteuid", lambda: STRANGER)
        self.path.parent.chmod(0o1777)
        check_access(self.path)

    def test_group_that_can_write_is_a_warning(self) -> None:
        """It may be the user's own group."""
        self.assertEqual(find_access_warnings(self.path), [])
        self.path.chmod(0o660)
        self.path.parent.chmod(0o770)
        self.assertEqual(
            find_access_warnings(self.path),
            [
                f"{each}: its group can write it; run chmod g-w on it"
                for each in (self.path.parent, self.path)
            ],
        )
        self.path.parent.chmod(0o1770)
        self.assertEqual(len(find_access_warnings(self.path)), 1)
        self.open().close()

    def test_nothing_there_is_fine(self) -> None:
        """A first start makes the directory, with mode 0700."""
        path = self.path.parent / "deeper" / "paper.sqlite3"
        check_access(path)
        self.assertEqual(find_access_warnings(path), [])

    def test_open_journal_with_trigger_is_one_line(self) -> None:
        """The file stays where it is: it may be somebody's only copy."""
        with closing(sqlite3.connect(self.path)) as other:
            other.execute("CREATE TRIGGER t AFTER INSERT ON events BEGIN SELECT 1; END")
        before = sorted(each.name for each in self.path.parent.iterdir())
        self.assertRaisesRegex(
            JournalError,
            f"^{re.escape(str(self.path))}: it has a trigger 't', which tradeproxy does not make$",
            self.open,
        )
        self.assertEqual(before, sorted(each.name for each in self.path.parent.iterdir()))
