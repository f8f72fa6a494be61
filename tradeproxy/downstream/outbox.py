"""What is owed to one client that reads more slowly than events come."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Generic, TypeVar

from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


@implementer(IPushProducer)
class Outbox(Generic[T]):
    """Passes items to `send`; keeps them, in order, while the transport asks to pause.

    Register it as the transport's push producer: Twisted pauses it when more than 64 KiB wait for the socket,
    and resumes it when all of that is gone. Once more than `limit` bytes are owed on top of those,
    `overflow` is called, once, and nothing is kept or sent any more.
    """

    def __init__(self, send: Callable[[T], None], limit: int, overflow: Callable[[], None]) -> None:
        self._send = send
        self._limit = limit
        self._overflow = overflow
        self._owed: deque[tuple[T, int]] = deque()
        self._owed_bytes = 0
        self._paused = False
        self._closed = False

    def put(self, item: T, size: int) -> None:
        """Send `item`, of `size` bytes, now or as soon as all before it could be sent."""
        if self._closed:
            return
        if not self._paused and not self._owed:
            self._send(item)
            return
        self._owed.append((item, size))
        self._owed_bytes += size
        if self._owed_bytes > self._limit:
            self.stopProducing()
            self._overflow()

    def pauseProducing(self) -> None:
        """Keep what comes from now on."""
        self._paused = True

    def resumeProducing(self) -> None:
        """Send what is owed, until the transport pauses us again."""
        self._paused = False
        while self._owed and not self._paused:
            item, size = self._owed.popleft()
            self._owed_bytes -= size
            self._send(item)

    def stopProducing(self) -> None:
        """Forget what is owed, and take nothing more: the connection is ending."""
        self._closed = True
        self._owed.clear()
        self._owed_bytes = 0
