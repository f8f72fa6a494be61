"""Tests for tradeproxy.downstream.session."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from twisted.trial.unittest import SynchronousTestCase

from tests.support import frames
from tradeproxy.downstream.session import (
    ClientEffect,
    ClientSession,
    ClientState,
    CloseWith,
    ProtocolMode,
    SendReply,
    SetEvents,
    SetStatus,
)
from tradeproxy.wire.close_codes import CloseCode
from tradeproxy.wire.credentials import Credentials, KeyPair, OAuthToken, Secret
from tradeproxy.wire.messages import encode

Received: TypeAlias = list[bytes | CloseCode]
"""What the client receives: payloads, and the code of a close frame."""

EMPTY_AUTH = b'{"action":"auth"}'
LISTEN_TO_ALL = (
    b'{"action":"listen","data":{"streams":["trades","trade_updates","trade_updates",7]}}'
)
LISTEN_TO_OTHERS = b'{"action":"listen","data":{"streams":["trades"]}}'
UNLISTEN_OTHERS = b'{"action":"unlisten","data":{"streams":["trades"]}}'
UNKNOWN = (
    b'{"action":"ping"}',
    b'{"action":"listen"}',
    b'{"action":"unlisten"}',
    b"null",
    b"[]",
    b"1",
    b"{}",
)

LISTEN_TO_STATUS = b'{"action":"listen","data":{"streams":["proxy_status","trade_updates"]}}'
UNLISTEN_STATUS = b'{"action":"unlisten","data":{"streams":["proxy_status"]}}'
LISTENING_TO_BOTH = b'{"stream":"listening","data":{"streams":["trade_updates","proxy_status"]}}'

AUTH_MESSAGES = (frames.AUTH, frames.AUTHENTICATE, frames.OAUTH, EMPTY_AUTH)


def accept_any(_credentials: Credentials) -> bool:
    """Accept any credentials, as without tokens."""
    return True


def reject_any(_credentials: Credentials) -> bool:
    """Reject any credentials."""
    return False


class Conversation:
    """A session, with the streams that its client gets: events, `proxy_status`."""

    def __init__(
        self,
        mode: ProtocolMode,
        admits: Callable[[Credentials], bool] = accept_any,
        *,
        status: bool = False,
    ) -> None:
        self.session = ClientSession(mode, admits, status=status)
        self.events = False
        self.status = False

    def receive(self, *payloads: bytes) -> Received:
        """Handle these messages, and return what the client receives."""
        return [item for payload in payloads for item in self.apply(self.session.received(payload))]

    def apply(self, effects: tuple[ClientEffect, ...]) -> Received:
        """Return what the client receives of `effects`, and record which streams are on."""
        received: Received = []
        for effect in effects:
            match effect:
                case SendReply(message):
                    received.append(encode(message))
                case SetEvents(on):
                    assert on is not self.events, "the stream is in that state already"
                    self.events = on
                case SetStatus(on):
                    assert on is not self.status, "the stream is in that state already"
                    self.status = on
                case CloseWith(code, _):
                    received.append(code)
                    self.events = self.status = False
        return received


def converse(mode: ProtocolMode, *payloads: bytes) -> Conversation:
    """Return a conversation after these messages, with all credentials accepted."""
    conversation = Conversation(mode)
    conversation.receive(*payloads)
    return conversation


class SessionTestCase(SynchronousTestCase):
    """What the tests of both modes share; it has no test."""

    mode: ProtocolMode

    def check(self, before: tuple[bytes, ...], rows: dict[bytes, tuple[Received, bool]]) -> None:
        """Assert, for each message after `before`, its replies and whether events follow."""
        for payload, (expected, wants_events) in rows.items():
            conversation = converse(self.mode, *before)
            self.assertEqual(conversation.receive(payload), expected, (before, payload))
            self.assertIs(conversation.events, wants_events, (before, payload))
            self.assertFalse(conversation.status, (before, payload))


class OriginalModeTests(SessionTestCase):
    """On the original paths events follow any auth message."""

    mode = ProtocolMode.ORIGINAL

    def test_auth_reply_depends_on_dialect_and_events_start(self) -> None:
        """`auth` gets the original array, `authenticate` Alpaca's object; events follow."""
        rows: dict[bytes, tuple[Received, bool]] = {
            frames.AUTH: ([frames.AUTHENTICATED], True),
            EMPTY_AUTH: ([frames.AUTHENTICATED], True),
            frames.AUTHENTICATE: ([frames.AUTHORIZED], True),
            frames.OAUTH: ([frames.AUTHORIZED], True),
            b'{"action":"authenticate"}': ([frames.AUTHORIZED], True),
        }
        self.check((), rows)

    def test_messages_before_auth_start_no_events(self) -> None:
        """Before auth, `listen` and `unlisten` are acknowledged, and other JSON is ignored."""
        rows: dict[bytes, tuple[Received, bool]] = {
            frames.LISTEN: ([frames.LISTENING], False),
            frames.LISTEN_TO_NOTHING: ([frames.LISTENING_TO_NOTHING], False),
            frames.UNLISTEN: ([frames.LISTENING_TO_NOTHING], False),
            **{payload: ([], False) for payload in UNKNOWN},
        }
        self.check((), rows)
        self.check((frames.LISTEN,), {frames.AUTH: ([frames.AUTHENTICATED], True)})

    def test_no_json_message_stops_events(self) -> None:
        """`listen` and `unlisten` get an ack, but an authenticated client gets every event."""
        rows: dict[bytes, tuple[Received, bool]] = {
            frames.LISTEN: ([frames.LISTENING], True),
            LISTEN_TO_ALL: ([frames.LISTENING], True),
            LISTEN_TO_OTHERS: ([frames.LISTENING_TO_NOTHING], True),
            frames.LISTEN_TO_NOTHING: ([frames.LISTENING_TO_NOTHING], True),
            frames.UNLISTEN: ([frames.LISTENING_TO_NOTHING], True),
            **{payload: ([], True) for payload in UNKNOWN},
        }
        for auth in AUTH_MESSAGES:
            self.check((auth,), rows)
            self.check((auth, frames.LISTEN), rows)

    def test_second_auth_gets_same_reply(self) -> None:
        """Events continue after a second auth message."""
        for auth in AUTH_MESSAGES:
            self.check((auth,), {frames.AUTH: ([frames.AUTHENTICATED], True)})


