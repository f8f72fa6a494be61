"""One account's fan-out: every burst of events to every subscriber that is registered."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Protocol

from twisted.logger import Logger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from twisted.internet.interfaces import IReactorTime

    from tradeproxy.journal.base import Batch

CHUNK = 2000
"""Clients that are served in one turn of the reactor: some 10 ms, in which nothing else is done."""

MAX_QUEUED = 64
"""What may wait behind a fan-out under way; who is not handed a burst finds it in the journal."""


class Subscriber(Protocol):
    """Somebody who takes events. Compared and hashed by identity."""

    @property
    def size(self) -> int:
        """How many clients it stands for."""

    @property
    def deliver(self) -> Callable[[Batch], None]:
        """Take the next events. Must not block, nor keep what cannot be sent yet: the journal does.

        Some may be missing before them, and are then to be read from the journal.
        """

    def announce(self, status: bytes) -> None:
        """Take a frame of the `proxy_status` stream."""

    def abort(self) -> None:
        """End at once: an event could not be handed over, and a stream with a hole is worse than none."""


class Broadcaster:
    """Hands every burst to all of its subscribers, in the order in which they registered."""

    _log = Logger()

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._subscribers: dict[Subscriber, Callable[[Batch], None]] = {}
        self._is_busy = False
        self._remaining: Iterator[tuple[Subscriber, Callable[[Batch], None]]] | None = None
        self._unregistered: set[Subscriber] = set()
        self._queue: deque[Batch | bytes] = deque()
        self.on_idle: Callable[[], None] = lambda: None
        """Called when all that was to be handed on has been."""

    def __len__(self) -> int:
        """How many clients there are."""
        return sum(subscriber.size for subscriber in self._subscribers)

    def register(self, subscriber: Subscriber) -> None:
        """Deliver to `subscriber` from the next burst on."""
        self._subscribers[subscriber] = subscriber.deliver

    def unregister(self, subscriber: Subscriber) -> None:
        """Deliver nothing more to `subscriber`; harmless if it is not registered."""
        self._subscribers.pop(subscriber, None)
        if self._is_busy:
            self._unregistered.add(subscriber)

    def publish(self, burst: Batch) -> None:
        """Deliver `burst` to every subscriber; the failure of one is logged and ends that one only."""
        self._enqueue(burst)

    def announce(self, status: bytes) -> None:
        """Hand a status frame to every subscriber, in its place among the bursts and with the same care."""
        self._enqueue(status)

    def _enqueue(self, item: Batch | bytes) -> None:
        self._queue.append(item)
        if not self._is_busy:
            self._is_busy = True
            self._drain()
        elif len(self._queue) > MAX_QUEUED:
            self._drop_one()

    def _drop_one(self) -> None:
        # Not what is under way, nor the newest burst, which tells the subscribers that something is missing;
        # nor what is in no journal.
        found = [
            index
            for index, item in enumerate(self._queue)
            if index > 0 and not isinstance(item, bytes) and not item.overflow
        ]
        if len(found) > 1:
            del self._queue[found[0]]

    def _drain(self) -> None:
        while self._queue:
            if self._remaining is None:
                self._remaining = iter(tuple(self._subscribers.items()))
                self._unregistered.clear()
            if not self._deliver_chunk(self._queue[0], self._remaining):
                self._clock.callLater(0, self._drain)
                return
            self._remaining = None
            self._queue.popleft()
        self._is_busy = False
        self.on_idle()

    def _deliver_chunk(
        self, item: Batch | bytes, rest: Iterator[tuple[Subscriber, Callable[[Batch], None]]]
    ) -> bool:
        """Hand something to a chunk of the subscribers, and return whether these were the last."""
        left, status = self._unregistered, item if isinstance(item, bytes) else None
        places = CHUNK
        for subscriber, deliver in rest:
            places -= subscriber.size
            if left and subscriber in left:
                continue
            try:
                if status is None:
                    deliver(item)  # type: ignore[arg-type]  # a burst, as it is no status
                else:
                    subscriber.announce(status)
            except Exception:
                self._log.failure("an event could not be handed to a subscriber, which is ended")
                self.drop(subscriber)
            if places <= 0:
                return False
        return True

    def drop_all(self) -> None:
        """Sever everybody: what follows does not lead on from what they have had."""
        while len(self._queue) > 1:  # the first is under way, to nobody any more
            self._queue.pop()
        for subscriber in tuple(self._subscribers):
            self.drop(subscriber)

    def drop(self, subscriber: Subscriber) -> None:
        """Serve one that has failed no longer, and sever it."""
        self.unregister(subscriber)
        try:
            subscriber.abort()
        except Exception:
            self._log.failure("a failed subscriber could not be ended")
