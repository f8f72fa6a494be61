"""Tests for tradeproxy.cluster.replica."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tradeproxy.cluster.replica import MAX_POSITIONS, MissingPositions


class AbsentTests(SynchronousTestCase):
    """A position never was when a look that came after the question has not found it."""

    def setUp(self) -> None:
        self.absent = MissingPositions()

    def test_it_takes_a_question_a_look_and_all_that_the_log_had_then(self) -> None:
        """In this order."""
        self.absent.record_log_end(
            self.absent.asked, 5
        )  # a look from before the question says nothing
        self.absent.record_read_to(9)
        self.assertFalse(self.absent.is_certain("x"))
        asked = self.absent.asked
        self.assertFalse(self.absent.is_certain("y"))
        self.absent.record_log_end(asked, 5)
        self.assertEqual(self.absent.asked, {"y"})
        self.absent.record_read_to(4)
        self.assertFalse(self.absent.is_certain("x"))
        self.assertEqual(self.absent.asked, {"y"})
        self.absent.record_read_to(5)
        self.assertTrue(self.absent.is_certain("x"))
        self.assertFalse(self.absent.is_certain("y"))

    def test_remembers_so_many(self) -> None:
        """Who asks for nonsense all day does not fill the memory; the rest is to come back."""
        for n in range(2 * MAX_POSITIONS):
            self.absent.is_certain(n)
        self.assertEqual(len(self.absent.asked), MAX_POSITIONS)
        self.absent.record_log_end(self.absent.asked, 5)
        self.absent.is_certain("one more, while the others are in doubt")
        self.assertEqual(self.absent.asked, frozenset())
        self.absent.record_read_to(5)
        for n in range(MAX_POSITIONS, 2 * MAX_POSITIONS):
            self.absent.is_certain(n)
        self.absent.record_log_end(self.absent.asked, 5)
        self.absent.record_read_to(5)
        self.assertTrue(self.absent.is_certain(2 * MAX_POSITIONS - 1))
        self.assertFalse(self.absent.is_certain(0))
