"""The conversation with one client of the stream, exactly as Alpaca holds it; pure.

| state         | the client says | the reply                       | the next state           |
|---------------|-----------------|---------------------------------|--------------------------|
| not ENDED     | no JSON         | a server error, and the end     | ENDED                    |
| not ENDED     | a login         | authorized                      | READY, or as it was      |
| not ENDED     | a bad login     | unauthorized, and the end       | ENDED                    |
| AWAITING_AUTH | listen          | unauthorized, action `listen`   | AWAITING_AUTH            |
| the others    | listen          | the streams that exist of those | LISTENING, READY if none |
| the others    | unlisten        | the streams that remain         | LISTENING, READY if none |
| ENDED         | anything        | nothing                         | ENDED                    |

Whatever else a client says gets no reply.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING

from tradeproxy.wire.messages import (
    TRADE_UPDATES,
    Authenticate,
    Authorization,
    Listen,
    Listening,
    Malformed,
    ServerError,
    Unlisten,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from tradeproxy.wire.credentials import Credentials
    from tradeproxy.wire.messages import ClientMessage


class SessionState(Enum):
    """How far the conversation has come."""

    AWAITING_AUTH = auto()
    READY = auto()
    LISTENING = auto()
    ENDED = auto()


@dataclass(frozen=True, slots=True)
class Reply:
    """What to send, if anything, and whether to close afterwards."""

    message: Authorization | Listening | ServerError | None = None
    close: bool = False


NO_REPLY = Reply()


class StreamSession:
    """One client's conversation. `authorize` gives the verdict on a login; no credentials are kept."""

    def __init__(self, authorize: Callable[[Credentials], Authorization]) -> None:
        self._authorize = authorize
        self.state = SessionState.AWAITING_AUTH

    def receive(self, message: ClientMessage) -> Reply:
        """Take what the client said, and return the reply."""
        match self.state, message:
            case SessionState.ENDED, _:
                return NO_REPLY
            case _, Malformed():
                return self._refuse(ServerError("internal server error"))
            case _, Authenticate(credentials):
                return self._login(self._authorize(credentials))
            case SessionState.AWAITING_AUTH, Listen() | Unlisten():
                return Reply(Authorization(False, "listen"))
            case _, Listen(streams):
                return self._listen(TRADE_UPDATES in streams)
            case _, Unlisten(streams):
                return self._listen(
                    self.state is SessionState.LISTENING and TRADE_UPDATES not in streams
                )
        return NO_REPLY

    def close(self) -> None:
        """Take note that one of the two has closed: nothing more is said."""
        self.state = SessionState.ENDED

    def _login(self, verdict: Authorization) -> Reply:
        if not verdict.authorized:
            return self._refuse(verdict)
        if self.state is SessionState.AWAITING_AUTH:
            self.state = SessionState.READY
        return Reply(verdict)

    def _listen(self, wanted: bool) -> Reply:
        self.state = SessionState.LISTENING if wanted else SessionState.READY
        return Reply(Listening((TRADE_UPDATES,) if wanted else ()))

    def _refuse(self, message: Authorization | ServerError) -> Reply:
        self.close()
        return Reply(message, close=True)
