"""How many come in at a time: a few in a turn of the reactor, so that a crowd at the door delays no event."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.logger import Logger
from twisted.protocols.policies import ProtocolWrapper

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.interfaces import IReactorTime

A_TURN = 32
"""Requests, and first messages, that are answered in one turn: some 5 ms."""


class Door:
    """Does the work that newcomers ask for, for so many of them at once, and for the others in later turns.

    Those who wait are not read from meanwhile, so that each has here what one read has brought.
    """

    _log = Logger()

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._places = A_TURN
        self._waiting: dict[Any, list[tuple[Callable[[bytes], None], bytes]]] = {}
        self._is_planned = False

    def enter(self, transport: Any, work: Callable[[bytes], None], data: bytes) -> None:
        """Call `work` with what was received over `transport`, now or in its turn."""
        self._plan()
        if transport in self._waiting:  # over TLS one read is several pieces
            self._waiting[transport].append((work, data))
        elif self._places and not self._waiting:
            self._places -= 1
            work(data)
        else:
            transport.pauseProducing()
            self._waiting[transport] = [(work, data)]

    def _plan(self) -> None:
        if not self._is_planned:
            self._is_planned = True
            self._clock.callLater(0, self._next_turn)

    def _next_turn(self) -> None:
        self._is_planned = False
        self._places = A_TURN
        while self._waiting and self._places:
            self._places -= 1
            transport = next(iter(self._waiting))
            self._serve(transport, self._waiting.pop(transport))
        if self._waiting:
            self._plan()

    def _serve(self, transport: Any, pieces: list[tuple[Callable[[bytes], None], bytes]]) -> None:
        # The failure of one is its own: it loses its connection, as it would in the reactor's hands.
        try:
            if _is_there(transport):
                transport.resumeProducing()
            for work, data in pieces:
                if _is_there(transport):
                    work(data)
        except Exception:
            self._log.failure("a newcomer could not be served, and is let go")
            transport.abortConnection()


def _is_there(transport: Any) -> bool:
    while isinstance(transport, ProtocolWrapper):  # TLS, or what reads HAProxy's header: never not connected
        if transport.disconnecting:
            return False
        transport = transport.transport
    return transport.connected and not transport.disconnecting
