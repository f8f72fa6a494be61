"""The session with one client of the stream, with Alpaca's behaviour. Pure.

| state              | message          | reply                         | next state               |
|--------------------|------------------|-------------------------------|--------------------------|
| not CLOSED         | not JSON         | server error, close           | CLOSED                   |
| not CLOSED         | valid login      | authorized                    | READY if AWAITING_AUTH   |
| not CLOSED         | invalid login    | unauthorized, close           | CLOSED                   |
| not CLOSED         | login over limit | an error, close               | CLOSED                   |
| AWAITING_AUTH      | listen, unlisten | unauthorized, action `listen` | AWAITING_AUTH            |
| READY or LISTENING | listen           | the existing streams of those | LISTENING, READY if none |
| READY or LISTENING | unlisten         | the remaining streams         | LISTENING, READY if none |
| CLOSED             | any              | none                          | CLOSED                   |

Any other message gets no reply.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import TypeAlias

from tradeproxy.wire.credentials import Credentials
from tradeproxy.wire.messages import (
    TRADE_UPDATES,
    Authenticate,
    Authorization,
    ClientMessage,
    Listen,
    Listening,
    Malformed,
    ServerError,
    Unlisten,
    encode,
)


class SessionState(Enum):
    """The state of a session."""

    AWAITING_AUTH = auto()
    READY = auto()
    LISTENING = auto()
    CLOSED = auto()


@dataclass(frozen=True, slots=True)
class CodedError:
    """An error in the format of Alpaca's market data: an array with a code and a message."""

    code: int
    message: str


LoginResult: TypeAlias = Authorization | ServerError | CodedError
"""The answer to a login. Only an Authorization can accept it."""

ReplyMessage: TypeAlias = LoginResult | Listening


@dataclass(frozen=True, slots=True)
class Reply:
    """The message to send, or None, and whether to close after it."""

    message: ReplyMessage | None = None
    close: bool = False


NO_REPLY = Reply()


class StreamSession:
    """One client's session. `authorize` decides on a login. The session stores no credentials."""

    def __init__(self, authorize: Callable[[Credentials], LoginResult]) -> None:
        self._authorize = authorize
        self.state = SessionState.AWAITING_AUTH

    def receive(self, message: ClientMessage) -> Reply:
        """Process a message and return the reply."""
        match self.state, message:
            case SessionState.CLOSED, _:
                return NO_REPLY
            case _, Malformed():
                return self._reject(ServerError("internal server error"))
            case _, Authenticate(credentials):
                return self._login(self._authorize(credentials))
            case SessionState.AWAITING_AUTH, Listen() | Unlisten():
                return Reply(Authorization(False, "listen"))
            case _, Listen(streams):
                return self._listen(TRADE_UPDATES in streams)
            case _, Unlisten(streams):
                is_listening = self.state is SessionState.LISTENING
                return self._listen(is_listening and TRADE_UPDATES not in streams)
        return NO_REPLY

    def close(self) -> None:
        """Mark the session as closed: later messages get no reply."""
        self.state = SessionState.CLOSED

    def _login(self, result: LoginResult) -> Reply:
        if not (isinstance(result, Authorization) and result.authorized):
            return self._reject(result)
        if self.state is SessionState.AWAITING_AUTH:
            self.state = SessionState.READY
        return Reply(result)

    def _listen(self, is_listening: bool) -> Reply:
        self.state = SessionState.LISTENING if is_listening else SessionState.READY
        return Reply(Listening((TRADE_UPDATES,) if is_listening else ()))

    def _reject(self, message: LoginResult) -> Reply:
        self.close()
        return Reply(message, close=True)


def encode_reply(message: ReplyMessage) -> bytes:
    """Encode a reply as Alpaca does."""
    if isinstance(message, CodedError):
        frame = [{"T": "error", "code": message.code, "msg": message.message}]
        return json.dumps(frame, separators=(",", ":")).encode()
    return encode(message)
