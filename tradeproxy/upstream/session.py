"""The protocol of one connection to Alpaca, without I/O: messages in, effects out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import TypeAlias

from tradeproxy.upstream.backoff import Disconnect, DisconnectCause
from tradeproxy.wire.credentials import Credentials, list_secrets
from tradeproxy.wire.event import Event
from tradeproxy.wire.messages import (
    TRADE_UPDATES,
    Authenticate,
    Authorization,
    Dialect,
    Listen,
    Listening,
    Malformed,
    Sendable,
    ServerError,
    ServerMessage,
    TradeUpdate,
    parse_server,
)
from tradeproxy.wire.quote import quote_text


class StreamListener:
    """Callbacks for one account's stream, across all of its connections. Here they do nothing."""

    reopen: Callable[[str], None] = staticmethod(lambda _: None)
    """Closes the stream for this reason and opens it again. Set by UpstreamService."""

    def connection_opened(self) -> None:
        """Handle an open WebSocket. Events can arrive from now on."""

    def stream_up(self) -> None:
        """Handle the start of the stream. Every event arrives from now on.

        The account's state was updated before this call.
        """

    def connection_closed(self) -> None:
        """Handle the end of a connection or of an attempt. The account is updated afterwards."""

    def stop(self) -> None:
        """Cancel all work: no connection follows."""


LIMIT = "connection limit: somebody else holds this account's stream"
"""The reason of a disconnect by that limit."""

_LIMIT_WORDINGS = ("connection limit", "too many connections", "another connection")
_KEY_WORDINGS = ("key", "credential", "auth failed", "authentication failed", "not authenticated")


class UpstreamState(Enum):
    """The states of UpstreamSession."""

    CONNECTING = auto()
    AUTHENTICATING = auto()
    SUBSCRIBING = auto()
    STREAMING = auto()
    CLOSING = auto()


@dataclass(frozen=True, slots=True)
class SendRequest:
    """Send this message."""

    message: Sendable


@dataclass(frozen=True, slots=True)
class PublishEvent:
    """Publish this event to the account."""

    event: Event


@dataclass(frozen=True, slots=True)
class DropFrame:
    """Count and ignore a frame. `problem` is a fixed phrase."""

    problem: str


@dataclass(frozen=True, slots=True)
class StreamUp:
    """The stream is up: every event arrives from now on."""


@dataclass(frozen=True, slots=True)
class CloseConnection:
    """Close the connection. The session's `disconnect` holds the cause."""


UpstreamEffect: TypeAlias = SendRequest | PublishEvent | DropFrame | StreamUp | CloseConnection


class UpstreamSession:
    """One session, from the open WebSocket to its close.

        state           input                          effect           next state
        --------------  -----------------------------  ---------------  --------------
        CONNECTING      WebSocket open                 send login       AUTHENTICATING
        any             trade update                   PublishEvent     (same)
        CLOSING         any other message              none             (same)
        AUTHENTICATING  authorized                     send listen      SUBSCRIBING
        any             error: connection limit, 406   CloseConnection  CLOSING
        any             unauthorized                   CloseConnection  CLOSING
        SUBSCRIBING     listening, with trade_updates  StreamUp         STREAMING
        SUBSCRIBING     listening, without it          CloseConnection  CLOSING
        STREAMING       listening, without it          CloseConnection  CLOSING
        any             any other message              DropFrame        (same)
        AUTHENTICATING  login timeout                  CloseConnection  CLOSING
        SUBSCRIBING     login timeout                  CloseConnection  CLOSING
        any             the proxy closes               none             CLOSING

    The first row that matches applies. A login timeout has no effect in other states.

    A trade update is published in every state: Alpaca may send one during the login and before the
    connection is closed. `disconnect` is set with CloseConnection and never changes afterwards. It
    stays None if Alpaca, the network or a stop closes the connection.
    """

    def __init__(self, credentials: Credentials, dialect: Dialect, key_variable: str) -> None:
        self._credentials = credentials
        self._dialect = dialect
        self._key_variable = key_variable
        self.state = UpstreamState.CONNECTING
        self.disconnect: Disconnect | None = None

    def opened(self) -> tuple[UpstreamEffect, ...]:
        """Handle the open WebSocket: the client sends the first message."""
        self.state = UpstreamState.AUTHENTICATING
        return (SendRequest(Authenticate(self._credentials, self._dialect)),)

    def received(self, payload: bytes) -> tuple[UpstreamEffect, ...]:
        """Handle one message, text or binary."""
        return self._react(parse_server(payload))

    def login_timed_out(self) -> tuple[UpstreamEffect, ...]:
        """Close if Alpaca has not yet answered the login or `listen`; otherwise do nothing."""
        waiting_for = {
            UpstreamState.AUTHENTICATING: "the login",
            UpstreamState.SUBSCRIBING: "listen",
        }.get(self.state)
        return (
            self._close(DisconnectCause.LOST, f"no answer to {waiting_for} in time")
            if waiting_for
            else ()
        )

    def close(self) -> None:
        """Handle that the connection is being closed: the next messages may have crossed that."""
        self.state = UpstreamState.CLOSING

    def _react(self, message: ServerMessage) -> tuple[UpstreamEffect, ...]:
        match self.state, message:
            case _, TradeUpdate(event):
                return (PublishEvent(event),)
            case UpstreamState.CLOSING, _:
                return ()
            case UpstreamState.AUTHENTICATING, Authorization(authorized=True):
                self.state = UpstreamState.SUBSCRIBING
                return (SendRequest(Listen((TRADE_UPDATES,))),)
            case _, _ if _is_limit(message):
                return self._close(DisconnectCause.LIMITED, LIMIT)
            case _, Authorization(authorized=False, message=text) if _is_about_key(text):
                return self._close(
                    DisconnectCause.REFUSED, f"login refused: {self._key_variable} is not accepted"
                )
            case _, Authorization(authorized=False, message=text):
                # Maybe another wording of the limit.
                return self._close(
                    DisconnectCause.LIMITED,
                    "login refused for an unknown reason",
                    quote_text(text, list_secrets(self._credentials)),
                )
            case UpstreamState.SUBSCRIBING, Listening(streams) if TRADE_UPDATES in streams:
                self.state = UpstreamState.STREAMING
                return (StreamUp(),)
            case UpstreamState.SUBSCRIBING | UpstreamState.STREAMING, Listening(streams) if (
                TRADE_UPDATES not in streams
            ):
                return self._close(
                    DisconnectCause.LOST, "Alpaca does not list trade_updates among our streams"
                )
            case _, ServerError():
                return (DropFrame("an error frame"),)
            case _, Malformed(problem):
                return (DropFrame(problem),)
        return (DropFrame("a frame out of turn"),)

    def _close(
        self, cause: DisconnectCause, reason: str, quote: str = ""
    ) -> tuple[UpstreamEffect, ...]:
        self.state = UpstreamState.CLOSING
        self.disconnect = Disconnect(cause, reason, quote=quote)
        return (CloseConnection(),)


def is_limit(text: str) -> bool:
    """Whether an error text of Alpaca's reports its limit of one connection per account.

    It is documented for Alpaca's data streams only ("connection limit exceeded"). Users of the
    trading stream report the other wordings.
    """
    return any(wording in text.lower() for wording in _LIMIT_WORDINGS)


def _is_limit(message: ServerMessage) -> bool:
    match message:
        case ServerError(code=406):
            return True
        case ServerError(text) | Authorization(authorized=False, message=text):
            return is_limit(text)
    return False


def _is_about_key(text: str) -> bool:
    return not text or any(wording in text.lower() for wording in _KEY_WORDINGS)
