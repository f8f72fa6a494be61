"""Tests of what `make attacks` calls high."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.system.attacks.__main__ import ATTACKS
from tests.system.attacks.target import MAX_FREEZE, MAX_GROWTH, Outcome


class OutcomeTests(SynchronousTestCase):
    """The verdict on an attack."""

    def test_verdict_is_high_over_either_limit_or_with_a_fault(self) -> None:
        """Each reason is in the line."""
        self.assertEqual(Outcome(MAX_FREEZE, MAX_GROWTH, ()).verdict, "ok")
        self.assertEqual(Outcome(1.1, 0, ()).verdict, "high: others waited over 1 s")
        self.assertEqual(Outcome(0, 101, ()).verdict, "high: grew by over 100 MB")
        self.assertEqual(
            Outcome(2, 0, ("a secret is in the log",)).verdict,
            "high: a secret is in the log, others waited over 1 s",
        )

    def test_every_attack_has_its_own_name(self) -> None:
        """`--only` selects by name."""
        names = [attack.name for attack in ATTACKS]
        self.assertEqual(len(names), len(set(names)))
