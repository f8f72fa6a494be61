"""Trade events as server-sent events, in Alpaca's manner, on twisted.web: each response a feed of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IPushProducer
from twisted.internet.task import LoopingCall
from zope.interface import implementer

from tradeproxy.simulator.replay import MILLISECOND, Dropped, EventReplay, ResponseEnd

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.interfaces import IDelayedCall, IReactorTime
    from twisted.web.server import Request

    from tradeproxy.simulator.history import EventHistory
    from tradeproxy.simulator.replay import Damage, EventRange, Step

WELCOME = b": welcome\n\n"
HEARTBEAT = b": heartbeat\n\n"
HEARTBEAT_INTERVAL = 15
"""In seconds."""

CHUNK = 32 * 1024
"""About how many bytes are written at once."""


class SseFeeds:
    """All responses under way, those that are held back among them; `history` is what they tell."""

    def __init__(self, reactor: IReactorTime, history: EventHistory) -> None:
        self._reactor = reactor
        self._history = history
        self._feeds: set[SseFeed] = set()
        self._held: dict[Request, IDelayedCall] = {}

    def __len__(self) -> int:
        return len(self._feeds) + len(self._held)

    def delay(self, request: Request, seconds: float, answer: Callable[[], None]) -> None:
        """Call `answer` after a while, unless the client is gone by then."""

        def begin() -> None:
            del self._held[request]
            answer()

        self._held[request] = self._reactor.callLater(seconds, begin)
        request.notifyFinish().addErrback(lambda _: self._forget(request))

    def open(self, request: Request, span: EventRange, damage: Damage) -> None:
        """Begin a response; it ends by itself, with the client, or with `end`."""
        replay = EventReplay(self._history, span, int(self._reactor.seconds() * 1e9), damage)
        feed = SseFeed(request, replay, self._reactor, self._feeds.discard)
        self._feeds.add(feed)
        feed.start(span.deadline)

    def pump_all(self) -> None:
        """Take note that the history has grown."""
        for feed in tuple(self._feeds):
            feed.pump()

    def close_all(self) -> None:
        """Cut every response off."""
        for request in tuple(self._held):
            self._forget(request)
            request.loseConnection()
        for feed in tuple(self._feeds):
            feed.cut()

    def _forget(self, request: Request) -> None:
        if request in self._held:
            self._held.pop(request).cancel()


@implementer(IPushProducer)
class SseFeed:
    """One response. It writes no more than the client takes; `on_end` is called once, at its end."""

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

    def start(self, deadline: int | None) -> None:
        """Begin the response; `deadline` is the last moment that belongs to it, in nanoseconds since 1970."""
        self._request.setHeader(b"Content-Type", b"text/event-stream")
        self._request.setHeader(b"Cache-Control", b"no-store")
        self._request.notifyFinish().addBoth(self._release)
        self._request.registerProducer(self, True)
        self._heartbeat.start(HEARTBEAT_INTERVAL, now=False)
        if deadline is not None and (left := deadline / 1e9 - self._reactor.seconds()) >= 0:
            # A millisecond later: what happens at the very moment still belongs to it.
            self._deadline = self._reactor.callLater(left + MILLISECOND / 1e9, self._expire)
        self._request.write(WELCOME)
        self.pump()

    def pump(self) -> None:
        """Write what there is, as far as the client takes it, and end if this is the end."""
        while not self._paused and (text := self._text()):
            self._request.write(text)
        match self._replay.ending:
            case ResponseEnd.COMPLETE:
                self._request.unregisterProducer()
                self._request.finish()
            case ResponseEnd.CUT:
                self.cut()

    def cut(self) -> None:
        """End the connection where it is, without the chunk that would end the response."""
        self._release()
        self._request.unregisterProducer()
        self._request.loseConnection()

    def pauseProducing(self) -> None:
        """Write nothing for now."""
        self._paused = True

    def resumeProducing(self) -> None:
        """Go on."""
        self._paused = False
        self.pump()

    def stopProducing(self) -> None:
        """Take note that the client is gone."""
        self._release()

    def _text(self) -> bytes:
        lines: list[bytes] = []
        size = 0
        while size < CHUNK and (step := self._replay.next()) is not None:
            lines.append(_lines(step))
            size += len(lines[-1])
        return b"".join(lines)

    def _beat(self) -> None:
        if not self._paused:
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


def _lines(step: Step) -> bytes:
    match step:
        case Dropped(count):
            return b": you are reading too slowly, dropped %d messages\n\n" % count
        case record:
            return b"data: %b\n\n" % record.data
