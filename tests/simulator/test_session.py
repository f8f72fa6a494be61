"""Tests of the session with one client."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twisted.trial.unittest import SynchronousTestCase

from tradeproxy.simulator.session import (
    NO_REPLY,
    CodedError,
    Reply,
    SessionState,
    StreamSession,
    encode_reply,
)
from tradeproxy.wire.credentials import KeyPair, OAuthToken, Secret
from tradeproxy.wire.messages import (
    NOT_JSON,
    Authenticate,
    Authorization,
    Dialect,
    Listen,
    Listening,
    ServerError,
    UnknownRequest,
    Unlisten,
)

if TYPE_CHECKING:
    from tradeproxy.simulator.session import LoginResult
    from tradeproxy.wire.credentials import Credentials
    from tradeproxy.wire.messages import ClientMessage

GOOD = KeyPair(Secret("good"), Secret("s"))
LOGIN = Authenticate(GOOD, Dialect.AUTH)
OAUTH = Authenticate(OAuthToken(Secret("t")), Dialect.AUTHENTICATE)
BAD_LOGIN = Authenticate(KeyPair(Secret("bad"), Secret("s")), Dialect.AUTHENTICATE)
TOO_MANY = Authenticate(KeyPair(Secret("many"), Secret("s")), Dialect.AUTH)
EVENTS, NONE, OTHERS = Listen(("x", "trade_updates")), Listen(()), Listen(("x",))

GRANTED = Reply(Authorization(True))
REFUSED = Reply(Authorization(False, message="no"), close=True)
OVER_LIMIT = Reply(CodedError(406, "limit"), close=True)
FIRST_LOG_IN = Reply(Authorization(False, "listen"))
ON, OFF = Reply(Listening(("trade_updates",))), Reply(Listening(()))
FAILED = Reply(ServerError("internal server error"), close=True)

S, R, L, E = (
    SessionState.AWAITING_AUTH,
    SessionState.READY,
    SessionState.LISTENING,
    SessionState.CLOSED,
)

TABLE: tuple[tuple[SessionState, ClientMessage, Reply, SessionState], ...] = (
    (S, LOGIN, GRANTED, R),
    (S, OAUTH, GRANTED, R),
    (S, BAD_LOGIN, REFUSED, E),
    (S, TOO_MANY, OVER_LIMIT, E),
    (S, EVENTS, FIRST_LOG_IN, S),
    (S, Unlisten(()), FIRST_LOG_IN, S),
    (S, UnknownRequest(), NO_REPLY, S),
    (S, NOT_JSON, FAILED, E),
    (R, LOGIN, GRANTED, R),
    (R, BAD_LOGIN, REFUSED, E),
    (R, TOO_MANY, OVER_LIMIT, E),
    (R, EVENTS, ON, L),
    (R, OTHERS, OFF, R),
    (R, NONE, OFF, R),
    (R, Unlisten(()), OFF, R),
    (R, UnknownRequest(), NO_REPLY, R),
    (R, NOT_JSON, FAILED, E),
    (L, LOGIN, GRANTED, L),
    (L, BAD_LOGIN, REFUSED, E),
    (L, EVENTS, ON, L),
    (L, NONE, OFF, R),
    (L, Unlisten(("x",)), ON, L),
    (L, Unlisten(("trade_updates",)), OFF, R),
    (L, UnknownRequest(), NO_REPLY, L),
    (L, NOT_JSON, FAILED, E),
    (E, LOGIN, NO_REPLY, E),
    (E, EVENTS, NO_REPLY, E),
    (E, NOT_JSON, NO_REPLY, E),
)


def authorize(credentials: Credentials) -> LoginResult:
    """Accept two of the credentials; for another the account has too many connections."""
    if credentials == TOO_MANY.credentials:
        return CodedError(406, "limit")
    good = credentials in (GOOD, OAUTH.credentials)
    return Authorization(good, message="" if good else "no")


class SessionTableTests(SynchronousTestCase):
    """The session as a table."""

    def test_follows_the_table(self) -> None:
        """Each message in each state has its reply and next state."""
        for state, message, reply, following in TABLE:
            conversation = StreamSession(authorize)
            conversation.state = state
            self.assertEqual(conversation.receive(message), reply, (state, message))
            self.assertEqual(conversation.state, following, (state, message))

    def test_coded_error_is_an_array(self) -> None:
        """It has the format of Alpaca's market data; other replies have that of trading."""
        for message, frame in (
            (CodedError(406, "limit"), b'[{"T":"error","code":406,"msg":"limit"}]'),
            (ServerError("limit"), b'{"action":"error","data":{"error_message":"limit"}}'),
        ):
            self.assertEqual(encode_reply(message), frame)
