"""Tests for what is in the repository."""

from __future__ import annotations

import shutil
import subprocess

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.support.processes import SOURCES

OURS = {".ci", "benchmarks", "deploy", "docs", "tests", "tools", "tradeproxy", "twisted"}
"""The directories at the root."""


class TrackedFilesTests(SynchronousTestCase):
    """The files that git has."""

    def test_no_directory_is_a_leftover(self) -> None:
        """A commit of everything added 123 files of journals that a test had left."""
        if shutil.which("git") is None or not (SOURCES / ".git").exists():
            raise SkipTest("this is no clone")
        listed = subprocess.run(
            ["git", "ls-files"], cwd=SOURCES, capture_output=True, check=True, text=True
        )
        directories = {name.partition("/")[0] for name in listed.stdout.split() if "/" in name}
        self.assertEqual(directories - OURS, set())
