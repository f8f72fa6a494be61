"""Tests for tradeproxy.cluster.replica."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tradeproxy.cluster.replica import MOST, Absent


class AbsentTests(SynchronousTestCase):
    """A position never was when a look that came after the question has not found it."""

    def setUp(self) -> None:
        self.absent = Absent()

    def test_it_takes_a_question_a_look_and_all_that_the_log_had_then(self) -> None:
        """In this order."""
        self.absent.settle(self.absent.asked, 5)  # a look from before the question says nothing
        self.absent.reached(9)
        self.assertFalse(self.absent.is_known("x"))
        asked = self.absent.asked
        self.assertFalse(self.absent.is_known("y"))
        self.absent.settle(asked, 5)
        self.assertEqual(self.absent.asked, {"y"})
        self.absent.reached(4)
        self.assertFalse(self.absent.is_known("x"))
        self.assertEqual(self.absent.asked, {"y"})
        self.absent.reached(5)
        self.assertTrue(self.absent.is_known("x"))
        self.assertFalse(self.absent.is_known("y"))

    def test_remembers_so_many(self) -> None:
        """Who asks for nonsense all day does not fill the memory; the rest is to come back."""
        for n in range(2 * MOST):
            self.absent.is_known(n)
        self.assertEqual(len(self.absent.asked), MOST)
        self.absent.settle(self.absent.asked, 5)
        self.absent.is_known("one more, while the others are in doubt")
        self.assertEqual(self.absent.asked, frozenset())
        self.absent.reached(5)
        for n in range(MOST, 2 * MOST):
            self.absent.is_known(n)
        self.absent.settle(self.absent.asked, 5)
        self.absent.reached(5)
        self.assertTrue(self.absent.is_known(2 * MOST - 1))
        self.assertFalse(self.absent.is_known(0))
