"""The conversation with Alpaca: connect, authenticate, listen, stream; values in, effects out."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING, TypeAlias

from tradeproxy.upstream.backoff import Cause, Ending
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


class StreamWatcher:
    """Is told where a stream stands, over all of its connections; this one makes nothing of it."""

    def stream_opens(self) -> None:
        """Take note that a connection is there: events may come from now on."""

    def stream_is_up(self) -> None:
        """Take note that every event comes from now on; the account has been told before."""

    def stream_is_lost(self) -> None:
        """Take note that the connection, or the attempt at one, is over; the account is told afterwards."""

    def stop(self) -> None:
        """End whatever is under way: there will be no further connection."""


class State(Enum):
    """Where the conversation stands."""

    CONNECTING = auto()
    AUTHENTICATING = auto()
    SUBSCRIBING = auto()
    STREAMING = auto()
    LEAVING = auto()


@dataclass(frozen=True, slots=True)
class Send:
    """Send this message."""

    message: Sendable


@dataclass(frozen=True, slots=True)
class Publish:
    """Hand this event on."""

    event: Event


@dataclass(frozen=True, slots=True)
class Drop:
    """Count a frame that is of no use."""

    problem: str


@dataclass(frozen=True, slots=True)
class Up:
    """The stream is up: every event from now on arrives."""


@dataclass(frozen=True, slots=True)
class Leave:
    """Close the connection; the session's `ending` says why."""


Effect: TypeAlias = Send | Publish | Drop | Up | Leave


class UpstreamSession:
    """One conversation, from the open socket to its end.

    A trade update is published whenever it comes, during the handshake too. `ending` is set as soon as the
    session knows why it is over, which is before the connection is.
    """

    def __init__(self, credentials: Credentials, dialect: Dialect, key_variable: str) -> None:
        self._credentials = credentials
        self._dialect = dialect
        self._key_variable = key_variable
        self.state = State.CONNECTING
        self.ending: Ending | None = None

    def opened(self) -> tuple[Effect, ...]:
        """Begin: the WebSocket is open, and the client speaks first."""
        self.state = State.AUTHENTICATING
        return (Send(Authenticate(self._credentials, self._dialect)),)

    def received(self, payload: bytes) -> tuple[Effect, ...]:
        """Take one message, text or binary."""
        return self._react(parse_server(payload))

    def overdue(self) -> tuple[Effect, ...]:
        """Give up on a server that is connected but does not come to the point."""
        waiting_for = {State.AUTHENTICATING: "the login", State.SUBSCRIBING: "listen"}.get(self.state)
        return self._leave(Cause.LOST, f"no answer to {waiting_for} in time") if waiting_for else ()

    def _react(self, message: ServerMessage) -> tuple[Effect, ...]:
        match self.state, message:
            case _, TradeUpdate(event):
                return (Publish(event),)
            case State.LEAVING, _:
                return ()
            case State.AUTHENTICATING, Authorization(authorized=True):
                self.state = State.SUBSCRIBING
                return (Send(Listen((TRADE_UPDATES,))),)
            case _, Authorization(authorized=False, message=text) | ServerError(text) if _is_limit(text):
                return self._leave(
                    Cause.LIMITED, "connection limit: somebody else holds this account's stream"
                )
            case _, Authorization(authorized=False):
                return self._leave(Cause.REFUSED, f"login refused: {self._key_variable} is not accepted")
            case State.SUBSCRIBING, Listening(streams) if TRADE_UPDATES in streams:
                self.state = State.STREAMING
                return (Up(),)
            case State.SUBSCRIBING | State.STREAMING, Listening(streams) if TRADE_UPDATES not in streams:
                return self._leave(Cause.LOST, "Alpaca does not list trade_updates among our streams")
            case _, ServerError():
                return (Drop("an error frame"),)
            case _, Malformed(problem):
                return (Drop(problem),)
        return (Drop("a frame out of turn"),)

    def _leave(self, cause: Cause, reason: str) -> tuple[Effect, ...]:
        self.state = State.LEAVING
        self.ending = Ending(cause, reason)
        return (Leave(),)


def _is_limit(text: str) -> bool:
    # Alpaca's data streams word it "connection limit exceeded"; the trading stream's wording is unknown.
    return "connection limit" in text.lower() or "too many connections" in text.lower()
