"""The stream as server-sent events, in the manner of Alpaca's own endpoint for trade events."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.web.server import NOT_DONE_YET

from tradeproxy.downstream import encoder
from tradeproxy.downstream.admission import Rejection
from tradeproxy.downstream.clients import ClientInfo, ClientStats, user_agent
from tradeproxy.downstream.feed import Feed
from tradeproxy.downstream.log_reader import LogReader
from tradeproxy.downstream.query import HistoryQuery, UntilId, UntilTime
from tradeproxy.downstream.subscription import NOT_KEPT
from tradeproxy.hub.locate import UnrecoverablePositionError, locate
from tradeproxy.journal.base import Batch, TrimmedError, UnreadableError
from tradeproxy.wire.close_codes import CloseCode
from tradeproxy.wire.position import AfterId

if TYPE_CHECKING:
    from twisted.internet.interfaces import IDelayedCall, IReactorTime
    from twisted.python.failure import Failure
    from twisted.web.server import Request

    from tradeproxy.config.settings import Limits
    from tradeproxy.downstream.clients import Clients
    from tradeproxy.downstream.filters import Filter
    from tradeproxy.hub.account import Account
    from tradeproxy.journal.base import Row

HEARTBEAT = 15
"""Seconds between two comments that keep the connection known to whatever is in between."""

GRACE = 2.0
"""Seconds that an event may take from its time to here, before a response that goes up to a time ends; also
between two looks at whether what was missed has been found."""

HEADERS = {
    b"content-type": b"text/event-stream",
    b"cache-control": b"no-store",
    b"x-accel-buffering": b"no",  # nginx would keep events until it has 4 KiB of them
}


@dataclass(frozen=True, slots=True)
class LogRange:
    """The part of the log that a client is to have: behind the row `after`, as far as it wants it."""

    after: int
    last: int | None = None
    """The number of the last row."""
    until: int | None = None
    """The time of the last events: microseconds since 1970."""
    filter: Filter | None = None
    """Which of its events are wanted; None: all."""


def resolve_query(account: Account, span: HistoryQuery) -> LogRange | Rejection:
    """Return where the span is in the account's log, or why it cannot be had."""
    try:
        stretch = _find(account, span)
    except UnreadableError:
        return Rejection(503, CloseCode.UNREADABLE.reason)
    return stretch if isinstance(stretch, Rejection) else replace(stretch, filter=span.filter)


def _find(account: Account, span: HistoryQuery) -> LogRange | Rejection:
    try:
        after = account.journal.last if span.position is None else locate(account, span.position)
    except UnrecoverablePositionError as lost:
        return Rejection(410, f"position unknown: {lost}")
    if span.position is not None and _is_before_hole(account, after):
        return Rejection(410, f"position unknown: {NOT_KEPT}")
    match span.until:
        case UntilId(text):
            try:
                return LogRange(after, last=locate(account, AfterId(text)))
            except UnrecoverablePositionError as lost:
                return Rejection(404, f"until_id: {lost}")
        case UntilTime(time):
            return LogRange(after, until=time)
        case None:
            return LogRange(after)


def _is_before_hole(account: Account, after: int) -> bool:
    # There is no way to tell of it in the stream, and a browser would come back to it again and again.
    try:
        following = account.journal.read(after, 1)
    except TrimmedError:
        return False  # the feed will find that too
    return following is not None and following.rows[0].payload is None


class SseResponses:
    """Every such response, and what many of them are sent alike."""

    def __init__(self, clients: Clients, limits: Limits, clock: IReactorTime) -> None:
        self.clients = clients
        self.limits = limits
        self.clock = clock
        self.encoder = encoder.sse_encoder()
        self.log_reader = LogReader()

    def render(self, request: Request, account: Account, stretch: LogRange) -> int:
        """Answer `request`, which has been admitted; for Resource.render."""
        for name, value in HEADERS.items():
            request.setHeader(name, value)
        if request.method == b"HEAD":
            request.finish()
        else:
            SseResponse(self, request, account, stretch).begin()
        return NOT_DONE_YET


