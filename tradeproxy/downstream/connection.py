"""One client's WebSocket: an adapter from Autobahn's protocol to a session and a subscription.

A client is served by its own feed or by a send group, never by both. The table is in `send_group`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import txaio
from autobahn.twisted.websocket import WebSocketServerProtocol
from autobahn.websocket.types import ConnectionRequest
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from tradeproxy.book.book import Book
from tradeproxy.downstream import autobahn_slim
from tradeproxy.downstream.admission import Grant, WrongTokens
from tradeproxy.downstream.client_log import DROPPED, LOST, ClientInfo
from tradeproxy.downstream.clients import Clients, ClientStats
from tradeproxy.downstream.direct_write import DirectWriter, find_writer, write_direct
from tradeproxy.downstream.handshake_limits import FRAMES_PER_TURN, AuthDeadlines, HandshakeThrottle
from tradeproxy.downstream.send_group import SendGroup, SendGroups
from tradeproxy.downstream.session import (
    TOKEN_REFUSED,
    ClientEffect,
    ClientSession,
    ClientState,
    CloseWith,
    SendReply,
    SetEvents,
    SetStatus,
)
from tradeproxy.downstream.subscription import SharedEncoders, Subscription
from tradeproxy.hub.account import Account
from tradeproxy.query.stream import SubscribeOptions
from tradeproxy.runtime.websocket_limits import (
    AutoPingMixin,
    CloseTimeoutMixin,
    FragmentLimitMixin,
    FrameBudgetMixin,
)
from tradeproxy.wire.close_codes import CloseCode
from tradeproxy.wire.messages import Sendable

CLOSE_TIMEOUT = 5.0
"""Seconds for a client to answer a close frame."""

SLOW_CLOSE_TIMEOUT = 30.0
"""Seconds for a slow client. It must first read the megabytes that the kernel buffered before the
close frame."""

PIECE_BYTES = 48
"""Memory of one piece of a message, besides its bytes. A client may send a few bytes at a time."""

TOO_LARGE = "a message over the limit of its bytes or fragments"
"""The reason that is counted for a client that Autobahn closes with 1009."""


@dataclass(frozen=True, slots=True)
class ConnectionContext:
    """The objects that all connections share."""

    clock: IReactorTime
    clients: Clients
    encoders: SharedEncoders
    encode_reply: Callable[[Sendable], bytes]
    """Returns the frame of a reply, from a cache."""
    send_groups: SendGroups
    throttle: HandshakeThrottle
    frame_throttle: HandshakeThrottle
    wrong_tokens: WrongTokens
    auth_deadlines: AuthDeadlines
    pong_timeout: float
    """Seconds after which a client that does not answer a ping is dropped."""


class DownstreamProtocol(  # type: ignore[misc]  # Autobahn's bases disagree
    AutoPingMixin,
    CloseTimeoutMixin,
    FrameBudgetMixin,
    FragmentLimitMixin,
    WebSocketServerProtocol,
):
    """One client: runs its session and its subscription over one connection."""

    # Autobahn's warnings quote what a client sent, which may include a secret. Ours do not.
    log = txaio.make_logger(level="error")  # type: ignore[attr-defined]  # made at run time
    frames_per_turn = FRAMES_PER_TURN
    _log = Logger()

    close_timeout = CLOSE_TIMEOUT
    peer = ""  # for Autobahn's debug lines; ours have the address of the ClientInfo
    send_group: SendGroup | None = None
    _reads = True
    _is_authenticated = False
    end_reason = ""  # why the proxy ends the connection, for the log
    _unanswered_ping: bytes | None = None

    def __init__(
        self,
        context: ConnectionContext,
        account: Account,
        session: ClientSession,
        options: SubscribeOptions,
        info: ClientInfo,
        grant: Grant,
        book: Book | None = None,
    ) -> None:
        """Create a connection; the factory must set `factory` before the handshake.

        The session is in its first state. The options are from the query. The grant has the tokens
        by which the client is accepted, and the book is for a snapshot.
        """
        autobahn_slim.init_connection(self)
        self._context = context
        self.clock = context.clock
        self.account = account
        self._session = session
        self._info = info
        self.grant = grant
        self.subscriber = Subscription(
            account,
            options,
            self,
            context.encoders,
            book,
            info.host,
        )

    def dataReceived(self, data: bytes) -> None:
        """Read from the client through a throttle.

        One read may hold 8 frames, and over TLS it arrives in up to 70 pieces, each of which may be
        one. Thousands of clients may send them in one turn.
        """
        if self._session.state is ClientState.AWAITING_AUTH:
            self._context.clients.sockets.receive(self.transport, len(data))
        self._throttle.submit(self.transport, self._receive, data)

    @property
    def _throttle(self) -> HandshakeThrottle:
        """That of handshakes before authentication, and for what waits there; then another one.

        So a storm of handshakes does not delay the frames of connected clients.
        """
        context = self._context
        is_anonymous = self._session.state is ClientState.AWAITING_AUTH
        if is_anonymous or self.transport in context.throttle:
            return context.throttle
        return context.frame_throttle

    def _receive(self, data: bytes) -> None:
        super().dataReceived(data)
        if self._is_authenticated:
            self._context.clients.sockets.hold(self.transport, self._measure_message())
        if not self._reads:  # the throttle has resumed the transport
            self.transport.pauseProducing()

    def _measure_message(self) -> int:
        """Return about how much memory an unfinished message takes (bytes); 0 without one."""
        if not self.inside_message:
            return 0
        pieces = len(self.frame_data or ()) + len(self.message_data or ())
        size: int = self.message_data_total_length + PIECE_BYTES * pieces
        return size

    # Called by Autobahn.

    def on_frames_left(self) -> None:
        """Let the throttle have the other frames wait.

        A read of MAX_READ bytes may hold 340 frames. Ten clients that send nothing else would delay
        the others by seconds.
        """
        self._throttle.defer(self.transport, self._receive)

    def onConnect(self, request: ConnectionRequest) -> str | None:
        """Choose the subprotocol. Only an Autobahn that is not slimmed calls this."""
        return next(iter(request.protocols), None)  # take_over left at most one

    def onOpen(self) -> None:
        """Register the client; the subscription sends events once the session starts them."""
        self._run_step(self._begin)

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        """Pass the message to the session, and apply its effects."""
        was_unauthenticated = self._session.state is ClientState.AWAITING_AUTH
        if was_unauthenticated and self._context.clients.is_full:
            # Other clients have authenticated since this one's handshake. The session, once closed,
            # ignores the message.
            self.close(CloseCode.FULL)
        self._run_step(self._session.received, payload)
        if was_unauthenticated and self._session.state is not ClientState.AWAITING_AUTH:
            self._context.auth_deadlines.discard(self.auth_timed_out)
            autobahn_slim.release_leftovers(self)

    def onPing(self, payload: bytes) -> None:
        """Send a pong, or save the ping while reading is paused.

        After several pings a pong for the last one is enough (RFC 6455, 5.5.3). So only one ping
        is in memory, however many a client sends.
        """
        if self._reads:
            self.sendPong(payload)
        else:
            self._unanswered_ping = payload

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        """Unregister the client. Autobahn also calls this for a connection that never opened."""
        if self.send_group is not None:
            self.send_group.remove(self)
        self.account.broadcaster.unregister(self.subscriber)
        self._context.auth_deadlines.discard(self.auth_timed_out)
        self.subscriber.release()
        self._context.clients.sockets.discard(self.transport)
        self._context.throttle.discard(self.transport)
        self._context.frame_throttle.discard(self.transport)
        self._context.clients.log.left(
            self._info,
            self.subscriber.feed.passed if self._is_authenticated else None,
            self.end_reason or self._describe_end(LOST),
            filtered=self.subscriber.is_filtered,
        )
        self._context.clients.discard(self)
        # Autobahn has fired it with this connection as the result, which is a reference cycle.
        self.is_closed.addCallback(lambda _: None)

    def on_message_too_large(self) -> None:
        """Count a client whose message has too many bytes or fragments."""
        self._record_drop(TOO_LARGE)

    def onAutoPingTimeout(self) -> None:
        """Drop a client that does not answer pings."""
        self._record_drop(f"no pong for {self._context.pong_timeout:g} s")
        super().onAutoPingTimeout()

    # Called by the subscription.

    def write(self, frames: bytes) -> None:
        """Send whole frames, and offer the client to a send group if its socket took them all.

        Autobahn may have sent a close frame. Nothing may follow it, so then the feed ends.
        """
        if self.state != self.STATE_OPEN:
            self.subscriber.feed.stopProducing()
        elif (
            self._write_out(frames) and self.subscriber.feed.encoder is self._context.encoders.plain
        ):
            self._context.send_groups.offer(self)

    def pause_reading(self) -> None:
        """Stop reading from a slow client: the replies would only queue behind its events."""
        self._reads = False
        self.transport.pauseProducing()

    def resume_reading(self) -> None:
        """Read from the client again, and answer its last ping."""
        if not self._reads:
            self._reads = True
            self.transport.resumeProducing()
            ping, self._unanswered_ping = self._unanswered_ping, None
            if ping is not None:
                self.sendPong(ping)

    # Called by the send group, and the way out of it.

    def find_writer(self) -> DirectWriter | None:
        """Return how to write directly, if all events have been written and sent.

        None for a client that does not get every event, too.
        """
        feed = self.subscriber.feed
        is_caught_up = (
            feed.is_caught_up
            and feed.encoder is self._context.encoders.plain
            and self.state == self.STATE_OPEN
        )
        return find_writer(self) if is_caught_up else None

    def take_position(self, position: int) -> None:
        """Take the number of the last event that the group has sent; the log counts up to it."""
        self.subscriber.feed.position = position

    def resume_feed(self) -> None:
        """Continue with the feed, from the next batch on."""
        self.account.broadcaster.register(self.subscriber)

    def fall_behind(self, rest: bytes, position: int) -> None:
        """Write `rest` of the event at `position`, and continue with what the log has after it.

        The log may have a batch that the running fan-out has not delivered to the group yet. A
        subscriber that registers now is not part of that fan-out, so the feed reads such a batch
        from the log. Without one it goes live at once.
        """
        self.resume_feed()
        if rest:
            self.transport.write(rest)
        self.take_position(position)
        self.subscriber.feed.start(position)

    def leave_group(self) -> None:
        """Leave the send group, if the client is in one, and continue with its own feed."""
        group = self.send_group
        if group is not None:
            group.remove(self)
            self.fall_behind(b"", group.position)

    # Output: events, replies, and Autobahn's own frames.

    def sendData(self, data: bytes, sync: bool = False, chopsize: int | None = None) -> None:
        """Send for Autobahn: directly, unless it asks for `sync` or for pieces of `chopsize`."""
        if sync or chopsize:
            self.leave_group()
            super().sendData(data, sync, chopsize)
        else:
            self._write_out(data)

    def sendCloseFrame(
        self, code: int | None = None, reasonUtf8: bytes | None = None, isReply: bool = False
    ) -> None:
        """Send a close frame. The client leaves its group first: no event may follow the frame."""
        self.leave_group()
        super().sendCloseFrame(code, reasonUtf8, isReply)

    def _write_out(self, data: bytes) -> bool:
        """Write directly if possible, and return whether the socket took all of `data`."""
        is_complete = write_direct(self, data, super().sendData)
        if not is_complete:
            self.leave_group()
        return is_complete

    # Called by the service, the subscription and the auth deadlines.

    def close(self, code: CloseCode, reason: str = "") -> None:
        """Send a close frame with `code`, unless the session is closed already.

        `reason` is the text of the frame, at most 123 bytes in UTF-8 (RFC 6455, 5.5). If it is
        empty, the code's own reason is used.
        """
        self._run_step(self._session.close, code, reason)

    def abort(self) -> None:
        """Drop the connection without a close frame."""
        self.end_reason = self.end_reason or self._describe_end(DROPPED)
        super().abort()

    def auth_timed_out(self) -> None:
        """Close the client: it did not authenticate in time."""
        self._run_step(self._session.auth_timed_out)

    def stats(self) -> ClientStats | None:
        """Return the client's state; None before its auth message is accepted.

        In a send group the group's position counts.
        """
        if not self._is_authenticated:
            return None
        feed, group = self.subscriber.feed, self.send_group
        position = feed.position if group is None else group.position
        lag = 0 if feed.is_idle else self.account.lag(position)
        is_closing = self._session.state is ClientState.CLOSED
        is_slow = feed.is_paused and not is_closing
        return ClientStats(is_slow, lag, self.account.name, self._info, is_closing)

    # Private.

    def _begin(self) -> tuple[ClientEffect, ...]:
        context = self._context
        self.unregisterProducer()  # twisted.web's channel is still the transport's producer
        self.registerProducer(self.subscriber.feed, True)
        context.auth_deadlines.add(self.auth_timed_out)
        context.clients.add(self)
        self.account.broadcaster.register(self.subscriber)
        return ()

    def _run_step(self, step: Callable[..., tuple[ClientEffect, ...]], *arguments: Any) -> None:
        """Run one step of the session, and apply its effects.

        This is the only guard between the proxy and Autobahn. Autobahn would swallow an error and
        leave the client connected without a stream.
        """
        self.leave_group()
        try:
            effects = step(*arguments)
            if not self._is_authenticated and self._session.state is ClientState.AUTHENTICATED:
                self._is_authenticated = True
                self._context.clients.add(self)
                self._context.clients.sockets.log_in(self.transport)
                self._context.clients.log.connected(self._info)
            is_refused = TOKEN_REFUSED in effects
            if is_refused and (delay := self._context.wrong_tokens.record(self._info.host)):
                self.clock.callLater(delay, self._run_step, self._apply_late, effects)
            else:
                self._apply(effects)
        except Exception:
            self._log.failure(
                "{account}: a client's session failed; the connection is aborted",
                account=self.account.name,
            )
            self.abort()

    def _describe_end(self, otherwise: str) -> str:
        """Return who closed, and with which code, without the text of a client's close frame."""
        if self.closedByMe:
            return f"closed with {self.localCloseCode}"
        code = self.remoteCloseCode
        return otherwise if code is None else f"the client closed with {code}"

    def _record_drop(self, reason: str) -> None:
        self.end_reason = reason
        self._context.clients.rejections.record(self._info.label, reason)

    def _apply_late(self, effects: tuple[ClientEffect, ...]) -> tuple[ClientEffect, ...]:
        if self.state == self.STATE_OPEN:
            self._apply(effects)
        return ()

    def _apply(self, effects: tuple[ClientEffect, ...]) -> None:
        for effect in effects:
            match effect:
                case SendReply(message):
                    self.write(self._context.encode_reply(message))
                case SetStatus(on):
                    self.subscriber.set_status(on)
                case SetEvents(on):
                    self.subscriber.set_events(on)
                case CloseWith(code, reason):
                    self._send_close(code, reason)

    def _send_close(self, code: CloseCode, reason: str) -> None:
        # A stop closes every client. That is no rejection.
        if code is not CloseCode.RESTARTING:
            self._record_drop(code.reason)
        self.end_reason = f"closed with {code.code}: {code.reason}"
        if not self._reads:
            self.close_timeout = SLOW_CLOSE_TIMEOUT
        # No event may follow the close frame (RFC 6455, 5.5.1).
        self.account.broadcaster.unregister(self.subscriber)
        self.subscriber.feed.stopProducing()
        # Autobahn's sendClose rejects 1012, which is newer than RFC 6455.
        self.sendCloseFrame(code.code, reason.encode(), isReply=False)
        self.resume_reading()  # the client's close frame must be read
