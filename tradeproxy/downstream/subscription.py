"""One WebSocket client's subscription: the events of its account, and status frames on request.

A status frame never overtakes an event. Status changes are not queued while a client is behind.
Instead it gets one `hello` with the whole state once it has caught up, so its memory is bounded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from tradeproxy.book.book import Book
from tradeproxy.downstream.encoder import FrameEncoder
from tradeproxy.downstream.feed import LOST, Feed
from tradeproxy.downstream.log_reader import LogReader
from tradeproxy.downstream.snapshot import Part, SnapshotInsert
from tradeproxy.hub.account import Account
from tradeproxy.hub.locate import UnrecoverablePositionError, locate
from tradeproxy.journal.base import Batch, Row, UnreadableError
from tradeproxy.query.stream import SubscribeOptions
from tradeproxy.wire.close_codes import MAX_REASON_BYTES, CloseCode
from tradeproxy.wire.proxy_status import ReplayState, encode_position, encode_replay

NOT_KEPT = "events at this place were not kept"
POSITION_INTERVAL = 15
"""Seconds without a frame after which a filtered client with status gets a `position` frame."""

TRIMMED = "read too slowly: what comes next is no longer kept; reconnect"


class ClientTransport(Protocol):
    """The connection to the client."""

    def write(self, frames: bytes) -> None:
        """Send whole WebSocket frames."""

    def close(self, code: CloseCode, reason: str = "") -> None:
        """Send a close frame. It also ends the subscription's feed."""

    def abort(self) -> None:
        """Drop the connection."""

    def pause_reading(self) -> None:
        """Read nothing from the client."""

    def resume_reading(self) -> None:
        """Read from the client again."""


@dataclass(frozen=True, slots=True)
class SharedEncoders:
    """The encoders and the log reader that all WebSocket clients share."""

    frame: Callable[[bytes], bytes]
    """Makes one WebSocket frame of a payload."""
    plain: FrameEncoder
    """For clients without `proxy_status`: Alpaca's payloads, byte for byte."""
    with_cursors: FrameEncoder
    """For clients with `proxy_status`: each payload has its cursor, if there is one."""
    log_reader: LogReader


