"""One account's fan-out: every burst of events to every subscriber that is registered."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from twisted.logger import Logger

if TYPE_CHECKING:
    from collections.abc import Callable

    from tradeproxy.hub.journal import Burst


class Subscriber(Protocol):
    """Somebody who takes events. Compared and hashed by identity."""

    def deliver(self, burst: Burst) -> None:
        """Take the next events. Must not block, nor keep what cannot be sent yet: the journal does."""

    def announce(self, status: bytes) -> None:
        """Take a frame of the `proxy_status` stream."""

    def sever(self) -> None:
        """End at once: an event could not be handed over, and a stream with a hole is worse than none."""


class Broadcaster:
    """Hands every burst to all of its subscribers, in the order in which they registered."""

    _log = Logger()

    def __init__(self) -> None:
        self._subscribers: dict[Subscriber, None] = {}

    def __len__(self) -> int:
        return len(self._subscribers)

    def register(self, subscriber: Subscriber) -> None:
        """Deliver to `subscriber` from the next burst on."""
        self._subscribers[subscriber] = None

    def unregister(self, subscriber: Subscriber) -> None:
        """Deliver nothing more to `subscriber`; harmless if it is not registered."""
        self._subscribers.pop(subscriber, None)

    def publish(self, burst: Burst) -> None:
        """Deliver `burst` to every subscriber; the failure of one is logged and ends that one only."""
        self._tell_all(lambda subscriber: subscriber.deliver(burst))

    def announce(self, status: bytes) -> None:
        """Hand a status frame to every subscriber, with the same care."""
        self._tell_all(lambda subscriber: subscriber.announce(status))

    def _tell_all(self, tell: Callable[[Subscriber], None]) -> None:
        for subscriber in tuple(self._subscribers):
            if subscriber not in self._subscribers:
                continue  # it left while this was under way
            try:
                tell(subscriber)
            except Exception:
                self._log.failure("an event could not be handed to a subscriber, which is ended")
                self._end(subscriber)

    def _end(self, subscriber: Subscriber) -> None:
        self.unregister(subscriber)
        try:
            subscriber.sever()
        except Exception:
            self._log.failure("a failed subscriber could not be ended")
