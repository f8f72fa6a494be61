"""The conversation with one client, in every dialect that Alpaca's clients speak; values in, effects out."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING, TypeAlias

from tradeproxy.wire.close_codes import CloseCode
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

if TYPE_CHECKING:
    from collections.abc import Callable

    from tradeproxy.wire.credentials import Credentials


class Manner(Enum):
    """Whose server the client believes to talk to: it decides when events flow, and one reply."""

    ORIGINAL = auto()
    """The original proxy: after any auth message every event follows, with or without `listen`."""
    ALPACA = auto()
    """Alpaca itself: events follow `listen`, and only it."""


class State(Enum):
    """Where the conversation stands."""

    AWAITING_AUTH = auto()
    AUTHENTICATED = auto()
    CLOSED = auto()


@dataclass(frozen=True, slots=True)
class Send:
    """Send this message."""

    message: Sendable


@dataclass(frozen=True, slots=True)
class Status:
    """Begin, or end, to send the `proxy_status` stream."""

    on: bool


@dataclass(frozen=True, slots=True)
class Stream:
    """Begin, or end, to send events."""

    on: bool


@dataclass(frozen=True, slots=True)
class Close:
    """Send a close frame, and nothing after it."""

    code: CloseCode
    reason: str


Effect: TypeAlias = Send | Status | Stream | Close

STREAMS = (TRADE_UPDATES, PROXY_STATUS)
"""The streams that can be had here; others are left out of every ack, as Alpaca does."""


class ClientSession:
    """One client's conversation.

    `admits` judges the credentials of an auth message. With `status` the client has asked for the status
    before it said anything, and has it from its auth message on.
    """

    __slots__ = ("_admits", "_listening", "_manner", "_status", "state")

    def __init__(
        self, manner: Manner, admits: Callable[[Credentials], bool], *, status: bool = False
    ) -> None:
        self._manner = manner
        self._admits = admits
        self._status = status
        self._listening: tuple[str, ...] = ()
        self.state = State.AWAITING_AUTH

    def received(self, payload: bytes) -> tuple[Effect, ...]:
        """Take one message, text or binary."""
        had_status, had_events = self._flows()
        replies = self._react(parse_client(payload))
        if self.state is State.CLOSED:
            return replies
        status, events = self._flows()
        if status != had_status:
            replies += (Status(status),)
        if events != had_events:
            replies += (Stream(events),)
        return replies

    def overdue(self) -> tuple[Effect, ...]:
        """Give up on a client that has had its time to authenticate; nothing happens if it did."""
        return self._close(CloseCode.NO_AUTH) if self.state is State.AWAITING_AUTH else ()

    def end(self, code: CloseCode, reason: str = "") -> tuple[Effect, ...]:
        """End the conversation for a reason of ours, by default the code's own."""
        return () if self.state is State.CLOSED else self._close(code, reason)

    def _flows(self) -> tuple[bool, bool]:
        """Return whether the client is to be sent the status, and events, as things stand."""
        if self.state is not State.AUTHENTICATED:
            return False, False
        status = self._status or PROXY_STATUS in self._listening
        events = self._manner is Manner.ORIGINAL or TRADE_UPDATES in self._listening
        return status, events

    def _react(self, message: ClientMessage) -> tuple[Effect, ...]:
        match self.state, message:
            case State.CLOSED, _:
                return ()
            case _, Malformed():
                return self._close(CloseCode.MALFORMED)
            case _, Authenticate(credentials) if not self._admits(credentials):
                return (Send(Authorization(authorized=False)), *self._close(CloseCode.TOKEN_REFUSED))
            case _, Authenticate(_, dialect):
                self.state = State.AUTHENTICATED
                array = self._manner is Manner.ORIGINAL and dialect is Dialect.AUTH
                return (Send(Authenticated() if array else Authorization(authorized=True)),)
            case State.AWAITING_AUTH, Listen() | Unlisten() if self._manner is Manner.ALPACA:
                return (Send(Authorization(authorized=False, action="listen")),)
            case _, Listen(streams):
                return self._acknowledge(tuple(name for name in STREAMS if name in streams))
            case _, Unlisten(streams):
                return self._acknowledge(tuple(name for name in self._listening if name not in streams))
        return ()

    def _acknowledge(self, streams: tuple[str, ...]) -> tuple[Effect, ...]:
        self._listening = streams
        return (Send(Listening(streams)),)

    def _close(self, code: CloseCode, reason: str = "") -> tuple[Effect, ...]:
        self.state = State.CLOSED
        return (Close(code, reason or code.reason),)
