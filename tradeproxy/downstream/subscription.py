"""What one WebSocket client is sent of its account: events, and the status if it asks, in their order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from tradeproxy.downstream.feed import Feed
from tradeproxy.hub.locate import UnrecoverablePositionError, locate
from tradeproxy.journal.base import UnreadableError
from tradeproxy.wire.close_codes import MAX_REASON_BYTES, CloseCode
from tradeproxy.wire.proxy_status import ReplayState, encode_position, encode_replay

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.interfaces import IReactorTime

    from tradeproxy.downstream.encoder import FrameEncoder
    from tradeproxy.downstream.log_reader import LogReader
    from tradeproxy.downstream.query import SubscribeOptions
    from tradeproxy.hub.account import Account
    from tradeproxy.journal.base import Batch, Row

NOT_KEPT = "events at this place were not kept"
POSITION_INTERVAL = 15
"""Seconds after which a client from which all is held back is told where its stream stands."""

TRIMMED = "read too slowly: what comes next is no longer kept; reconnect"


class ClientTransport(Protocol):
    """The connection to the client."""

    def write(self, frames: bytes) -> None:
        """Send whole WebSocket frames."""

    def close(self, code: CloseCode, reason: str = "") -> None:
        """Send a close frame; the subscription's feed ends with it."""

    def abort(self) -> None:
        """Drop the connection."""

    def pause_reading(self) -> None:
        """Take nothing from the client."""

    def resume_reading(self) -> None:
        """Take from the client again."""


@dataclass(frozen=True, slots=True)
class SharedEncoders:
    """How things are said to WebSocket clients, and what is said to many of them at once."""

    frame: Callable[[bytes], bytes]
    """Makes a frame of a payload."""
    plain: FrameEncoder
    with_cursors: FrameEncoder
    log_reader: LogReader


class Subscription:
    """One client's: the subscriber of its account, and the outlet of its feed.

    Status frames stand in the order of the events. What changes while older events are owed to the client is
    not kept for it: it is told the whole state once it has them.
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
        "_stall_timeout",
        "_transport",
        "_wants_status",
        "deliver",
        "feed",
        "write",
    )

    def __init__(
        self,
        account: Account,
        wishes: SubscribeOptions,
        wire: ClientTransport,
        wording: SharedEncoders,
        clock: IReactorTime,
        stall_timeout: float,
    ) -> None:
        self.write = wire.write if wishes.filter is None else self._write_filtered
        self.feed = Feed(account.journal, wording.log_reader, self, clock, stall_timeout)
        self.deliver = self.feed.deliver
        self._account = account
        self._clock = clock
        self._filter = wishes.filter
        self._sent_at = clock.seconds()
        self._position = wishes.position
        self._transport = wire
        self._encoders = wording
        self._stall_timeout = stall_timeout
        self._wants_status = False
        self._hello_pending = False
        self._is_replaying = False
        self._choose_encoder()

    # What the session asks for.

    def set_events(self, on: bool) -> None:
        """Begin to send events: the first time at the client's position, then at the newest; or end it."""
        if not on:
            self.feed.stop()
            self._is_replaying = False
            if self.feed.is_current:
                self.on_caught_up()
            return
        position, self._position = self._position, None
        last = self._account.journal.last
        if position is None:
            self.feed.start(last)
            return
        try:
            begin = locate(self._account, position)
        except UnrecoverablePositionError as lost:
            self._reject_position(str(lost), last)
        except UnreadableError:
            self.on_unreadable()
        else:
            self._is_replaying = True
            self._send_replay(ReplayState.BEGUN, begin)
            self.feed.start(begin)

    def set_status(self, on: bool) -> None:
        """Begin to send the status, with all there is to know; or end it."""
        self._wants_status = on
        self._choose_encoder()
        if on:
            self._send_hello()

    # What the broadcaster calls, besides `deliver`.

    def announce(self, status: bytes) -> None:
        """Pass a status frame on, or remember that there was one."""
        if not self._wants_status:
            return
        if self.feed.is_current:
            self._send_status(status)
        else:
            self._hello_pending = True

    def abort(self) -> None:
        """Drop the connection without a goodbye."""
        self._transport.abort()

    # What the feed calls, besides `write`.

    def encode(self, burst: Batch) -> bytes | None:
        """Return the burst as this client gets it."""
        return self._encoder.encode(burst, self._account)

    def on_pause(self) -> None:
        """Take no questions from a client that does not read the answers."""
        self._transport.pause_reading()

    def on_resume(self) -> None:
        """Take its questions again."""
        self._transport.resume_reading()

    def on_caught_up(self) -> None:
        """Say that the replay is complete, and what happened meanwhile."""
        if self._is_replaying:
            self._is_replaying = False
            self._send_replay(ReplayState.COMPLETE, self.feed.position)
        if self._hello_pending and self._wants_status:
            self._send_hello()

    def on_hole(self, row: Row) -> None:
        """Tell what cannot be had: those who understand it go on, the others must not go on unaware."""
        if self._wants_status:
            self._send_replay(ReplayState.IMPOSSIBLE, row.seq, NOT_KEPT)
        else:
            self._transport.close(
                CloseCode.POSITION_LOST, CloseCode.POSITION_LOST.with_detail(NOT_KEPT)
            )

    def on_trimmed(self) -> None:
        """Say that the client's place has been trimmed away while it read, or before it could."""
        if self._is_replaying:
            self._is_replaying = False
            self._reject_position("it is no longer kept", self._account.journal.last)
        else:
            self._transport.close(CloseCode.TOO_SLOW, TRIMMED)

    def on_unreadable(self) -> None:
        """Ask for another try: the position is good."""
        self._transport.close(CloseCode.UNREADABLE)

    def on_stall(self) -> None:
        """Give up on a client that does not read, and say where it stood, so that it can go on there."""
        code = CloseCode.TOO_SLOW
        cursor = self._account.cursor_at(self.feed.position) if self._wants_status else None
        reason = f"read too slowly for {self._stall_timeout:g} s: reconnect with since_id={cursor}"
        is_fit = cursor is not None and len(reason) <= MAX_REASON_BYTES
        self._transport.close(code, reason if is_fit else code.reason)

    # What the filter leaves.

    def _choose_encoder(self) -> None:
        framing = self._encoders.with_cursors if self._wants_status else self._encoders.plain
        self.feed.encoder = self._encoder = framing.with_filter(self._filter)

    def _write_filtered(self, frames: bytes) -> None:
        """Write what a filter has left of some events; where that is nothing, say now and then how far it is.

        No timer is needed: a client's own cursor is behind its place by a few events at most, and a resume
        from there passes over them once more.
        """
        if frames or (frames := self._due_position_frame()):
            self._sent_at = self._clock.seconds()
            self._transport.write(frames)

    def _due_position_frame(self) -> bytes:
        is_due = self._wants_status and self._clock.seconds() - self._sent_at >= POSITION_INTERVAL
        cursor = self._account.cursor_at(self.feed.position) if is_due else None
        return b"" if cursor is None else self._encoders.frame(encode_position(cursor))

    # Words.

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
        """Return where the client's stream stands, or will begin; None if that cannot be told now."""
        if not self.feed.is_idle:
            return self.feed.position
        last = self._account.journal.last
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
