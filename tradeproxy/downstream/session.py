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


class ProtocolMode(Enum):
    """Whose server the client believes to talk to: it decides when events flow, and one reply."""

    ORIGINAL = auto()
    """The original proxy: after any auth message every event follows, with or without `listen`."""
    ALPACA = auto()
    """Alpaca itself: events follow `listen`, and only it."""


class ClientState(Enum):
    """Where the conversation stands."""

    AWAITING_AUTH = auto()
    AUTHENTICATED = auto()
    CLOSED = auto()


@dataclass(frozen=True, slots=True)
class SendReply:
    """Send this message."""

    message: Sendable


@dataclass(frozen=True, slots=True)
class SetStatus:
    """Begin, or end, to send the `proxy_status` stream."""

    on: bool


@dataclass(frozen=True, slots=True)
class SetEvents:
    """Begin, or end, to send events."""

    on: bool


@dataclass(frozen=True, slots=True)
class CloseWith:
    """Send a close frame, and nothing after it."""

    code: CloseCode
    reason: str


ClientEffect: TypeAlias = SendReply | SetStatus | SetEvents | CloseWith

STREAMS = (TRADE_UPDATES, PROXY_STATUS)
"""The streams that can be had here; others are left out of every ack, as Alpaca does."""


class ClientSession:
    """One client's conversation.

    `admits` judges the credentials of an auth message. With `status` the client has asked for the status
    before it said anything, and has it from its auth message on.
    """

    __slots__ = ("_admits", "_listening", "_mode", "_status", "state")

    def __init__(
        self, manner: ProtocolMode, admits: Callable[[Credentials], bool], *, status: bool = False
    ) -> None:
        self._mode = manner
        self._admits = admits
        self._status = status
        self._listening: tuple[str, ...] = ()
        self.state = ClientState.AWAITING_AUTH

    def received(self, payload: bytes) -> tuple[ClientEffect, ...]:
        """Take one message, text or binary."""
        had_status, had_events = self._flows()
        replies = self._react(parse_client(payload))
        if self.state is ClientState.CLOSED:
            return replies
        status, events = self._flows()
        if status != had_status:
            replies += (SetStatus(status),)
        if events != had_events:
            replies += (SetEvents(events),)
        return replies

    def auth_timed_out(self) -> tuple[ClientEffect, ...]:
        """Give up on a client that has had its time to authenticate; nothing happens if it did."""
        return self._close(CloseCode.NO_AUTH) if self.state is ClientState.AWAITING_AUTH else ()

    def close(self, code: CloseCode, reason: str = "") -> tuple[ClientEffect, ...]:
        """End the conversation for a reason of ours, by default the code's own."""
        return () if self.state is ClientState.CLOSED else self._close(code, reason)

    def _flows(self) -> tuple[bool, bool]:
        """Return whether the client is to be sent the status, and events, as things stand."""
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
                return (
                    SendReply(Authorization(authorized=False)),
                    *self._close(CloseCode.TOKEN_REFUSED),
                )
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
