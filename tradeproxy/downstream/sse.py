"""The stream as server-sent events, compatible with Alpaca's endpoint `/v2/events/trades`."""

from __future__ import annotations

from io import BytesIO
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http_headers import Headers
from twisted.web.server import Request

from tradeproxy.book.book import Book
from tradeproxy.config.settings import Limits
from tradeproxy.downstream.admission import Grant
from tradeproxy.downstream.client_log import DROPPED, LOST, read_client_info
from tradeproxy.downstream.clients import Clients, ClientStats
from tradeproxy.downstream.encoder import FrameEncoder, convert_to_sse
from tradeproxy.downstream.feed import Feed
from tradeproxy.downstream.log_range import LogRange
from tradeproxy.downstream.log_reader import LogReader
from tradeproxy.downstream.snapshot import Part, SnapshotInsert
from tradeproxy.downstream.subscription import NOT_KEPT
from tradeproxy.hub.account import Account
from tradeproxy.journal.base import Batch, Row
from tradeproxy.query.stream import HistoryQuery
from tradeproxy.wire.close_codes import CloseCode

HEARTBEAT = 15
"""Seconds between two heartbeats. They keep idle connections open in reverse proxies and NATs."""

GRACE = 2.0
"""Seconds that an event may take from Alpaca to the proxy. A response with `until` ends this much
later. It is also the interval at which such a response checks again whether a gap is settled."""

COMPLETE = "the response is complete"

HEADERS = {
    b"content-type": b"text/event-stream",
    b"cache-control": b"no-store",
    b"x-accel-buffering": b"no",  # nginx would buffer 4 KiB of events
}


class SseContext:
    """What all responses share."""

    def __init__(self, clients: Clients, limits: Limits, clock: IReactorTime) -> None:
        self.clients = clients
        self.clock = clock
        self.encoder = FrameEncoder(bytes, convert_to_sse)  # `bytes` returns the same object
        self.log_reader = LogReader(clock, limits.stall_timeout)


