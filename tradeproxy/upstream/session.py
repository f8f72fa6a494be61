"""The conversation with Alpaca: connect, authenticate, listen, stream; values in, effects out."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING, TypeAlias

from tradeproxy.upstream.backoff import Disconnect, DisconnectCause
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

if TYPE_CHECKING:
    from tradeproxy.wire.credentials import Credentials
    from tradeproxy.wire.event import Event


class StreamListener:
    """Is told where a stream stands, over all of its connections; this one makes nothing of it."""

    def connection_opened(self) -> None:
        """Take note that a connection is there: events may come from now on."""

    def stream_up(self) -> None:
        """Take note that every event comes from now on; the account has been told before."""

    def connection_closed(self) -> None:
        """Take note that the connection, or the attempt at one, is over; the account is told afterwards."""

    def stop(self) -> None:
        """End whatever is under way: there will be no further connection."""


class UpstreamState(Enum):
    """Where the conversation stands."""

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
    """Hand this event on."""

    event: Event


@dataclass(frozen=True, slots=True)
class DropFrame:
    """Count a frame that is of no use."""

    problem: str


@dataclass(frozen=True, slots=True)
class StreamUp:
    """The stream is up: every event from now on arrives."""


@dataclass(frozen=True, slots=True)
class CloseConnection:
    """Close the connection; the session's `ending` says why."""


UpstreamEffect: TypeAlias = SendRequest | PublishEvent | DropFrame | StreamUp | CloseConnection


class UpstreamSession:
    """One conversation, from the open socket to its end.

    A trade update is published whenever it comes, during the handshake too. `ending` is set as soon as the
    session knows why it is over, which is before the connection is.
    """

    def __init__(self, credentials: Credentials, dialect: Dialect, key_variable: str) -> None:
        self._credentials = credentials
        self._dialect = dialect
        self._key_variable = key_variable
        self.state = UpstreamState.CONNECTING
        self.disconnect: Disconnect | None = None

    def opened(self) -> tuple[UpstreamEffect, ...]:
        """Begin: the WebSocket is open, and the client speaks first."""
        self.state = UpstreamState.AUTHENTICATING
        return (SendRequest(Authenticate(self._credentials, self._dialect)),)

    def received(self, payload: bytes) -> tuple[UpstreamEffect, ...]:
        """Take one message, text or binary."""
        return self._react(parse_server(payload))

    def login_timed_out(self) -> tuple[UpstreamEffect, ...]:
        """Give up on a server that is connected but does not come to the point."""
        waiting_for = {
            UpstreamState.AUTHENTICATING: "the login",
            UpstreamState.SUBSCRIBING: "listen",
        }.get(self.state)
        return (
            self._close(DisconnectCause.LOST, f"no answer to {waiting_for} in time")
            if waiting_for
            else ()
        )

    def _react(self, message: ServerMessage) -> tuple[UpstreamEffect, ...]:
        match self.state, message:
            case _, TradeUpdate(event):
                return (PublishEvent(event),)
            case UpstreamState.CLOSING, _:
                return ()
            case UpstreamState.AUTHENTICATING, Authorization(authorized=True):
                self.state = UpstreamState.SUBSCRIBING
                return (SendRequest(Listen((TRADE_UPDATES,))),)
            case _, Authorization(authorized=False, message=text) | ServerError(text) if _is_limit(
                text
            ):
                return self._close(
                    DisconnectCause.LIMITED,
                    "connection limit: somebody else holds this account's stream",
                )
            case _, Authorization(authorized=False):
                return self._close(
                    DisconnectCause.REFUSED, f"login refused: {self._key_variable} is not accepted"
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

    def _close(self, cause: DisconnectCause, reason: str) -> tuple[UpstreamEffect, ...]:
        self.state = UpstreamState.CLOSING
        self.disconnect = Disconnect(cause, reason)
        return (CloseConnection(),)


def _is_limit(text: str) -> bool:
    # Alpaca's data streams word it "connection limit exceeded"; the trading stream's wording is unknown.
    return "connection limit" in text.lower() or "too many connections" in text.lower()