class AlpacaModeTests(SessionTestCase):
    """On the paths with /stream the session is the same as Alpaca's."""

    mode = ProtocolMode.ALPACA

    def test_auth_reply_is_object_and_starts_no_events(self) -> None:
        """Alpaca does not send the array, and sends no event before `listen`."""
        self.check((), {auth: ([frames.AUTHORIZED], False) for auth in AUTH_MESSAGES})

    def test_listen_before_auth_is_unauthorized(self) -> None:
        """The reply names `listen`. The client can still authenticate, and must listen again."""
        rows: dict[bytes, tuple[Received, bool]] = {
            frames.LISTEN: ([frames.LISTEN_UNAUTHORIZED], False),
            frames.LISTEN_TO_NOTHING: ([frames.LISTEN_UNAUTHORIZED], False),
            **{payload: ([], False) for payload in UNKNOWN},
        }
        self.check((), rows)
        self.check((frames.LISTEN,), {frames.AUTHENTICATE: ([frames.AUTHORIZED], False)})

    def test_listen_replaces_set_of_streams(self) -> None:
        """Events follow while trade_updates is in the set; an ack leaves out unknown streams."""
        rows: dict[bytes, tuple[Received, bool]] = {
            frames.LISTEN: ([frames.LISTENING], True),
            LISTEN_TO_ALL: ([frames.LISTENING], True),
            LISTEN_TO_OTHERS: ([frames.LISTENING_TO_NOTHING], False),
            frames.LISTEN_TO_NOTHING: ([frames.LISTENING_TO_NOTHING], False),
        }
        for auth in AUTH_MESSAGES:
            self.check((auth,), rows)
            self.check((auth, frames.LISTEN), rows)

    def test_unlisten_removes_streams(self) -> None:
        """The ack lists the remaining streams, and `listen` starts the events again."""
        auth = frames.AUTHENTICATE
        unlisten: dict[bytes, tuple[Received, bool]] = {
            frames.UNLISTEN: ([frames.LISTENING_TO_NOTHING], False),
        }
        self.check((auth,), unlisten)
        self.check((auth, frames.LISTEN), unlisten)
        self.check((auth, frames.LISTEN), {UNLISTEN_OTHERS: ([frames.LISTENING], True)})
        self.check(
            (auth, frames.LISTEN, frames.UNLISTEN), {frames.LISTEN: ([frames.LISTENING], True)}
        )

    def test_other_json_is_ignored(self) -> None:
        """It has no effect before or after `listen`."""
        auth = frames.AUTHENTICATE
        self.check((auth,), {payload: ([], False) for payload in UNKNOWN})
        self.check((auth, frames.LISTEN), {payload: ([], True) for payload in UNKNOWN})

    def test_second_auth_keeps_streams(self) -> None:
        """A client that authenticates again still listens to its streams."""
        for auth in AUTH_MESSAGES:
            self.check((frames.AUTH, frames.LISTEN), {auth: ([frames.AUTHORIZED], True)})


