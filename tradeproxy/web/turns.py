"""Turns of the reactor, shared by answers that take many steps."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IReactorTime

TURN = 0.005
"""Seconds after which a turn begins no further step. A step takes 5 ms at most."""

STEPS_PER_TURN = 64
"""Steps in one turn: many short ones cost their sockets too."""


class Turns:
    """Calls the steps of all answers, in FIFO order, a few in each turn of the reactor."""

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._waiting: dict[Callable[[], None], None] = {}
        self._has_turn = False

    def schedule(self, step: Callable[[], None]) -> None:
        """Call `step`, which must not raise, in a later turn. It may schedule itself again."""
        self._waiting[step] = None
        self._plan()

    def cancel(self, step: Callable[[], None]) -> None:
        """Forget a step that waits, if it does."""
        self._waiting.pop(step, None)

    def _plan(self) -> None:
        if self._waiting and not self._has_turn:
            self._has_turn = True
            self._clock.callLater(0, self._run)

    def _run(self) -> None:
        self._has_turn = False
        end = self._clock.seconds() + TURN
        # Steps that are scheduled meanwhile come after those that wait already.
        for _ in range(min(len(self._waiting), STEPS_PER_TURN)):
            step = next(iter(self._waiting), None)
            if step is None:
                break
            del self._waiting[step]
            step()
            if self._clock.seconds() >= end:
                break
        self._plan()
