"""Tests for tradeproxy.web.turns: many answers share the turns of the reactor."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.support.feeds import TurnClock
from tradeproxy.web.turns import SHORT, STEPS_PER_TURN, TURN, Turns


class TurnsTests(SynchronousTestCase):
    """Steps of a given duration, in fake time."""

    def setUp(self) -> None:
        self.clock = TurnClock()
        self.turns = Turns(self.clock)
        self.done: list[str] = []

    def work(self, name: str, steps: int, seconds: float = 0.0, host: str = "") -> None:
        """Schedule some steps in a row, each of this duration."""

        def step() -> None:
            nonlocal steps
            self.done.append(name)
            self.clock.rightNow += seconds
            steps -= 1
            if steps:
                self.turns.schedule(step, host)

        self.turns.schedule(step, host)

    def test_answers_take_turns(self) -> None:
        """A long one delays a short one by one step."""
        self.work("long", 3)
        self.work("short", 1)
        for _ in range(3):
            self.clock.turn()
        self.assertEqual(self.done, ["long", "short", "long", "long"])

    def test_short_answer_comes_before_many_long_ones(self) -> None:
        """It waited for a step of each of them before each of its own: over a second."""
        for number in range(100):
            self.work(f"long {number}", 20, seconds=TURN)
        while self.clock.seconds() < 100 * 2 * TURN:
            self.clock.turn()
        self.work("short", 5)
        self.done.clear()
        for _ in range(5):
            self.clock.turn()
        self.assertEqual(self.done.count("short"), 5)

    def test_long_answers_go_on_beside_short_ones(self) -> None:
        """One of four steps is theirs."""
        self.work("long", 100, seconds=TURN)
        while self.clock.seconds() < SHORT:
            self.clock.turn()
        for number in range(40):
            self.work(f"short {number}", 1, seconds=TURN)
        self.done.clear()
        for _ in range(40):
            self.clock.turn()
        self.assertGreaterEqual(self.done.count("long"), 10)

    def test_addresses_take_turns(self) -> None:
        """Another's answer came after those of one address with 128 requests.

        It is so for short answers, and for long ones, of which each step is a turn here.
        """
        for seconds in (0.0, TURN):
            for number in range(128):
                self.work(f"greedy {number}", 4, seconds, "192.0.2.1")
            self.work("other", 4, seconds, "192.0.2.2")
            self.done.clear()
            while self.done.count("other") < 4:
                self.clock.turn()
            self.assertLessEqual(len(self.done), 128, "a turn of short steps has 64")
            while self.clock.getDelayedCalls():
                self.clock.turn()

    def test_slow_steps_have_a_turn_each(self) -> None:
        """A turn begins no step after its time."""
        for name in "abc":
            self.work(name, 1, seconds=TURN)
        self.clock.turn()
        self.assertEqual(self.done, ["a"])
        self.clock.turn()
        self.clock.turn()
        self.assertEqual(self.done, ["a", "b", "c"])

    def test_quick_steps_share_a_turn_up_to_a_limit(self) -> None:
        """Each of them may write to a socket."""
        for number in range(STEPS_PER_TURN + 1):
            self.work(str(number), 1)
        self.clock.turn()
        self.assertEqual(len(self.done), STEPS_PER_TURN)
        self.clock.turn()
        self.assertEqual(len(self.done), STEPS_PER_TURN + 1)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_cancelled_step_is_not_called(self) -> None:
        """Another answer may cancel it in the same turn."""
        second = lambda: self.done.append("second")  # noqa: E731  # compared by identity
        self.turns.schedule(lambda: self.turns.cancel(second), "")
        self.turns.schedule(second, "")
        self.clock.turn()
        self.turns.cancel(second)
        self.assertEqual(self.done, [])