class SseResponse:
    """One response: a client, a subscriber of its account, and the sink of its feed.

    The response ends cleanly (the last chunk of HTTP/1.1) only at the end that the client asked
    for. Alpaca's Go SDK never reconnects after a clean end. After a dropped connection every
    client does.
    """

    size = 1
    _log = Logger()

    def __init__(
        self,
        shared: SseContext,
        request: Request,
        account: Account,
        query: HistoryQuery,
        log_range: LogRange,
        grant: Grant,
        book: Book | None = None,
    ) -> None:
        """Create a response to an admitted request, whose `query` describes `log_range`.

        `book` is that of the account for a query with `snapshot`; None for any other.
        """
        self.is_closed: Deferred[None] = Deferred()
        self._shared = shared
        channel: Any = request.channel
        self._request = request
        self._transport = channel.transport
        self._account = account
        self._range = log_range
        self.grant = grant
        self._info = read_client_info(request, "server-sent events", query, account.dates)
        self._is_filtered = query.filter is not None or log_range.until is not None
        self._end_reason = ""
        wanted = query.filter
        self._encoder = shared.encoder if wanted is None else shared.encoder.with_filter(wanted)
        self._id_epoch: str | None = None
        self._feed = Feed(account.log, shared.log_reader, self, self._info.host)
        self._snapshot = None
        if book is not None:
            self._snapshot = SnapshotInsert(
                book,
                query.filter,
                _encode_part,
                shared.clock,
                self._drop_not_ready,
                is_replay=query.position is not None,
            )
        self._heartbeat: IDelayedCall | None = None
        self._time_limit: IDelayedCall | None = None
        self._close_limit: IDelayedCall | None = None

    def begin(self) -> None:
        """Send the headers, which are set, and the first heartbeat, then events."""
        free_head(self._request)
        self._request.notifyFinish().addBoth(self._on_closed)
        self._request.registerProducer(self._feed, True)
        self._shared.clients.add(self)
        self._shared.clients.sockets.log_in(self._transport)
        self._shared.clients.log.connected(self._info)
        self._account.broadcaster.register(self)
        # Sent even to a client that does not read: clients wait for the first bytes. The feed has
        # not started, so the position is that of the range.
        self._write_heartbeat(self._range.after)
        self._heartbeat = self._shared.clock.callLater(HEARTBEAT, self._beat)
        if self._range.until is not None:
            remaining = self._range.until / 1_000_000 + GRACE - self._account.dates.now()
            if remaining > 0:
                self._time_limit = self._shared.clock.callLater(remaining, self._end_if_complete)
        self._feed.start(self._range.after)

    # Called by the service.

    def close(self, code: CloseCode) -> None:
        """Drop the connection once all written bytes are sent, or the client has not read in time.

        HTTP has no field for the code. A dropped connection makes every client reconnect.
        """
        self._end_reason = self._end_reason or code.reason
        if self._close_limit is None:
            stall_timeout = self._shared.log_reader.stall_timeout
            self._close_limit = self._shared.clock.callLater(stall_timeout, self.abort)
        self._feed.stopProducing()
        self._request.loseConnection()

    def abort(self) -> None:
        """Drop the connection at once."""
        self._end_reason = self._end_reason or DROPPED
        self._feed.stopProducing()
        transport: Any = self._request.transport
        transport.abortConnection()

    def stats(self) -> ClientStats:
        """Return the current numbers of this client."""
        lag = self._account.lag(self._feed.position)
        return ClientStats(self._feed.is_paused, lag, self._account.name, self._info)

    # Called by the broadcaster.

    def deliver(self, batch: Batch) -> None:
        """Send the batch, or leave it to the feed to read it later."""
        self._feed.deliver(batch)

    def announce(self, status: bytes) -> None:
        """Send the position if the client has none of this epoch. There are no status frames.

        The journal may have begun a new epoch, or its last row may be durable only now.
        """
        if not self._account.log.status.durable:
            self._id_epoch = None  # the next events have no id
        elif self._feed.is_current and self._id_epoch != self._account.log.epoch:
            self._write_heartbeat(self._feed.position)

    # Called by the feed.

    def encode(self, batch: Batch) -> bytes | None:
        """Return the encoded rows that are in the range; None if one of them is a hole."""
        wanted = tuple(filter(self._is_in_range, batch.rows))
        if len(wanted) < len(batch.rows):
            if not wanted:
                return b""
            batch = Batch(wanted)
        return self._encoder.encode(batch, self._account)

    def write(self, frames: bytes) -> None:
        """Send events, and finish the response after the last one in the range."""
        self._request.write(frames)
        if self._range.last is not None and self._feed.position >= self._range.last:
            self._finish()

    def on_pause(self) -> None:
        """Do nothing: twisted.web reads no further request before this response has ended."""

    def on_resume(self) -> None:
        """Do nothing: the feed continues by itself."""

    def on_caught_up(self) -> None:
        """Send the snapshot if it is due, and finish the response if its range is complete."""
        if self._snapshot is not None:
            if self._snapshot.is_due:
                self._snapshot.begin(self._feed)
                return
            self._snapshot = None
        if self._range.last is not None and self._feed.position >= self._range.last:
            self._finish()
        elif self._range.until is not None and self._time_limit is None:
            self._end_if_complete()

    def on_hole(self, row: Row) -> None:
        """Drop the connection once the client has read the events before the hole.

        A client that reconnects from there gets status 410 and the reason. If it lost those events
        with the connection, it would ask for them again, and might never get to the hole.
        """
        if self._range.last is not None and row.seq > self._range.last:
            self._finish()
            return
        self._record_drop(NOT_KEPT)
        # A comment, for a client that has no position to resume from: it gets no 410.
        self._request.write(b": %s\n\n" % NOT_KEPT.encode())
        self.close(CloseCode.POSITION_LOST)

    def on_trimmed(self) -> None:
        """Drop the connection. A client that reconnects gets status 410 and the reason."""
        self._drop("what a client wanted to read is no longer kept")

    def on_unreadable(self) -> None:
        """Drop the connection. The client may resume at its position."""
        self._drop(CloseCode.UNREADABLE.reason)

    def on_stall(self, seconds: float) -> None:
        """Drop the connection. The client may resume at its position."""
        self._drop(f"read too slowly for {seconds:g} s")

    # Internals.

    def _is_in_range(self, row: Row) -> bool:
        log_range = self._range
        if log_range.last is not None and row.seq > log_range.last:
            return False
        return log_range.until is None or row.time is None or row.time <= log_range.until

    def _beat(self) -> None:
        # A client that is behind or does not read gets none: it still has events to read.
        if self._feed.is_current:
            self._write_heartbeat(self._feed.position)
        self._heartbeat = self._shared.clock.callLater(HEARTBEAT, self._beat)

    def _write_heartbeat(self, position: int) -> None:
        """Send a comment, and an `id:` line with the cursor of `position` if the log is durable.

        Without data it is no event, but a browser stores the id as its Last-Event-ID (WHATWG HTML,
        9.2.6). So a client that reconnects before its first event misses none.
        """
        is_durable = self._account.log.status.durable
        cursor = self._account.cursor_at(position) if is_durable else None
        self._id_epoch = None if cursor is None else self._account.log.epoch
        line = b"" if cursor is None else b"id: %s\n" % cursor.encode()
        self._request.write(b": heartbeat\n%s\n" % line)

    def _end_if_complete(self) -> None:
        self._time_limit = None
        if not self._feed.is_current:
            return  # `on_caught_up` follows, and calls this again
        if self._is_complete():
            self._finish()
        else:
            self._time_limit = self._shared.clock.callLater(GRACE, self._end_if_complete)

    def _is_complete(self) -> bool:
        """Whether no further event of the range can arrive.

        Events may still be buffered in the account, or a backfill of an open gap may find some.
        """
        account, until = self._account, self._range.until
        gap = account.open_gap
        may_have_gap = (
            gap is not None and until is not None and (gap.begin is None or gap.begin <= until)
        )
        return account.is_settled and not account.lag(self._feed.position) and not may_have_gap

    def _drop_not_ready(self) -> None:
        self._drop(CloseCode.NOT_READY.reason)

    def _drop(self, reason: str) -> None:
        self._record_drop(reason)
        self.abort()

    def _record_drop(self, reason: str) -> None:
        self._end_reason = reason
        self._shared.clients.rejections.record(self._info.label, reason)

    def _finish(self) -> None:
        self._end_reason = COMPLETE
        self._request.unregisterProducer()
        self._request.finish()  # calls _on_closed, which ends the feed

    def _on_closed(self, _: Failure | Any) -> None:
        self._feed.stopProducing()
        self._account.broadcaster.unregister(self)
        self._log_end()
        self._shared.clients.discard(self)
        self._shared.clients.sockets.log_out(self._transport)
        for call in (self._heartbeat, self._time_limit, self._close_limit):
            if call is not None and call.active():
                call.cancel()
        # A call that has run refers to this response. The feed and the snapshot do, too.
        self._heartbeat = self._time_limit = self._close_limit = self._snapshot = None
        self._feed.release()
        self.is_closed.callback(None)

    def _log_end(self) -> None:
        log_range, events = self._range, self._feed.passed
        if log_range.last is not None:  # the last step may have passed rows behind the end
            events = min(events, log_range.last - log_range.after)
        self._shared.clients.log.left(
            self._info,
            events,
            self._end_reason or LOST,
            filtered=self._is_filtered,
        )


def _encode_part(part: Part) -> bytes:
    position = b"" if part.cursor is None else b"id: %b\n" % part.cursor.encode()
    return b"event: snapshot\n%bdata: %b\n\n" % (position, part.data)


def free_head(request: Request) -> None:
    """Free the headers, the query and the body. Nothing may read them afterwards.

    The objects of many short headers take five times their bytes, as long as the response lasts.
    """
    request.requestHeaders = Headers()
    request.uri = request.path
    request.content = BytesIO()
