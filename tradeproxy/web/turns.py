"""Turns of the reactor, shared by answers that take many steps."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IReactorTime

from tradeproxy.runtime.fair_queue import FairQueue

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
    many large ones. Among those of a kind the addresses of the clients take turns, so that one with
    many requests does not delay the others; the steps of each address are in FIFO order.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._short: FairQueue[str, Callable[[], None]] = FairQueue()
        self._long: FairQueue[str, Callable[[], None]] = FairQueue()
        self._hosts: dict[Callable[[], None], str] = {}
        """The address of each step that waits."""
        self._spent: dict[Callable[[], None], float] = {}
        self._has_turn = False
        self._count = 0

    def schedule(self, step: Callable[[], None], host: str) -> None:
        """Call `step`, which must not raise, soon. It may schedule itself again.

        `host` is the address of the client.
        """
        is_long = self._spent.get(step, 0.0) >= SHORT
        (self._long if is_long else self._short).push(host, step)
        self._hosts[step] = host
        self._plan()

    def cancel(self, step: Callable[[], None]) -> None:
        """Forget a step that waits, if it does."""
        self._short.discard(step)
        self._long.discard(step)
        self._hosts.pop(step, None)
        self._spent.pop(step, None)

    def _plan(self) -> None:
        if self._hosts and not self._has_turn:
            self._has_turn = True
            self._clock.callLater(0, self._run)

    def _run(self) -> None:
        self._has_turn = False
        now = self._clock.seconds()
        end = now + TURN
        # Steps that are scheduled meanwhile come after those of their kind and address.
        for _ in range(min(len(self._hosts), STEPS_PER_TURN)):
            if not self._hosts:  # a step has cancelled the others
                break
            step = self._pop()
            host = self._hosts.pop(step)
            step()
            began, now = now, self._clock.seconds()
            spent = self._spent.pop(step, 0.0) + now - began
            if step in self._hosts:
                self._spent[step] = spent
                if spent >= SHORT:
                    self._short.discard(step)
                    self._long.push(host, step)
            if now >= end:
                break
        self._plan()

    def _pop(self) -> Callable[[], None]:
        self._count += 1
        is_long_due = self._count % LONG_EVERY == 0 or not self._short
        return (self._long if self._long and is_long_due else self._short).pop()