class StatusStreamTests(SynchronousTestCase):
    """The `proxy_status` stream is sent on request only."""

    def test_status_in_query_starts_with_auth(self) -> None:
        """It starts on every path, after the reply and before events, and never stops."""
        for mode in ProtocolMode:
            session = ClientSession(mode, accept_any, status=True)
            effects = session.received(frames.AUTH)
            expected = (
                [SendReply, SetStatus, SetEvents]
                if mode is ProtocolMode.ORIGINAL
                else [SendReply, SetStatus]
            )
            self.assertEqual([type(effect) for effect in effects], expected, mode)
            conversation = Conversation(mode, status=True)
            self.assertEqual(conversation.receive(frames.LISTEN)[1:], [])
            self.assertFalse(conversation.status)
            conversation.receive(
                frames.AUTH, LISTEN_TO_STATUS, frames.LISTEN_TO_NOTHING, UNLISTEN_STATUS
            )
            self.assertTrue(conversation.status)

    def test_listen_controls_status_stream(self) -> None:
        """It is in the ack, starts after it, and stops when it is not in the set."""
        for mode in ProtocolMode:
            conversation = converse(mode, frames.AUTH)
            self.assertEqual(conversation.receive(LISTEN_TO_STATUS), [LISTENING_TO_BOTH])
            self.assertEqual((conversation.events, conversation.status), (True, True))
            self.assertEqual(conversation.receive(UNLISTEN_STATUS), [frames.LISTENING])
            self.assertEqual((conversation.events, conversation.status), (True, False))
            conversation.receive(LISTEN_TO_STATUS, frames.LISTEN_TO_NOTHING)
            self.assertEqual(
                (conversation.events, conversation.status), (mode is ProtocolMode.ORIGINAL, False)
            )

    def test_status_before_auth_starts_with_auth(self) -> None:
        """On the original paths a client may listen before auth; status starts after auth."""
        conversation = converse(ProtocolMode.ORIGINAL, LISTEN_TO_STATUS)
        self.assertEqual((conversation.events, conversation.status), (False, False))
        conversation.receive(frames.AUTH)
        self.assertEqual((conversation.events, conversation.status), (True, True))

    def test_status_starts_before_events(self) -> None:
        """If one message starts both, the status starts first."""
        session = ClientSession(ProtocolMode.ALPACA, accept_any)
        session.received(frames.AUTH)
        effects = session.received(LISTEN_TO_STATUS)
        self.assertEqual(effects[1:], (SetStatus(True), SetEvents(True)))


