"""How many come in at a time: a few in a turn of the reactor, so that a crowd at the door delays no event."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from twisted.logger import Logger
from twisted.protocols.policies import ProtocolWrapper

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.interfaces import IDelayedCall, IReactorTime


PER_TURN = 32
"""Requests, and first messages, that are answered in one turn: some 5 ms."""


class HandshakeThrottle:
    """Does the work that newcomers ask for, for so many of them at once, and for the others in later turns.

    Those who wait are not read from meanwhile, so that each has here what one read has brought.
    """

    _log = Logger()

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._remaining = PER_TURN
        self._waiting: dict[Any, list[tuple[Callable[[bytes], None], bytes]]] = {}
        self._is_planned = False

    def submit(self, transport: Any, work: Callable[[bytes], None], data: bytes) -> None:
        """Call `work` with what was received over `transport`, now or in its turn."""
        self._schedule()
        if transport in self._waiting:  # over TLS one read is several pieces
            self._waiting[transport].append((work, data))
        elif self._remaining and not self._waiting:
            self._remaining -= 1
            work(data)
        else:
            transport.pauseProducing()
            self._waiting[transport] = [(work, data)]

    def _schedule(self) -> None:
        if not self._is_planned:
            self._is_planned = True
            self._clock.callLater(0, self._next_turn)

    def _next_turn(self) -> None:
        self._is_planned = False
        self._remaining = PER_TURN
        while self._waiting and self._remaining:
            self._remaining -= 1
            transport = next(iter(self._waiting))
            self._serve(transport, self._waiting.pop(transport))
        if self._waiting:
            self._schedule()

    def _serve(self, transport: Any, pieces: list[tuple[Callable[[bytes], None], bytes]]) -> None:
        # The failure of one is its own: it loses its connection, as it would in the reactor's hands.
        try:
            if _is_connected(transport):
                transport.resumeProducing()
            for work, data in pieces:
                if _is_connected(transport):
                    work(data)
        except Exception:
            self._log.failure("a newcomer could not be served, and is let go")
            transport.abortConnection()


def _is_connected(transport: Any) -> bool:
    while isinstance(
        transport, ProtocolWrapper
    ):  # TLS, or what reads HAProxy's header: never not connected
        if transport.disconnecting:
            return False
        transport = transport.transport
    return transport.connected and not transport.disconnecting


class UnauthenticatedClient(Protocol):
    """A client that is here, and has not said who it is. Compared and hashed by identity."""

    def auth_timed_out(self) -> None:
        """Do without it: its time is up."""


class AuthDeadlines:
    """Those who still have to say who they are.

    All have the same number of seconds, so that who came first is due first: one timer does for all of them.
    """

    def __init__(self, seconds: float, clock: IReactorTime) -> None:
        self._seconds = seconds
        self._clock = clock
        self._due: dict[UnauthenticatedClient, float] = {}
        self._timer: IDelayedCall | None = None

    def __len__(self) -> int:
        return len(self._due)

    def add(self, newcomer: UnauthenticatedClient) -> None:
        """Give `newcomer` its time; it is told when that is up, unless it is discarded before."""
        self._due[newcomer] = self._clock.seconds() + self._seconds
        self._schedule()

    def discard(self, newcomer: UnauthenticatedClient) -> None:
        """Forget `newcomer`; harmless if it is not known."""
        self._due.pop(newcomer, None)
        if not self._due and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _schedule(self) -> None:
        if self._timer is None and self._due:
            first = next(iter(self._due.values()))
            self._timer = self._clock.callLater(max(first - self._clock.seconds(), 0), self._expire)

    def _expire(self) -> None:
        self._timer = None
        now = self._clock.seconds()
        for newcomer in [newcomer for newcomer, due in self._due.items() if due <= now]:
            if (
                self._due.pop(newcomer, None) is not None
            ):  # it has not left because of one before it
                newcomer.auth_timed_out()
        self._schedule()
