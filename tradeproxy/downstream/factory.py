"""The clients' end of the wire: Autobahn's server factory, and how a request becomes a client."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from autobahn.twisted.websocket import WebSocketServerFactory

from tradeproxy.downstream import autobahn_slim, encoder
from tradeproxy.downstream.admission import Rejection
from tradeproxy.downstream.clients import ClientInfo, Clients, user_agent
from tradeproxy.downstream.connection import ConnectionContext, DownstreamProtocol
from tradeproxy.downstream.handshake import read_key
from tradeproxy.downstream.handshake_limits import AuthDeadlines, HandshakeThrottle
from tradeproxy.downstream.log_reader import LogReader
from tradeproxy.downstream.send_group import SendGroups
from tradeproxy.downstream.session import ClientSession, ProtocolMode
from tradeproxy.downstream.subscription import SharedEncoders
from tradeproxy.wire.messages import Sendable, encode

if TYPE_CHECKING:
    from collections.abc import Callable

    from twisted.internet.interfaces import IReactorTime
    from twisted.web.server import Request

    from tradeproxy.config.settings import Limits
    from tradeproxy.downstream.query import SubscribeOptions
    from tradeproxy.hub.account import Account
    from tradeproxy.wire.credentials import Credentials

PING_INTERVAL = 20
"""Seconds; keeps NATs and proxies from forgetting an idle connection, and finds clients that are gone."""

PONG_TIMEOUT = 180
"""Seconds, as alpaca-py has it: a bot that computes does not answer meanwhile, and with a slow reader the
ping itself waits behind some megabytes in the kernel's buffers. Neither shall lose its stream. Where
`stall_timeout` is longer, while which pongs are not even read, this is too."""

_DIALECTS = {ProtocolMode.ORIGINAL: "WebSocket", ProtocolMode.ALPACA: "WebSocket, as Alpaca's"}


class DownstreamFactory(WebSocketServerFactory):
    """Every client's factory: the limits, the clients themselves, and what is said to many of them."""

    noisy = False
    protocol: Any = DownstreamProtocol

    def __init__(self, limits: Limits, reactor: IReactorTime) -> None:
        super().__init__(server="tradeproxy", reactor=reactor)
        pong_timeout = max(PONG_TIMEOUT, limits.stall_timeout + 2 * PING_INTERVAL)
        self.setProtocolOptions(
            webStatus=False,
            # Host, Origin and the number of connections are decided on the HTTP request, before Autobahn.
            allowNullOrigin=False,
            maxMessagePayloadSize=limits.max_message,
            maxFramePayloadSize=limits.max_message,
            failByDrop=False,
            openHandshakeTimeout=0,  # it is over as soon as twisted.web has the request
            closeHandshakeTimeout=0,  # BoundedGoodbye has the time limit
            autoPingInterval=PING_INTERVAL,
            autoPingTimeout=pong_timeout,
            tcpNoDelay=True,
        )
        self._client = autobahn_slim.configure_class(self.protocol, self)
        self.limits = limits
        self.clients = Clients(limits.max_clients)
        self.throttle = HandshakeThrottle(reactor)
        plain = encoder.plain_encoder(self._message)
        self._context = ConnectionContext(
            clock=reactor,
            limits=limits,
            clients=self.clients,
            encoders=SharedEncoders(
                self._message, plain, encoder.cursor_encoder(self._message), LogReader()
            ),
            encode_reply=cache(self._answer),  # there are a dozen
            send_groups=SendGroups(plain, reactor),
            throttle=self.throttle,
            auth_deadlines=AuthDeadlines(limits.auth_timeout, reactor),
            pong_timeout=pong_timeout,
        )

    def upgrade(
        self,
        request: Request,
        account: Account,
        manner: ProtocolMode,
        wishes: SubscribeOptions,
        admits: Callable[[Credentials], bool],
    ) -> bytes | int | Rejection:
        """Turn `request`, which has been admitted, into a new client of `account`; for Resource.render."""
        key = read_key(request)
        if isinstance(key, Rejection):
            return key
        session = ClientSession(manner, admits, status=wishes.status)
        agent = user_agent(request.getHeader(b"user-agent"))
        visit = ClientInfo(agent, _DIALECTS[manner], self.reactor.seconds())
        client = self._client(self._context, account, session, wishes, visit)
        client.factory = self
        return autobahn_slim.take_over(request, client, key)

    def _answer(self, message: Sendable) -> bytes:
        return self._message(encode(message))

    def _message(self, payload: bytes) -> bytes:
        """Frame a text message; there is no compression here, so that it is the same for all clients."""
        message: bytes = self.prepareMessage(payload).payloadHybi
        return message
