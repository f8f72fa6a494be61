"""Tests for tests.system.cluster.verdicts: what the run of a cluster is judged by."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.system.chaos.checker import DeclaredGap, Entry, Log, Truth, judge
from tests.system.cluster.alpaca import Overlap, Visit
from tests.system.cluster.verdicts import Line, judge_log, judge_stays, unexcused, unexplained


class VerdictTests(SynchronousTestCase):
    """The checks find what they are there to find."""

    def test_a_client_that_stays_is_judged_from_its_first_event_on(self) -> None:
        """On each of its connections; what came on an earlier one may come again."""
        truth = Truth({number: float(number) for number in range(1, 10)})
        table = [
            ((3, 4, 5), (7, 8, 9), (0, 0, 0, 0)),
            ((3, 4, 5), (5, 6, 7), (1, 0, 0, 0)),
            ((3, 5), (7,), (0, 0, 0, 1)),
            ((3, 4, 4), (7,), (0, 1, 0, 0)),
            ((4, 3, 5), (7,), (0, 0, 1, 0)),
        ]
        for first, second, counts in table:
            entries = [Entry(number) for number in first] + [
                Entry(number, connection=2) for number in second
            ]
            verdict = judge_stays(Log("plain", False, entries), truth)
            told = (verdict.repeated, verdict.duplicates, verdict.disorder, verdict.lost)
            self.assertEqual(told, counts, (first, second))

    def test_the_log_has_every_event_once_and_its_numbers_count_up(self) -> None:
        """In one epoch; it may begin anywhere."""
        truth = Truth({number: float(number) for number in range(1, 6)})
        table = [
            (((7, 2), (8, 3), (9, 4), (10, 5)), True),
            (((7, 2), (9, 3), (10, 4), (11, 5)), False),
            (((7, 2), (8, 4), (9, 5)), False),
            (((7, 2), (8, 3), (9, 3), (10, 4), (11, 5)), False),
        ]
        for lines, is_clean in table:
            told = [Line("an epoch", seq, number, None) for seq, number in lines]
            self.assertEqual(judge_log("log", told, truth).is_clean, is_clean, lines)
        two = [Line("one", 1, 1, None), Line("another", 2, 2, None)]
        self.assertFalse(judge_log("log", two, truth).is_clean)

    def test_what_is_declared_must_have_a_cause(self) -> None:
        """A gap, or a loss of Redis' soon after."""
        truth = Truth({number: float(number) for number in range(1, 101)}, [DeclaredGap(20, 21)])
        entries = [Entry(number) for number in truth.emitted if number not in (10, 20, 70)]
        log = Log("client", entries=entries, positions_lost=[9, 67])
        verdict = judge(log, truth)
        self.assertEqual(verdict.excused, [10, 20, 70])
        self.assertEqual(unexplained(verdict, truth, [(75.0, 80.0)]), [10])

    def test_two_at_once_are_excused_only_by_a_leader_that_was_stopped(self) -> None:
        """And that let go soon after it was woken."""
        table: list[tuple[list[tuple[float, float | None]], float | None, bool]] = [
            ([], 21.0, False),
            ([(10.0, 20.0)], 21.0, True),
            ([(10.0, None)], None, True),
            ([(10.0, 20.0)], 29.0, False),
            ([(1.0, 2.0)], 21.0, False),
        ]
        for pauses, ended, is_excused in table:
            overlap = Overlap(Visit("old", 1.0, ended), Visit("new", 15.0), 15.0)
            found = unexcused([overlap], {"old": pauses}, 30.0)
            self.assertEqual(found, [] if is_excused else [overlap], (pauses, ended))
