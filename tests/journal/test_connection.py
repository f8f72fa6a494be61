"""Tests for tradeproxy.journal.connection."""

from __future__ import annotations

import sqlite3

from twisted.trial.unittest import SynchronousTestCase

from tradeproxy.journal.connection import fetch_value


class FetchValueTests(SynchronousTestCase):
    """A query for one value."""

    def test_fetch_value_returns_first_column_of_first_row(self) -> None:
        """Without a row it is None, as with a NULL."""
        connection = sqlite3.connect(":memory:")
        self.addCleanup(connection.close)
        for query, value in (
            ("SELECT ?, 2 UNION ALL SELECT 3, 4", 1),
            ("SELECT ? WHERE 0", None),
            ("SELECT nullif(?, 1)", None),
        ):
            self.assertEqual(fetch_value(connection, query, 1), value, query)