class Subscription:
    """One client's subscription: a subscriber of its account, and the sink of its feed.

    What the client gets, apart from events and its account's status frames:

        event            replay  with status               without status
        ---------------  ------  ------------------------  ---------------------
        begin            begins  `begun`                   nothing
        caught up        ends    `complete`                nothing
        caught up        none    `hello` if one is due     nothing
        caught up        any     the snapshot if it is     the snapshot if it is
                                 due, before that `hello`  due
        book not ready   any     close with 1013           close with 1013
        hole             any     `impossible`, then on     close with 4010
        trimmed          ends    `impossible`, then live   close with 4010
        trimmed          none    close with 4008           close with 4008
        bad position     none    `impossible`, then live   close with 4010
        unreadable       any     close with 1013           close with 1013
        stall            any     4008 with the cursor      close with 4008
    """

    size = 1

    __slots__ = (
        "_account",
        "_clock",
        "_encoder",
        "_encoders",
        "_filter",
        "_hello_pending",
        "_is_replaying",
        "_position",
        "_sent_at",
        "_snapshot",
        "_transport",
        "_wants_status",
        "deliver",
        "feed",
        "write",
    )

    def __init__(
        self,
        account: Account,
        options: SubscribeOptions,
        transport: ClientTransport,
        encoders: SharedEncoders,
        book: Book | None = None,
        host: str = "",
    ) -> None:
        """Create a subscription that sends nothing yet.

        The `status` of the options is not read here. Options with `snapshot` need a book. `host`
        is the address of the client.
        """
        # These run for every client and event, so the calls in between are saved here once.
        self.write = transport.write if options.filter is None else self._write_filtered
        self.feed = Feed(account.log, encoders.log_reader, self, host)
        self.deliver = self.feed.deliver
        self._account = account
        self._clock = clock = encoders.log_reader.clock
        self._filter = options.filter
        self._sent_at = clock.seconds()
        self._position = options.position
        self._transport = transport
        self._encoders = encoders
        self._wants_status = False
        self._hello_pending = False
        self._is_replaying = False
        self._snapshot = None
        if options.snapshot and book is not None:
            self._snapshot = SnapshotInsert(
                book,
                options.filter,
                self._encode_part,
                clock,
                self._close_not_ready,
                is_replay=options.position is not None,
            )
        self._choose_encoder()

    @property
    def is_filtered(self) -> bool:
        """Whether the client gets only the events that match its filter."""
        return self._filter is not None

    def release(self) -> None:
        """End the feed and drop the connection, which is lost: see Feed.release.

        A fan-out that runs may still call the subscription. It then sends nothing.
        """
        self.feed.release()
        self._snapshot = None
        self._transport, self.write = LOST, LOST.write

    # Called by the session.

    def set_events(self, on: bool) -> None:
        """Start or stop sending events.

        The first start begins at the client's position, each later one with the next event.
        """
        if not on:
            self.feed.stop()
            self._is_replaying = False
            # No event has to come before a pending `hello` now.
            if self.feed.is_current:
                self.on_caught_up()
            return
        # The position is used once. After `unlisten` and `listen` the stream begins live.
        position, self._position = self._position, None
        last = self._account.log.last
        if position is None:
            self.feed.start(last)
            return
        try:
            begin = locate(self._account, position)
        except UnrecoverablePositionError as error:
            self._reject_position(str(error), last)
        except UnreadableError:
            self.on_unreadable()
        else:
            self._is_replaying = True
            self._send_replay(ReplayState.BEGUN, begin)
            self.feed.start(begin)

    def set_status(self, on: bool) -> None:
        """Start or stop sending status frames. The first one is a `hello` with the whole state."""
        self._wants_status = on
        self._choose_encoder()
        if on:
            self._send_hello()

    # Called by the broadcaster, besides `deliver`.

    def announce(self, status: bytes) -> None:
        """Send a status frame, or remember to send a `hello` once the client has caught up."""
        if not self._wants_status:
            return
        if not self.feed.is_current:
            self._hello_pending = True
        elif self._position is not None:
            self._send_hello()  # a `hello` for all has a position behind this client's
        else:
            self._send_status(status)

    def abort(self) -> None:
        """Drop the connection without a close frame."""
        self._transport.abort()

    # Called by the feed, besides `write`.

    def encode(self, batch: Batch) -> bytes | None:
        """Return the batch encoded for this client; None if it contains a hole."""
        return self._encoder.encode(batch, self._account)

    def on_pause(self) -> None:
        """Stop reading: replies would pile up in memory for a client that does not read them."""
        self._transport.pause_reading()

    def on_resume(self) -> None:
        """Read from the client again."""
        self._transport.resume_reading()

    def on_caught_up(self) -> None:
        """Report that the replay is complete, then send the snapshot, then the changed state."""
        if self._is_replaying:
            self._is_replaying = False
            self._send_replay(ReplayState.COMPLETE, self.feed.position)
        if self._snapshot is not None and not self.feed.is_idle:
            if self._snapshot.is_due:
                self._snapshot.begin(self.feed)
                return
            self._snapshot = None
        if self._hello_pending and self._wants_status:
            self._send_hello()

    def on_hole(self, row: Row) -> None:
        """Report lost events to a client with status; close any other one.

        A client without status has no other way to detect that events are missing.
        """
        if self._wants_status:
            self._send_replay(ReplayState.IMPOSSIBLE, row.seq, NOT_KEPT)
        else:
            self._transport.close(
                CloseCode.POSITION_LOST, CloseCode.POSITION_LOST.with_detail(NOT_KEPT)
            )

    def on_trimmed(self) -> None:
        """Reject the position if a replay is running; otherwise close the slow client.

        In both cases the rows that the client needs next were trimmed.
        """
        if self._is_replaying:
            self._is_replaying = False
            self._reject_position("it is no longer kept", self._account.log.last)
        else:
            self._transport.close(CloseCode.TOO_SLOW, TRIMMED)

    def on_unreadable(self) -> None:
        """Close with a code that lets the client retry: its position may still be valid."""
        self._transport.close(CloseCode.UNREADABLE)

    def on_stall(self, seconds: float) -> None:
        """Close the client. For a client with status, the reason has the cursor to resume from."""
        # Only clients with status know cursors. The default reason names `event_id`, too.
        code = CloseCode.TOO_SLOW
        seq = self._current_seq() if self._wants_status else None
        cursor = None if seq is None else self._account.cursor_at(seq)
        reason = f"read too slowly for {seconds:g} s: reconnect with since_id={cursor}"
        fits = cursor is not None and len(reason) <= MAX_REASON_BYTES
        self._transport.close(code, reason if fits else code.reason)

    # Encoding and filtering.

    def _choose_encoder(self) -> None:
        encoder = self._encoders.with_cursors if self._wants_status else self._encoders.plain
        if self._filter is not None:
            encoder = encoder.with_filter(self._filter)
        self.feed.encoder = self._encoder = encoder

    def _write_filtered(self, frames: bytes) -> None:
        """Write the events that match. If none does, write a `position` frame when one is due.

        The frame needs no timer: without new events the stream's position does not move, and the
        client's cursor is at most a few events old. A resume from there skips them again.
        """
        if frames or (frames := self._due_position_frame()):
            self._sent_at = self._clock.seconds()
            self._transport.write(frames)

    def _due_position_frame(self) -> bytes:
        is_due = self._wants_status and self._clock.seconds() - self._sent_at >= POSITION_INTERVAL
        # There is no cursor while the last row is not durable.
        cursor = self._account.cursor_at(self.feed.position) if is_due else None
        return b"" if cursor is None else self._encoders.frame(encode_position(cursor))

    # The snapshot.

    def _encode_part(self, part: Part) -> bytes:
        return self._encoders.frame(b'{"stream":"snapshot","data":' + part.data + b"}")

    def _close_not_ready(self) -> None:
        self._transport.close(CloseCode.NOT_READY)

    # Status frames.

    def _reject_position(self, reason: str, last: int) -> None:
        if self._wants_status:
            self._send_replay(ReplayState.IMPOSSIBLE, last, reason)
            self.feed.start(last)
        else:
            self._transport.close(
                CloseCode.POSITION_LOST, CloseCode.POSITION_LOST.with_detail(reason)
            )

    def _send_hello(self) -> None:
        self._hello_pending = not self.feed.is_current
        if not self._hello_pending:
            self._send_status(self._account.hello(self._current_seq()))

    def _current_seq(self) -> int | None:
        """Return where the client's stream is or will begin; None if the journal cannot be read."""
        if not self.feed.is_idle:
            return self.feed.position
        last = self._account.log.last
        try:
            return last if self._position is None else locate(self._account, self._position)
        except UnrecoverablePositionError:
            return last
        except UnreadableError:
            return None

    def _send_replay(self, state: ReplayState, seq: int, reason: str = "") -> None:
        if self._wants_status:
            self._send_status(encode_replay(state, self._account.cursor_at(seq), reason))

    def _send_status(self, status: bytes) -> None:
        self._transport.write(self._encoders.frame(status))
