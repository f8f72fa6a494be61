"""Tests for tradeproxy.runtime.umask."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tradeproxy.runtime.umask import keep_files_private


class KeepFilesPrivateTests(SynchronousTestCase):
    """What twistd writes is for its owner: the log shows addresses, the pidfile is obeyed."""

    def setUp(self) -> None:
        self.addCleanup(os.umask, os.umask(0))
        self.log = Path(self.mktemp())

    def mode_after(self, mode: int, **options: Any) -> int:
        """Return the mode of a log that had `mode` before."""
        self.log.touch()
        self.log.chmod(mode)
        keep_files_private({"nodaemon": True, **options})
        return stat.S_IMODE(self.log.stat().st_mode)

    def test_new_files_are_private(self) -> None:
        """The process may have begun with umask 0."""
        keep_files_private({})
        self.log.touch()
        self.assertEqual(stat.S_IMODE(self.log.stat().st_mode), 0o600)

    def test_umask_option_can_only_forbid_more(self) -> None:
        """The option is applied before the pidfile is written, and to rotated logs."""
        for given, expected in ((None, None), (0, 0o077), (0o022, 0o077), (0o277, 0o277)):
            options = {"umask": given}
            keep_files_private(options)
            self.assertEqual(options["umask"], expected)

    def test_existing_log_is_closed_to_everyone(self) -> None:
        """Earlier versions left 0644. A mode for a group that reads the log is a choice."""
        for before, after in ((0o644, 0o600), (0o606, 0o600), (0o640, 0o640), (0o600, 0o600)):
            self.assertEqual(self.mode_after(before, logfile=str(self.log)), after)
        with self.log.open() as opened:
            self.assertEqual(self.mode_after(0o644, logFile=opened), 0o600)

    def test_other_files_keep_their_mode(self) -> None:
        """A link may lead to a device such as /dev/null. A file may be missing."""
        self.assertEqual(self.mode_after(0o644), 0o644)
        self.log.unlink()
        os.mkfifo(self.log)
        self.assertEqual(self.mode_after(0o666, logfile=str(self.log)), 0o666)
        keep_files_private({"logfile": "/nowhere/a.log"})
