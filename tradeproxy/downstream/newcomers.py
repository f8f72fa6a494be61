"""The time that a client has to say who it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall, IReactorTime


class Newcomer(Protocol):
    """A client that is here, and has not said who it is. Compared and hashed by identity."""

    def overdue(self) -> None:
        """Do without it: its time is up."""


class Newcomers:
    """Those who still have to say who they are.

    All have the same number of seconds, so that who came first is due first: one timer does for all of them.
    """

    def __init__(self, seconds: float, clock: IReactorTime) -> None:
        self._seconds = seconds
        self._clock = clock
        self._due: dict[Newcomer, float] = {}
        self._timer: IDelayedCall | None = None

    def __len__(self) -> int:
        return len(self._due)

    def add(self, newcomer: Newcomer) -> None:
        """Give `newcomer` its time; it is told when that is up, unless it is discarded before."""
        self._due[newcomer] = self._clock.seconds() + self._seconds
        self._plan()

    def discard(self, newcomer: Newcomer) -> None:
        """Forget `newcomer`; harmless if it is not known."""
        self._due.pop(newcomer, None)
        if not self._due and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _plan(self) -> None:
        if self._timer is None and self._due:
            first = next(iter(self._due.values()))
            self._timer = self._clock.callLater(max(first - self._clock.seconds(), 0), self._look)

    def _look(self) -> None:
        self._timer = None
        now = self._clock.seconds()
        for newcomer in [newcomer for newcomer, due in self._due.items() if due <= now]:
            if self._due.pop(newcomer, None) is not None:  # it has not left because of one before it
                newcomer.overdue()
        self._plan()
