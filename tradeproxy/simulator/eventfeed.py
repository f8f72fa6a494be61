"""Trade events as server-sent events on twisted.web, in Alpaca's format.

Each response is a feed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IDelayedCall, IPushProducer, IReactorTime
from twisted.internet.task import LoopingCall
from twisted.web.server import Request
from zope.interface import implementer

from tradeproxy.simulator.history import EventHistory
from tradeproxy.simulator.replay import (
    MILLISECOND,
    Damage,
    Dropped,
    EventRange,
    EventReplay,
    ResponseEnd,
    Step,
)

WELCOME = b": welcome\n\n"
HEARTBEAT = b": heartbeat\n\n"
HEARTBEAT_INTERVAL = 15
"""Seconds."""

CHUNK = 32 * 1024
"""The approximate number of bytes in one write."""


class SseFeeds:
    """All open, delayed and hanging responses. They send events of `history`.

    `wall_clock` returns Unix time in seconds.
    """

    def __init__(
        self, reactor: IReactorTime, history: EventHistory, wall_clock: Callable[[], float]
    ) -> None:
        self._reactor = reactor
        self._wall_clock = wall_clock
        self._history = history
        self._feeds: set[SseFeed] = set()
        self._delayed: dict[Request, IDelayedCall] = {}
        self._hanging: set[Request] = set()

    def __len__(self) -> int:
        return len(self._feeds) + len(self._delayed) + len(self._hanging)

    def delay(self, request: Request, seconds: float, respond: Callable[[], None]) -> None:
        """Call `respond` after `seconds`, unless the client disconnects before."""

        def begin() -> None:
            del self._delayed[request]
            respond()

        self._delayed[request] = self._reactor.callLater(seconds, begin)
        request.notifyFinish().addErrback(lambda _: self._forget(request))

    def hang(self, request: Request) -> None:
        """Send nothing, not even headers, until the client disconnects."""
        self._hanging.add(request)
        request.notifyFinish().addErrback(lambda _: self._hanging.discard(request))

    def open(self, request: Request, event_range: EventRange, damage: Damage) -> None:
        """Start a response.

        It ends at the end of its range, if the client disconnects, or in close_all.
        """
        now = self._wall_clock()
        replay = EventReplay(self._history, event_range, int(now * 1e9), damage)
        feed = SseFeed(request, replay, self._reactor, self._feeds.discard)
        self._feeds.add(feed)
        deadline = event_range.deadline
        feed.start(None if deadline is None else deadline / 1e9 - now)

    def pump_all(self) -> None:
        """Send new events of the history."""
        for feed in tuple(self._feeds):
            feed.pump()

    def close_all(self) -> None:
        """Abort every response."""
        for request in tuple(self._delayed):
            self._forget(request)
            request.loseConnection()
        for request in tuple(self._hanging):
            request.loseConnection()
        for feed in tuple(self._feeds):
            feed.abort()

    def _forget(self, request: Request) -> None:
        if request in self._delayed:
            self._delayed.pop(request).cancel()


@implementer(IPushProducer)
class SseFeed:
    """One response. It pauses while the client is slow, and calls `on_end` once at its end."""

    def __init__(
        self,
        request: Request,
        replay: EventReplay,
        reactor: IReactorTime,
        on_end: Callable[[SseFeed], None],
    ) -> None:
        self._request = request
        self._replay = replay
        self._reactor = reactor
        self._on_end = on_end
        self._paused = False
        self._deadline: IDelayedCall | None = None
        self._heartbeat = LoopingCall(self._beat)
        self._heartbeat.clock = reactor

    def start(self, remaining: float | None) -> None:
        """Start the response. Its range ends in `remaining` seconds, or never if that is None."""
        self._request.setHeader(b"Content-Type", b"text/event-stream")
        self._request.setHeader(b"Cache-Control", b"no-store")
        self._request.notifyFinish().addBoth(self._release)
        self._request.registerProducer(self, True)
        self._heartbeat.start(HEARTBEAT_INTERVAL, now=False)
        if remaining is not None and remaining >= 0:
            # The range includes its end, so the timer fires a millisecond later.
            self._deadline = self._reactor.callLater(remaining + MILLISECOND / 1e9, self._expire)
        self._request.write(b"" if self._replay.stalled else WELCOME)  # the headers in any case
        self.pump()

    def pump(self) -> None:
        """Write available events until the client is slow. End the response if it is complete."""
        while not self._paused and (text := self._next_chunk()):
            self._request.write(text)
        match self._replay.end:
            case ResponseEnd.COMPLETE:
                self._request.unregisterProducer()
                self._request.finish()
            case ResponseEnd.CUT:
                self.abort()

    def abort(self) -> None:
        """Close the connection without the last chunk: the client gets an incomplete response."""
        self._release()
        self._request.unregisterProducer()
        self._request.loseConnection()

    def pauseProducing(self) -> None:
        """Pause writing."""
        self._paused = True

    def resumeProducing(self) -> None:
        """Resume writing."""
        self._paused = False
        self.pump()

    def stopProducing(self) -> None:
        """Release the timers after the client disconnects."""
        self._release()

    def _next_chunk(self) -> bytes:
        lines: list[bytes] = []
        size = 0
        while size < CHUNK and (step := self._replay.next()) is not None:
            lines.append(_encode_step(step))
            size += len(lines[-1])
        return b"".join(lines)

    def _beat(self) -> None:
        if not (self._paused or self._replay.stalled):
            self._request.write(HEARTBEAT)

    def _expire(self) -> None:
        self._deadline = None
        self._replay.expire()
        self.pump()

    def _release(self, _: Any = None) -> None:
        if self._heartbeat.running:
            self._heartbeat.stop()
            self._on_end(self)
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


def _encode_step(step: Step) -> bytes:
    match step:
        case Dropped(count):
            return b": you are reading too slowly, dropped %d messages\n\n" % count
        case record:
            return b"data: %b\n\n" % record.data
