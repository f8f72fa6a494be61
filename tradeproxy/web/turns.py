"""Turns of the reactor, shared by answers that take many steps."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IReactorTime

TURN = 0.005
"""Seconds after which a turn begins no further step. A step takes 5 ms at most."""

STEPS_PER_TURN = 64
"""Steps in one turn: many short ones cost their sockets too."""

SHORT = 0.005
"""Seconds of steps after which an answer is a long one."""

LONG_EVERY = 4
"""One step of so many is of a long answer, if both kinds wait."""


class Turns:
    """Calls the steps of all answers, a few in each turn of the reactor.

    Each answer begins as a short one. Short ones come first, so that a small page does not wait for
    many large ones; each kind is in FIFO order.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._short: dict[Callable[[], None], None] = {}
        self._long: dict[Callable[[], None], None] = {}
        self._spent: dict[Callable[[], None], float] = {}
        self._has_turn = False
        self._count = 0

    def schedule(self, step: Callable[[], None]) -> None:
        """Call `step`, which must not raise, in a later turn. It may schedule itself again."""
        is_long = self._spent.get(step, 0.0) >= SHORT
        (self._long if is_long else self._short)[step] = None
        self._plan()

    def cancel(self, step: Callable[[], None]) -> None:
        """Forget a step that waits, if it does."""
        for known in (self._short, self._long, self._spent):
            known.pop(step, None)

    def _plan(self) -> None:
        if (self._short or self._long) and not self._has_turn:
            self._has_turn = True
            self._clock.callLater(0, self._run)

    def _run(self) -> None:
        self._has_turn = False
        now = self._clock.seconds()
        end = now + TURN
        # Steps that are scheduled meanwhile come after those of their kind that wait already.
        for _ in range(min(len(self._short) + len(self._long), STEPS_PER_TURN)):
            step = self._pop()
            if step is None:
                break
            step()
            began, now = now, self._clock.seconds()
            spent = self._spent.pop(step, 0.0) + now - began
            if step in self._short or step in self._long:
                self._spent[step] = spent
                if spent >= SHORT:
                    self._short.pop(step, None)
                    self._long[step] = None
            if now >= end:
                break
        self._plan()

    def _pop(self) -> Callable[[], None] | None:
        self._count += 1
        is_long_due = self._count % LONG_EVERY == 0 or not self._short
        kind = self._long if self._long and is_long_due else self._short
        step = next(iter(kind), None)
        kind.pop(step, None)  # type: ignore[arg-type]  # None is no key
        return step
