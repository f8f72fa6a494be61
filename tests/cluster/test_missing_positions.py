"""Tests for tradeproxy.cluster.missing_positions."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tradeproxy.cluster.missing_positions import MissingPositions


class MissingPositionsTests(SynchronousTestCase):
    """A position is missing for certain once a check sent after the question has not found it."""

    def setUp(self) -> None:
        self.missing = MissingPositions()

    def test_position_is_certain_after_check_and_read_to_its_end(self) -> None:
        """The order is: question, check of the log's end, read up to that end."""
        self.missing.record_log_end(
            self.missing.asked, 5
        )  # a check from before the question does not count
        self.missing.record_read_to(9)
        self.assertFalse(self.missing.is_certain("x"))
        asked = self.missing.asked
        self.assertFalse(self.missing.is_certain("y"))
        self.missing.record_log_end(asked, 5)
        self.assertEqual(self.missing.asked, {"y"})
        self.missing.record_read_to(4)
        self.assertFalse(self.missing.is_certain("x"))
        self.assertEqual(self.missing.asked, {"y"})
        self.missing.record_read_to(5)
        self.assertTrue(self.missing.is_certain("x"))
        self.assertFalse(self.missing.is_certain("y"))

    def test_positions_beyond_1000_are_not_kept(self) -> None:
        """Invalid requests do not fill the memory; the clients retry."""
        for n in range(2000):
            self.missing.is_certain(n)
        self.assertEqual(len(self.missing.asked), 1000)
        self.missing.record_log_end(self.missing.asked, 5)
        self.missing.is_certain("one more, while the others are in doubt")
        self.assertEqual(self.missing.asked, frozenset())
        self.missing.record_read_to(5)
        self.assertTrue(all(self.missing.is_certain(n) for n in range(1000)))
        self.missing.is_certain("one more")
        self.missing.record_log_end(self.missing.asked, 5)
        self.missing.record_read_to(5)
        self.assertEqual([self.missing.is_certain(n) for n in ("one more", 1)], [True, True])
        self.assertEqual(self.missing.asked, frozenset())
        self.assertFalse(self.missing.is_certain(0))

    def test_position_is_certain_for_20_checks(self) -> None:
        """An event may get a number beyond the log's end later, so certainty ends."""
        self.missing.is_certain("x")
        self.missing.record_log_end(self.missing.asked, 5)
        self.missing.record_read_to(5)
        for _ in range(20):
            self.missing.record_log_end(self.missing.asked, 5)
            self.missing.record_read_to(5)
            self.assertTrue(self.missing.is_certain("x"))
        self.missing.record_log_end(self.missing.asked, 5)
        self.missing.record_read_to(5)
        self.assertFalse(self.missing.is_certain("x"))
