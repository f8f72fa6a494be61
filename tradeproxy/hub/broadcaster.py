"""The fan-out of one account: every batch of events goes to every registered subscriber.

A fan-out to many subscribers takes several turns of the reactor. Items that arrive meanwhile are
queued, in order:

    state    event                              effect                            next state
    -------  ---------------------------------  --------------------------------  ----------
    idle     publish                            deliver to the first CHUNK        idle, busy
    busy     publish                            queue; above MAX_QUEUED, drop     busy
                                                the oldest droppable batch
    busy     next turn of the reactor           deliver to the next CHUNK         idle, busy
    busy     the last subscriber was served     next item, or call `on_idle`      busy, idle
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Protocol

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from tradeproxy.journal.base import Batch

CHUNK = 2000
"""Clients served in one turn of the reactor. This takes about 10 ms and blocks everything else."""

MAX_QUEUED = 64
"""Items that may wait behind a running fan-out. Subscribers read dropped batches in the journal."""


class Subscriber(Protocol):
    """A receiver of events. Compared and hashed by identity."""

    @property
    def size(self) -> int:
        """How many clients it serves: a send group is one subscriber for many clients."""

    @property
    def deliver(self) -> Callable[[Batch], None]:
        """The callable that takes the next batch. It is read once, at registration.

        It must not block, and must not buffer what cannot be sent yet: the journal has it. Batches
        may be missing before this one. The subscriber reads those from the journal.
        """

    def announce(self, status: bytes) -> None:
        """Take a frame of the `proxy_status` stream."""

    def abort(self) -> None:
        """Disconnect at once, because a delivery failed.

        A client that reconnects can resume; a stream with an undetected hole cannot be repaired.
        """


class Broadcaster:
    """Delivers every batch to all subscribers, in the order of their registration."""

    _log = Logger()

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        # `deliver` is stored beside each subscriber: one attribute lookup less per delivery.
        self._subscribers: dict[Subscriber, Callable[[Batch], None]] = {}
        self._is_busy = False
        self._remaining: Iterator[tuple[Subscriber, Callable[[Batch], None]]] | None = None
        # Subscribers that unregistered during this fan-out. They are still in `_remaining`.
        self._unregistered: set[Subscriber] = set()
        self._queue: deque[Batch | bytes] = deque()
        self.on_idle: Callable[[], None] = lambda: None
        """Called when every queued item has been delivered to every subscriber."""

    def __len__(self) -> int:
        """How many clients the subscribers serve together."""
        return sum(subscriber.size for subscriber in self._subscribers)

    @property
    def has_overflow(self) -> bool:
        """Whether a batch that the log does not store is still to be delivered to some subscribers.

        A client that changes its subscriber meanwhile would miss it, and not find it in the log.
        """
        return any(not isinstance(item, bytes) and item.overflow for item in self._queue)

    def register(self, subscriber: Subscriber) -> None:
        """Deliver to `subscriber` from the next batch on. A second call has no effect."""
        self._subscribers[subscriber] = subscriber.deliver

    def unregister(self, subscriber: Subscriber) -> None:
        """Deliver nothing more to `subscriber`. Has no effect if it is not registered."""
        self._subscribers.pop(subscriber, None)
        if self._is_busy:
            self._unregistered.add(subscriber)

    def publish(self, item: Batch | bytes) -> None:
        """Deliver a batch, or a status frame, to every subscriber, in the order of the calls.

        If a delivery raises, the error is logged, and only that subscriber is dropped.
        """
        self._queue.append(item)
        if not self._is_busy:
            self._is_busy = True
            self._drain()
        elif len(self._queue) > MAX_QUEUED:
            self._drop_one()

    def _drop_one(self) -> None:
        # These are kept: the first item, because its fan-out is running; the newest batch, because
        # its numbers show subscribers that some are missing; overflow batches and status frames,
        # because the journal does not have them.
        batches = [
            index
            for index, item in enumerate(self._queue)
            if index > 0 and not isinstance(item, bytes) and not item.overflow
        ]
        # A `hello` has the position after the batch directly before it, so that is kept too.
        droppable = [
            index for index in batches[:-1] if not isinstance(self._queue[index + 1], bytes)
        ]
        if droppable:
            del self._queue[droppable[0]]

    def _drain(self) -> None:
        queue, unregistered = self._queue, self._unregistered
        while queue:
            item = queue[0]
            if self._remaining is None:
                # A copy: deliveries may register and unregister subscribers.
                self._remaining = iter(tuple(self._subscribers.items()))
                unregistered.clear()
            budget = CHUNK
            for subscriber, deliver in self._remaining:
                budget -= subscriber.size
                if unregistered and subscriber in unregistered:
                    continue
                try:
                    if isinstance(item, bytes):
                        subscriber.announce(item)
                    else:
                        deliver(item)
                except Exception:
                    self._log.failure("a delivery to a subscriber failed: dropping the subscriber")
                    self.drop(subscriber)
                if budget <= 0:
                    # Pings, new connections and Alpaca's socket get their turn between two chunks.
                    self._clock.callLater(0, self._drain)
                    return
            self._remaining = None
            queue.popleft()
        self._is_busy = False
        self.on_idle()

    def drop_all(self) -> None:
        """Abort every subscriber: the next events do not continue what they have received."""
        # The first item stays, because `_drain` removes it. All its subscribers are unregistered.
        while len(self._queue) > 1:
            self._queue.pop()
        for subscriber in tuple(self._subscribers):
            self.drop(subscriber)

    def drop(self, subscriber: Subscriber) -> None:
        """Unregister and abort one subscriber."""
        self.unregister(subscriber)
        try:
            subscriber.abort()
        except Exception:
            self._log.failure("a subscriber could not be aborted")