class SseResponse:
    """One response: a client, a subscriber of its account, and the outlet of its feed.

    It ends cleanly only where the client asked it to: a clean end stops Alpaca's Go SDK for good, and a
    broken one lets every client come back.
    """

    size = 1
    _log = Logger()

    def __init__(
        self, shared: SseResponses, request: Request, account: Account, stretch: LogRange
    ) -> None:
        self.is_closed: Deferred[None] = Deferred()
        self._shared = shared
        self._request = request
        self._account = account
        self._range = stretch
        agent = user_agent(request.getHeader(b"user-agent"))
        self._info = ClientInfo(agent, "server-sent events", shared.clock.seconds())
        self._encoder = shared.encoder.with_filter(stretch.filter)
        self._place = stretch.after
        self._feed = Feed(
            account.journal, shared.log_reader, self, shared.clock, shared.limits.stall_timeout
        )
        self._heartbeat: IDelayedCall | None = None
        self._time_limit: IDelayedCall | None = None

    def begin(self) -> None:
        """Send the headers, and then events."""
        self._request.notifyFinish().addBoth(self._closed)
        self._request.registerProducer(self._feed, True)
        self._shared.clients.add(self)
        self._account.broadcaster.register(self)
        self._beat()
        if self._range.until is not None:
            remaining = self._range.until / 1_000_000 + GRACE - self._shared.clock.seconds()
            if remaining > 0:
                self._time_limit = self._shared.clock.callLater(remaining, self._time_is_up)
        self._feed.start(self._range.after)

    # What the service calls.

    def close(self, code: CloseCode) -> None:
        """Drop the connection once what was written is sent: whatever the code, that asks for a reconnect."""
        self._feed.stopProducing()
        self._request.unregisterProducer()
        self._request.loseConnection()

    def abort(self) -> None:
        """Drop the connection at once."""
        self._feed.stopProducing()
        transport: Any = self._request.transport
        transport.abortConnection()

    def stats(self) -> ClientStats:
        """Return how it stands."""
        lag = max(self._account.journal.last - self._feed.position, 0)
        return ClientStats(
            self._feed.is_paused, lag, self._account.name, _format_peer(self._request), self._info
        )

    # What the broadcaster calls.

    def deliver(self, burst: Batch) -> None:
        """Pass the events on as far as the client reads."""
        self._feed.deliver(burst)

    def announce(self, status: bytes) -> None:
        """Pass over it: this stream has no place for it."""

    # What the feed calls.

    def encode(self, burst: Batch) -> bytes | None:
        """Return the events of the burst that belong to the stretch."""
        wanted = tuple(filter(self._is_wanted, burst.rows))
        if len(wanted) < len(burst.rows):
            if not wanted:
                return b""
            burst = Batch(wanted)
        return self._encoder.encode(burst, self._account)

    def write(self, frames: bytes) -> None:
        """Send events, and end with the last that was asked for."""
        self._request.write(frames)
        if self._range.last is not None and self._feed.position >= self._range.last:
            self._finish()

    def on_pause(self) -> None:
        """Do nothing: twisted.web reads no further requests meanwhile."""

    def on_resume(self) -> None:
        """Do nothing: the feed goes on."""

    def on_caught_up(self) -> None:
        """End if there is nothing more to wait for."""
        if self._range.last is not None and self._feed.position >= self._range.last:
            self._finish()
        elif self._range.until is not None and not _is_active(self._time_limit):
            self._time_is_up()

    def on_hole(self, row: Row) -> None:
        """Break off; where the client comes back to, it is told why it cannot have what follows."""
        self._drop(NOT_KEPT)

    def on_trimmed(self) -> None:
        """Break off, with the same consequence."""
        self._drop("what a client wanted to read is no longer kept")

    def on_unreadable(self) -> None:
        """Break off; the client may come back where it was."""
        self._drop(CloseCode.UNREADABLE.reason)

    def on_stall(self) -> None:
        """Break off; the client may come back where it was."""
        self._drop(f"read too slowly for {self._shared.limits.stall_timeout:g} s")

    # Ours.

    def _is_wanted(self, row: Row) -> bool:
        stretch = self._range
        if stretch.last is not None and row.seq > stretch.last:
            return False
        return stretch.until is None or row.time is None or row.time <= stretch.until

    def _beat(self) -> None:
        if self._feed.is_current:
            self._request.write(b": heartbeat\n%s\n" % self._progress())
        self._heartbeat = self._shared.clock.callLater(HEARTBEAT, self._beat)

    def _progress(self) -> bytes:
        """Return an id without an event, which moves a browser's place on over what was held back from it."""
        place = self._feed.position
        if self._range.filter is None or self._feed.is_idle or place == self._place:
            return b""
        cursor = self._account.cursor_at(place)
        if cursor is None:
            return b""
        self._place = place
        return b"id: %s\n" % cursor.encode()

    def _time_is_up(self) -> None:
        if not self._feed.is_current:
            return  # `caught_up` will come
        if self._is_complete():
            self._finish()
        else:
            self._time_limit = self._shared.clock.callLater(GRACE, self._time_is_up)

    def _is_complete(self) -> bool:
        """Whether nothing that may belong to the stretch is sought, or on its way from there to here."""
        account, until = self._account, self._range.until
        gap = account.gaps.current
        sought = gap is not None and until is not None and gap.begin <= until
        return account.is_settled and self._feed.position >= account.journal.last and not sought

    def _drop(self, reason: str) -> None:
        peer = self._request.getClientAddress()
        self._shared.clients.rejections.record(getattr(peer, "host", "a client"), reason)
        self.abort()

    def _finish(self) -> None:
        self._feed.stopProducing()
        self._request.unregisterProducer()
        self._request.finish()

    def _closed(self, _: Failure | Any) -> None:
        self._feed.stopProducing()
        self._account.broadcaster.unregister(self)
        self._shared.clients.discard(self)
        for call in (self._heartbeat, self._time_limit):
            if call is not None and call.active():
                call.cancel()
        self.is_closed.callback(None)


def _format_peer(request: Request) -> str:
    """Return the client's address as Autobahn writes it."""
    address = request.getClientAddress()
    kind = {IPv4Address: "tcp4", IPv6Address: "tcp6"}.get(type(address))
    return "unix" if kind is None else f"{kind}:{address.host}:{address.port}"


def _is_active(call: IDelayedCall | None) -> bool:
    return call is not None and bool(call.active())
