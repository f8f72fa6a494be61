"""One account's fan-out: every burst of events to every subscriber that is registered."""

from __future__ import annotations

from typing import Protocol, TypeAlias

from twisted.logger import Logger

Burst: TypeAlias = tuple[bytes, ...]
"""The events of one reactor turn in their order: whole frames' payloads, as Alpaca sent them."""


class Subscriber(Protocol):
    """Somebody who takes events. Compared and hashed by identity."""

    def deliver(self, burst: Burst) -> None:
        """Take the next events. Must not block; what cannot be sent yet is the subscriber's to hold."""

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
        for subscriber in tuple(self._subscribers):
            if subscriber not in self._subscribers:
                continue  # it left while this burst was under way
            try:
                subscriber.deliver(burst)
            except Exception:
                self._log.failure("an event could not be handed to a subscriber, which is ended")
                self._end(subscriber)

    def _end(self, subscriber: Subscriber) -> None:
        self.unregister(subscriber)
        try:
            subscriber.sever()
        except Exception:
            self._log.failure("a failed subscriber could not be ended")
