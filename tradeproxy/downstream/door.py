"""How many come in at a time: a few in a turn of the reactor, so that a crowd at the door delays no event."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.interfaces import IReactorTime

A_TURN = 32
"""Requests, and first messages, that are answered in one turn: some 5 ms."""


class Door:
    """Does the work that newcomers ask for, for so many of them at once, and for the others in later turns.

    Those who wait are not read from meanwhile, so that each has one piece of data here.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._places = A_TURN
        self._waiting: deque[tuple[Any, Callable[[bytes], None], bytes]] = deque()
        self._is_planned = False

    def enter(self, transport: Any, work: Callable[[bytes], None], data: bytes) -> None:
        """Call `work` with what was received over `transport`, now or in its turn."""
        if not self._is_planned:
            self._is_planned = True
            self._clock.callLater(0, self._next_turn)
        if self._places and not self._waiting:
            self._places -= 1
            work(data)
        else:
            transport.pauseProducing()
            self._waiting.append((transport, work, data))

    def _next_turn(self) -> None:
        self._is_planned = False
        self._places = A_TURN
        while self._waiting and self._places:
            self._places -= 1
            transport, work, data = self._waiting.popleft()
            if transport.connected and not transport.disconnecting:
                transport.resumeProducing()
                work(data)
        if self._waiting and not self._is_planned:
            self._is_planned = True
            self._clock.callLater(0, self._next_turn)
