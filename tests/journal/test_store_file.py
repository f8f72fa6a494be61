"""Tests for tradeproxy.journal.store_file."""

from __future__ import annotations

import os
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.support.journals import Connections
from tradeproxy.journal.file import JournalFile
from tradeproxy.journal.store import Store
from tradeproxy.journal.store_file import StoreFile


class CheckedFileTests(SynchronousTestCase):
    """Whether a whole file is read when it is opened."""

    def test_file_of_32_mib_is_checked_and_a_larger_one_is_not(self) -> None:
        """It takes a fraction of a second. For a large file, the start would take minutes."""
        path, connections = Path(self.mktemp()), Connections()
        store = Store(connections(":memory:", isolation_level=None), full_sync=False)
        self.addCleanup(store.close)
        file = StoreFile(
            "paper", JournalFile(path), full_sync=False, connect=connections, in_thread=None
        )
        path.touch()
        for size, is_checked in ((33_554_432, True), (33_554_433, False)):
            os.truncate(path, size)
            statements = connections.record()
            file.check(store)
            self.assertEqual(statements == ["PRAGMA quick_check(1)"], is_checked, size)
