"""Tests for tests.system.cluster.verdicts."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.system.chaos.checker import ClientLog, DeclaredGap, ReceivedEvent, Truth, judge
from tests.system.cluster.alpaca import ConnectionRecord, Overlap
from tests.system.cluster.verdicts import (
    LogLine,
    find_unexcused,
    find_unexplained,
    judge_live_only,
    judge_log,
)


class ClusterVerdictTests(SynchronousTestCase):
    """The checks find the violations that they are for."""

    def test_judge_live_only_starts_at_first_event_of_connection(self) -> None:
        """Events may repeat on another connection, not on the same one."""
        truth = Truth({number: float(number) for number in range(1, 10)})
        table = [
            ((3, 4, 5), (7, 8, 9), (0, 0, 0, 0)),
            ((3, 4, 5), (5, 6, 7), (1, 0, 0, 0)),
            ((3, 5), (7,), (0, 0, 0, 1)),
            ((3, 4, 4), (7,), (0, 1, 0, 0)),
            ((4, 3, 5), (7,), (0, 0, 1, 0)),
        ]
        for first, second, counts in table:
            entries = [ReceivedEvent(number) for number in first] + [
                ReceivedEvent(number, connection=2) for number in second
            ]
            verdict = judge_live_only(ClientLog("plain", False, entries), truth)
            found = (verdict.repeated, verdict.duplicates, verdict.disorder, verdict.lost)
            self.assertEqual(found, counts, (first, second))

    def test_judge_log_requires_each_event_once_in_sequence(self) -> None:
        """In one epoch; the first number may be any."""
        truth = Truth({number: float(number) for number in range(1, 6)})
        table = [
            (((7, 2), (8, 3), (9, 4), (10, 5)), True),
            (((7, 2), (9, 3), (10, 4), (11, 5)), False),
            (((7, 2), (8, 4), (9, 5)), False),
            (((7, 2), (8, 3), (9, 3), (10, 4), (11, 5)), False),
        ]
        for lines, is_clean in table:
            log_lines = [LogLine("an epoch", seq, number, None) for seq, number in lines]
            self.assertEqual(judge_log("log", log_lines, truth).is_clean, is_clean, lines)
        two = [LogLine("one", 1, 1, None), LogLine("another", 2, 2, None)]
        self.assertFalse(judge_log("log", two, truth).is_clean)

    def test_declared_loss_without_cause_is_unexplained(self) -> None:
        """A cause is a gap, or a loss of Redis soon after or just before."""
        truth = Truth({number: float(number) for number in range(1, 101)}, [DeclaredGap(20, 21)])
        entries = [ReceivedEvent(number) for number in truth.emitted if number not in (10, 20, 70)]
        log = ClientLog("client", entries=entries, positions_lost=[9, 67])
        verdict = judge(log, truth)
        self.assertEqual(verdict.excused, [10, 20, 70])
        self.assertEqual(find_unexplained(verdict, truth, [(75.0, 80.0)]), [10])
        self.assertEqual(find_unexplained(verdict, truth, [(50.0, 55.0)]), [10])
        self.assertEqual(find_unexplained(verdict, truth, [(50.0, 54.0)]), [10, 70])

    def test_overlap_without_paused_leader_is_unexcused(self) -> None:
        """The paused leader must disconnect soon after its pause."""
        table: list[tuple[list[tuple[float, float | None]], float | None, bool]] = [
            ([], 21.0, False),
            ([(10.0, 20.0)], 21.0, True),
            ([(10.0, None)], None, True),
            ([(10.0, 20.0)], 29.0, False),
            ([(1.0, 2.0)], 21.0, False),
        ]
        for pauses, ended, is_excused in table:
            overlap = Overlap(
                ConnectionRecord("old", 1.0, ended), ConnectionRecord("new", 15.0), 15.0
            )
            found = find_unexcused([overlap], {"old": pauses}, 30.0)
            self.assertEqual(found, [] if is_excused else [overlap], (pauses, ended))
