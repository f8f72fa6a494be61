"""Threads whose work waits until a test wants it."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred


class Threads:
    """Calls functions when a test wants it, as a thread does at any later time."""

    def __init__(self) -> None:
        self.waiting: list[tuple[Callable[[], None], Deferred[None]]] = []
        self.error: Exception | None = None
        """Raised instead of waiting."""

    def __call__(self, work: Callable[[], None]) -> Deferred[None]:
        if self.error is not None:
            raise self.error
        done: Deferred[None] = Deferred()
        self.waiting.append((work, done))
        return done

    def run(self) -> None:
        """Call what waits; it must not fail."""
        waiting, self.waiting = self.waiting, []
        for work, done in waiting:
            work()
            done.callback(None)
