"""One client's WebSocket: Autobahn's protocol, between the client's session and its subscription."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import txaio
from autobahn.twisted.websocket import WebSocketServerProtocol
from twisted.logger import Logger

from tradeproxy.downstream import autobahn_slim
from tradeproxy.downstream.clients import ClientInfo, ClientStats
from tradeproxy.downstream.send_group import is_drained, is_plain_tcp, write_direct
from tradeproxy.downstream.session import (
    ClientEffect,
    ClientSession,
    ClientState,
    CloseWith,
    SendReply,
    SetEvents,
    SetStatus,
)
from tradeproxy.downstream.subscription import Subscription
from tradeproxy.runtime.close_timeout import CloseTimeoutMixin
from tradeproxy.wire.close_codes import CloseCode

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.interfaces import IReactorTime

    from tradeproxy.config.settings import Limits
    from tradeproxy.downstream.clients import Clients
    from tradeproxy.downstream.handshake_limits import AuthDeadlines, HandshakeThrottle
    from tradeproxy.downstream.query import SubscribeOptions
    from tradeproxy.downstream.send_group import SendGroup, SendGroups
    from tradeproxy.downstream.subscription import SharedEncoders
    from tradeproxy.hub.account import Account
    from tradeproxy.wire.messages import Sendable

CLOSE_TIMEOUT = 5.0
"""Seconds for a client to answer a close frame."""

SLOW_CLOSE_TIMEOUT = 30.0
"""Seconds for one that was too slow: before the close frame it has to read the megabytes that the kernel
took for it."""


@dataclass(frozen=True, slots=True)
class ConnectionContext:
    """What all connections share."""

    clock: IReactorTime
    limits: Limits
    clients: Clients
    encoders: SharedEncoders
    encode_reply: Callable[[Sendable], bytes]
    """Returns the frame of a reply."""
    send_groups: SendGroups
    throttle: HandshakeThrottle
    auth_deadlines: AuthDeadlines
    pong_timeout: float
    """Seconds after which a client that does not answer a ping is dropped."""


class DownstreamProtocol(CloseTimeoutMixin, WebSocketServerProtocol):  # type: ignore[misc]  # Autobahn's bases disagree
    """One client: carries its session and its subscription over one connection."""

    # Autobahn's warnings quote what a client sent; ours say what matters of it.
    log = txaio.make_logger(level="error")  # type: ignore[attr-defined]  # made at run time
    _log = Logger()

    close_timeout = CLOSE_TIMEOUT
    send_group: SendGroup | None = None
    _reads = True
    _unanswered_ping: bytes | None = None

    def __init__(
        self,
        context: ConnectionContext,
        account: Account,
        session: ClientSession,
        wishes: SubscribeOptions,
        visit: ClientInfo,
    ) -> None:
        autobahn_slim.init_connection(self)
        self._context = context
        self.clock = context.clock
        self.account = account
        self._session = session
        self._info = visit
        self.subscriber = Subscription(
            account, wishes, self, context.encoders, self.clock, context.limits.stall_timeout
        )

    def dataReceived(self, data: bytes) -> None:
        """Take what the client sends; its first message when it is this client's turn."""
        if self._session.state is ClientState.AWAITING_AUTH:
            self._context.throttle.submit(self.transport, super().dataReceived, data)
        else:
            super().dataReceived(data)

    # What Autobahn calls.

    def onOpen(self) -> None:
        """Register with the account's broadcaster; events are passed on once the session wants them."""
        self._run_step(self._begin)

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        """Let the session answer."""
        was_unknown = self._session.state is ClientState.AWAITING_AUTH
        self._run_step(self._session.received, payload)
        if was_unknown and self._session.state is not ClientState.AWAITING_AUTH:
            self._context.auth_deadlines.discard(self)
            autobahn_slim.release_leftovers(self)

    def onPing(self, payload: bytes) -> None:
        """Answer, or remember it: of several pings the last one's answer is enough (RFC 6455, 5.5.3)."""
        if self._reads:
            self.sendPong(payload)
        else:
            self._unanswered_ping = payload

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        """Unregister; also called for a connection that never opened."""
        if self.send_group is not None:
            self.send_group.remove(self)
        self.account.broadcaster.unregister(self.subscriber)
        self._context.auth_deadlines.discard(self)
        self.subscriber.feed.stopProducing()
        self._context.clients.discard(self)

    def onAutoPingTimeout(self) -> None:
        """Drop a client that is gone."""
        self._context.clients.rejections.record(
            self.peer or "a client", f"no pong for {self._context.pong_timeout:g} s"
        )
        super().onAutoPingTimeout()

    # What the subscription calls.

    def write(self, frames: bytes) -> None:
        """Send whole frames, unless Autobahn has sent a close frame of its own, which nothing may follow."""
        if self.state != self.STATE_OPEN:
            self.subscriber.feed.stopProducing()
        elif (
            self._write_out(frames) and self.subscriber.feed.encoder is self._context.encoders.plain
        ):
            self._context.send_groups.offer(self)

    def pause_reading(self) -> None:
        """Take nothing from the client, whose answers would only pile up."""
        self._reads = False
        self.transport.pauseProducing()

    def resume_reading(self) -> None:
        """Take from the client again, and answer its last ping."""
        if not self._reads:
            self._reads = True
            self.transport.resumeProducing()
            ping, self._unanswered_ping = self._unanswered_ping, None
            if ping is not None:
                self.sendPong(ping)

    # What its crowd calls, and what makes it leave.

    @property
    def is_caught_up(self) -> bool:
        """Whether its socket has taken all that is in the log, and it is to be sent all that follows."""
        feed = self.subscriber.feed
        return (
            feed.is_caught_up
            and feed.encoder is self._context.encoders.plain
            and self.state == self.STATE_OPEN
            and is_plain_tcp(self.transport)
            and is_drained(self)
        )

    @property
    def send(self) -> Callable[[bytes], int]:
        """The socket's own."""
        send: Callable[[bytes], int] = self.transport.socket.send
        return send

    def resume_feed(self, position: int, rest: bytes) -> None:
        """Be served by its own feed."""
        self.subscriber.feed.position = position
        self.account.broadcaster.register(self.subscriber)
        if rest:
            self.transport.write(rest)

    def leave_group(self) -> None:
        """Be served by its own feed, which meets a burst that the crowd has not handed on yet in the log."""
        crowd = self.send_group
        if crowd is not None:
            crowd.remove(self)
            self.resume_feed(crowd.position, b"")
            if crowd.position < self.account.journal.last:
                self.subscriber.feed.start(crowd.position)

    # The way out, for the events and for whatever Autobahn has to say.

    def sendData(self, data: bytes, sync: bool = False, chopsize: int | None = None) -> None:
        """Send, as Autobahn does it: in one piece, unless it is told otherwise."""
        if sync or chopsize:
            self.leave_group()
            super().sendData(data, sync, chopsize)
        else:
            self._write_out(data)

    def sendCloseFrame(
        self, code: int | None = None, reasonUtf8: bytes | None = None, isReply: bool = False
    ) -> None:
        """Send one, which no event may follow."""
        self.leave_group()
        super().sendCloseFrame(code, reasonUtf8, isReply)

    def _write_out(self, data: bytes) -> bool:
        """Send by the shortest way that is open, and return whether the socket has taken all of it."""
        is_whole = write_direct(self, data, super().sendData)
        if not is_whole:
            self.leave_group()
        return is_whole

    # What all of these and the service call.

    def close(self, code: CloseCode, reason: str = "") -> None:
        """Send a close frame with `code`, unless one is already under way."""
        self._run_step(self._session.close, code, reason)

    def auth_timed_out(self) -> None:
        """Give up on a client that has not said in time who it is."""
        self._run_step(self._session.auth_timed_out)

    def stats(self) -> ClientStats:
        """Return how it stands, in its crowd if it is in one."""
        feed, crowd = self.subscriber.feed, self.send_group
        position = feed.position if crowd is None else crowd.position
        lag = 0 if feed.is_idle else max(self.account.journal.last - position, 0)
        return ClientStats(feed.is_paused, lag, self.account.name, self.peer or "", self._info)

    # Ours.

    def _begin(self) -> tuple[ClientEffect, ...]:
        context = self._context
        self.unregisterProducer()  # twisted.web's channel still holds the transport's one place
        self.registerProducer(self.subscriber.feed, True)
        context.auth_deadlines.add(self)
        context.clients.add(self)
        self.account.broadcaster.register(self.subscriber)
        return ()

    def _run_step(self, step: Callable[..., tuple[ClientEffect, ...]], *arguments: Any) -> None:
        """Take a step of the conversation, and do what it comes to.

        The one guard between us and Autobahn, which would leave the client connected and deaf.
        """
        self.leave_group()
        try:
            for effect in step(*arguments):
                self._apply(effect)
        except Exception:
            self._log.failure(
                "{account}: a client's conversation failed", account=self.account.name
            )
            self.abort()

    def _apply(self, effect: ClientEffect) -> None:
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
        if code is not CloseCode.RESTARTING:
            self._context.clients.rejections.record(self.peer or "a client", code.reason)
        if not self._reads:
            self.close_timeout = SLOW_CLOSE_TIMEOUT
        self.account.broadcaster.unregister(self.subscriber)
        self.subscriber.feed.stopProducing()
        # sendClose knows no 1012.
        self.sendCloseFrame(code.code, reason.encode(), isReply=False)
        self.resume_reading()  # its close frame must be read
