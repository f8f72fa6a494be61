"""Tests of the comparison of trade log and journal."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.system.chaos.trade_log import LoggedLine, StoredRow, compare

FILE = "paper-1969-12-31.jsonl"
"""Time 0 is 19:00 in New York."""


def cursor(seq: int, epoch: str = "a") -> str:
    """Return the cursor of a row."""
    return f"paper.{epoch * 16}.{seq}.00000000"


def line(seq: int, epoch: str = "a") -> LoggedLine:
    """Return the line of a row."""
    return LoggedLine(FILE, cursor(seq, epoch), b"%d" % seq)


ROWS = [StoredRow(cursor(seq), b"%d" % seq, 0) for seq in (1, 2, 3)]
LINES = [line(seq) for seq in (1, 2, 3)]


class CompareTests(SynchronousTestCase):
    """A run is clean only if the files have what the journal has."""

    def test_equal_is_clean(self) -> None:
        """Earlier journals may have lost their ends."""
        self.assertEqual(compare([line(1, "b"), line(2, "b"), *LINES], ROWS, 0), [])

    def test_each_kind_of_fault_is_found(self) -> None:
        """Missing, twice, changed, and in the wrong file."""
        for lines, text in (
            (LINES[1:], "1 rows of the journal are not in"),
            ([*LINES, LINES[0]], "1 rows are in the trade log twice"),
            ([LINES[0]._replace(digest=b""), *LINES[1:]], "1 rows of the trade log differ"),
            ([LINES[0]._replace(file="paper-1970-01-02.jsonl"), *LINES[1:]], "of another date"),
        ):
            [problem] = compare(lines, ROWS, 0)
            self.assertIn(text, problem)

    def test_rows_of_an_earlier_journal_may_only_miss_if_declared(self) -> None:
        """Nobody can read that journal any more, but its numbers show what is missing."""
        lines = [line(1, "b"), line(4, "b"), *LINES]
        self.assertEqual(compare(lines, ROWS, 2), [])
        self.assertEqual(
            compare(lines, ROWS, 1), ["2 rows are missing between others, and 1 are declared"]
        )