class AuthRejectionTests(SynchronousTestCase):
    """With tokens, the auth message must contain one."""

    def test_rejected_auth_gets_unauthorized_and_closes(self) -> None:
        """Both dialects get the authorization object on every path, and then the close code."""
        for mode in ProtocolMode:
            for auth in AUTH_MESSAGES:
                conversation = Conversation(mode, reject_any, status=True)
                expected: Received = [frames.UNAUTHORIZED, CloseCode.TOKEN_REFUSED]
                self.assertEqual(conversation.receive(auth), expected, (mode, auth))
                self.assertIs(conversation.session.state, ClientState.CLOSED)
                self.assertFalse(conversation.events or conversation.status)

    def test_credentials_of_message_are_checked(self) -> None:
        """`admits` gets the credentials of the message, and only accepted ones authenticate."""
        checked: list[Credentials] = []

        def admits(credentials: Credentials) -> bool:
            checked.append(credentials)
            return credentials == OAuthToken(Secret("T"))

        table: dict[bytes, Received] = {
            frames.AUTH: [frames.UNAUTHORIZED, CloseCode.TOKEN_REFUSED],
            frames.AUTHENTICATE: [frames.UNAUTHORIZED, CloseCode.TOKEN_REFUSED],
            frames.OAUTH: [frames.AUTHORIZED],
        }
        for auth, expected in table.items():
            self.assertEqual(
                Conversation(ProtocolMode.ALPACA, admits).receive(auth), expected, auth
            )
        pair = KeyPair(Secret("K"), Secret("S"))
        self.assertEqual(checked, [pair, pair, OAuthToken(Secret("T"))])

    def test_rejected_second_auth_closes(self) -> None:
        """The last auth message counts."""
        answers = iter([True, False])
        conversation = Conversation(ProtocolMode.ORIGINAL, lambda _credentials: next(answers))
        conversation.receive(frames.AUTH)
        self.assertTrue(conversation.events)
        expected: Received = [frames.UNAUTHORIZED, CloseCode.TOKEN_REFUSED]
        self.assertEqual(conversation.receive(frames.AUTH), expected)
        self.assertFalse(conversation.events)

    def test_other_messages_before_auth_do_not_close(self) -> None:
        """Only an auth message is checked: other messages before it do not close the client."""
        for mode in ProtocolMode:
            for payload in (frames.LISTEN, frames.UNLISTEN, *UNKNOWN):
                conversation = Conversation(mode, reject_any)
                conversation.receive(payload)
                self.assertIs(
                    conversation.session.state, ClientState.AWAITING_AUTH, (mode, payload)
                )
                self.assertFalse(conversation.events, (mode, payload))


class SessionCloseTests(SynchronousTestCase):
    """A session closes once, with a code."""

    def test_no_json_closes_4000(self) -> None:
        """In every state the client gets the code and nothing else."""
        for mode in ProtocolMode:
            for before in ((), (frames.AUTH,), (frames.AUTH, frames.LISTEN)):
                for name, payload in frames.NOT_JSON.items():
                    conversation = converse(mode, *before)
                    case = (mode, before, name)
                    self.assertEqual(conversation.receive(payload), [CloseCode.MALFORMED], case)
                    self.assertFalse(conversation.events, case)

    def test_auth_timeout_closes_4002(self) -> None:
        """Other messages do not prevent it; an authenticated client stays open."""
        for mode in ProtocolMode:
            for before in ((), (frames.LISTEN,), (b'{"action":"ping"}',)):
                conversation = converse(mode, *before)
                self.assertEqual(
                    conversation.apply(conversation.session.auth_timed_out()),
                    [CloseCode.NO_AUTH],
                    (mode, before),
                )
                self.assertIs(conversation.session.state, ClientState.CLOSED)
            for auth in AUTH_MESSAGES:
                session = converse(mode, auth).session
                self.assertEqual(session.auth_timed_out(), (), (mode, auth))
                self.assertIs(session.state, ClientState.AUTHENTICATED)

    def test_close_sends_given_code_and_reason(self) -> None:
        """In every state the given code is sent, with its own reason or the given one."""
        for code in (CloseCode.RESTARTING, CloseCode.TOO_SLOW):
            for before in ((), (frames.AUTH,), (frames.AUTH, frames.LISTEN)):
                session = converse(ProtocolMode.ALPACA, *before).session
                self.assertEqual(
                    session.close(code), (CloseWith(code, code.reason),), (code, before)
                )
                session = converse(ProtocolMode.ALPACA, *before).session
                self.assertEqual(
                    session.close(code, "a reason"), (CloseWith(code, "a reason"),), (code, before)
                )

    def test_closed_session_ignores_all_input(self) -> None:
        """No message, timer or second close has an effect after a close, whatever caused it."""
        for mode in ProtocolMode:
            malformed, rejected = converse(mode, b"junk").session, ClientSession(mode, reject_any)
            rejected.received(frames.AUTH)
            timed_out = converse(mode).session
            closed = converse(mode, frames.AUTH, frames.LISTEN).session
            timed_out.auth_timed_out()
            closed.close(CloseCode.TOO_SLOW)
            for session in (malformed, rejected, timed_out, closed):
                for payload in (
                    *AUTH_MESSAGES,
                    LISTEN_TO_STATUS,
                    frames.UNLISTEN,
                    *UNKNOWN,
                    b"junk",
                ):
                    self.assertEqual(session.received(payload), (), (mode, payload))
                self.assertEqual(session.auth_timed_out(), ())
                self.assertEqual(session.close(CloseCode.RESTARTING), ())
                self.assertIs(session.state, ClientState.CLOSED)
