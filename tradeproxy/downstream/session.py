"""One client's session, in every dialect of Alpaca's clients. No I/O: values in, effects out.

state          input                     effects                           next state
-------------  ------------------------  --------------------------------  -------------
awaiting auth  auth, accepted            authorized; ORIGINAL: + events    authenticated
awaiting auth  listen, unlisten          ORIGINAL: ack; ALPACA: an error   awaiting auth
awaiting auth  auth deadline             close 4002                        closed
authenticated  auth, accepted            authorized                        authenticated
authenticated  listen, unlisten          ack; events and status on or off  authenticated
not closed     auth, rejected            unauthorized, close 4001          closed
not closed     not JSON                  close 4000                        closed
not closed     other JSON                none                              unchanged
not closed     `close(code)`             close with this code              closed
closed         anything                  none                              closed

With `status` the `proxy_status` stream also starts at the first accepted auth message.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import TypeAlias

from tradeproxy.wire.close_codes import CloseCode
from tradeproxy.wire.credentials import Credentials
from tradeproxy.wire.messages import (
    TRADE_UPDATES,
    Authenticate,
    Authenticated,
    Authorization,
    ClientMessage,
    Dialect,
    Listen,
    Listening,
    Malformed,
    Sendable,
    Unlisten,
    parse_client,
)
from tradeproxy.wire.proxy_status import PROXY_STATUS


class ProtocolMode(Enum):
    """The server that a path imitates. It decides when events start, and the form of one reply."""

    ORIGINAL = auto()
    """The original proxy: events follow any accepted auth message, with or without `listen`."""
    ALPACA = auto()
    """Alpaca: events follow `listen` only."""


class ClientState(Enum):
    """The state of a session."""

    AWAITING_AUTH = auto()
    AUTHENTICATED = auto()
    CLOSED = auto()


@dataclass(frozen=True, slots=True)
class SendReply:
    """Send this message."""

    message: Sendable


@dataclass(frozen=True, slots=True)
class SetStatus:
    """Start or stop the `proxy_status` stream."""

    on: bool


@dataclass(frozen=True, slots=True)
class SetEvents:
    """Start or stop sending events."""

    on: bool


@dataclass(frozen=True, slots=True)
class CloseWith:
    """Send a close frame, and nothing after it."""

    code: CloseCode
    reason: str


TOKEN_REFUSED = CloseWith(CloseCode.TOKEN_REFUSED, CloseCode.TOKEN_REFUSED.reason)
"""The last effect of a wrong token."""

ClientEffect: TypeAlias = SendReply | SetStatus | SetEvents | CloseWith

STREAMS = (TRADE_UPDATES, PROXY_STATUS)
"""The available streams. An ack leaves out all others, as Alpaca's does."""


class ClientSession:
    """One client's session."""

    __slots__ = ("_admits", "_listening", "_mode", "_status", "state")

    def __init__(
        self, mode: ProtocolMode, admits: Callable[[Credentials], bool], *, status: bool = False
    ) -> None:
        """Create a session that awaits an auth message.

        Args:
            mode: the server that the client's path imitates.
            admits: returns whether the credentials of an auth message are accepted.
            status: whether the query asked for `proxy_status`. Then the stream starts with the
                accepted auth message, and `listen` cannot stop it.
        """
        self._mode = mode
        self._admits = admits
        self._status = status
        self._listening: tuple[str, ...] = ()
        self.state = ClientState.AWAITING_AUTH

    def received(self, payload: bytes) -> tuple[ClientEffect, ...]:
        """Handle one message, text or binary, and return the effects in order."""
        had_status, had_events = self._wanted()
        effects = self._react(parse_client(payload))
        if self.state is ClientState.CLOSED:
            return effects
        status, events = self._wanted()
        if status != had_status:
            effects += (SetStatus(status),)
        if events != had_events:
            effects += (SetEvents(events),)
        return effects

    def auth_timed_out(self) -> tuple[ClientEffect, ...]:
        """Close a client that did not authenticate in time. In any other state, do nothing."""
        return self._close(CloseCode.NO_AUTH) if self.state is ClientState.AWAITING_AUTH else ()

    def close(self, code: CloseCode, reason: str = "") -> tuple[ClientEffect, ...]:
        """Close the session with `code`. The default reason is the code's own."""
        return () if self.state is ClientState.CLOSED else self._close(code, reason)

    def _wanted(self) -> tuple[bool, bool]:
        """Return whether the client gets the status, and whether it gets events."""
        if self.state is not ClientState.AUTHENTICATED:
            return False, False
        status = self._status or PROXY_STATUS in self._listening
        events = self._mode is ProtocolMode.ORIGINAL or TRADE_UPDATES in self._listening
        return status, events

    def _react(self, message: ClientMessage) -> tuple[ClientEffect, ...]:
        match self.state, message:
            case ClientState.CLOSED, _:
                return ()
            case _, Malformed():
                return self._close(CloseCode.MALFORMED)
            case _, Authenticate(credentials) if not self._admits(credentials):
                self.state = ClientState.CLOSED
                return (SendReply(Authorization(authorized=False)), TOKEN_REFUSED)
            case _, Authenticate(_, dialect):
                self.state = ClientState.AUTHENTICATED
                array = self._mode is ProtocolMode.ORIGINAL and dialect is Dialect.AUTH
                return (SendReply(Authenticated() if array else Authorization(authorized=True)),)
            case ClientState.AWAITING_AUTH, Listen() | Unlisten() if (
                self._mode is ProtocolMode.ALPACA
            ):
                return (SendReply(Authorization(authorized=False, action="listen")),)
            case _, Listen(streams):
                return self._acknowledge(tuple(name for name in STREAMS if name in streams))
            case _, Unlisten(streams):
                return self._acknowledge(
                    tuple(name for name in self._listening if name not in streams)
                )
        return ()

    def _acknowledge(self, streams: tuple[str, ...]) -> tuple[ClientEffect, ...]:
        self._listening = streams
        return (SendReply(Listening(streams)),)

    def _close(self, code: CloseCode, reason: str = "") -> tuple[ClientEffect, ...]:
        self.state = ClientState.CLOSED
        return (CloseWith(code, reason or code.reason),)
