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

Seen: TypeAlias = list[bytes | CloseCode]
"""What the client gets to see: payloads, and the code of a close frame."""

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

LOGINS = (frames.AUTH, frames.AUTHENTICATE, frames.OAUTH, EMPTY_AUTH)


def anybody(_credentials: Credentials) -> bool:
    """Let every client in, as without tokens."""
    return True


def nobody(_credentials: Credentials) -> bool:
    """Refuse every client."""
    return False


class Talk:
    """A session, and what flows to its client: events, the proxy's status."""

    def __init__(
        self,
        manner: ProtocolMode,
        admits: Callable[[Credentials], bool] = anybody,
        *,
        status: bool = False,
    ) -> None:
        self.session = ClientSession(manner, admits, status=status)
        self.events = False
        self.status = False

    def says(self, *payloads: bytes) -> Seen:
        """Return what the client sees upon these messages."""
        return [
            sight for payload in payloads for sight in self.takes(self.session.received(payload))
        ]

    def takes(self, effects: tuple[ClientEffect, ...]) -> Seen:
        """Return what the client sees of `effects`, and note what begins and ends with them."""
        seen: Seen = []
        for effect in effects:
            match effect:
                case SendReply(message):
                    seen.append(encode(message))
                case SetEvents(on):
                    assert on is not self.events, "what flows cannot begin to"
                    self.events = on
                case SetStatus(on):
                    assert on is not self.status, "what flows cannot begin to"
                    self.status = on
                case CloseWith(code, _):
                    seen.append(code)
                    self.events = self.status = False
        return seen


def talk_after(manner: ProtocolMode, *payloads: bytes) -> Talk:
    """Return the talk with a client that is let in and sent `payloads`."""
    talk = Talk(manner)
    talk.says(*payloads)
    return talk


class SessionTestCase(SynchronousTestCase):
    """What the tests of both manners share; it holds no test."""

    manner: ProtocolMode

    def check(self, before: tuple[bytes, ...], rows: dict[bytes, tuple[Seen, bool]]) -> None:
        """Hold against `rows` what each message gets after those `before`, and if events follow it."""
        for payload, (expected, wants_events) in rows.items():
            talk = talk_after(self.manner, *before)
            self.assertEqual(talk.says(payload), expected, (before, payload))
            self.assertIs(talk.events, wants_events, (before, payload))
            self.assertFalse(talk.status, (before, payload))


class OriginalMannerTests(SessionTestCase):
    """On the original paths every event follows any auth message."""

    manner = ProtocolMode.ORIGINAL

    def test_answers_each_dialect_in_its_own_words_and_begins(self) -> None:
        """`auth` gets the original proxy's array, `authenticate` Alpaca's object; events follow both."""
        rows: dict[bytes, tuple[Seen, bool]] = {
            frames.AUTH: ([frames.AUTHENTICATED], True),
            EMPTY_AUTH: ([frames.AUTHENTICATED], True),
            frames.AUTHENTICATE: ([frames.AUTHORIZED], True),
            frames.OAUTH: ([frames.AUTHORIZED], True),
            b'{"action":"authenticate"}': ([frames.AUTHORIZED], True),
        }
        self.check((), rows)

    def test_sends_no_events_before_the_auth_message(self) -> None:
        """Before it `listen` and `unlisten` are acked, all else is ignored, and neither begins the events."""
        rows: dict[bytes, tuple[Seen, bool]] = {
            frames.LISTEN: ([frames.LISTENING], False),
            frames.LISTEN_TO_NOTHING: ([frames.LISTENING_TO_NOTHING], False),
            frames.UNLISTEN: ([frames.LISTENING_TO_NOTHING], False),
            **{payload: ([], False) for payload in UNKNOWN},
        }
        self.check((), rows)
        self.check((frames.LISTEN,), {frames.AUTH: ([frames.AUTHENTICATED], True)})

    def test_nothing_that_is_json_ends_the_events(self) -> None:
        """`listen` and `unlisten` are acked as asked, but whoever said auth has every event from then on."""
        rows: dict[bytes, tuple[Seen, bool]] = {
            frames.LISTEN: ([frames.LISTENING], True),
            LISTEN_TO_ALL: ([frames.LISTENING], True),
            LISTEN_TO_OTHERS: ([frames.LISTENING_TO_NOTHING], True),
            frames.LISTEN_TO_NOTHING: ([frames.LISTENING_TO_NOTHING], True),
            frames.UNLISTEN: ([frames.LISTENING_TO_NOTHING], True),
            **{payload: ([], True) for payload in UNKNOWN},
        }
        for login in LOGINS:
            self.check((login,), rows)
            self.check((login, frames.LISTEN), rows)

    def test_a_second_login_is_answered_like_the_first(self) -> None:
        """A client that says auth again goes on."""
        for login in LOGINS:
            self.check((login,), {frames.AUTH: ([frames.AUTHENTICATED], True)})


class AlpacaMannerTests(SessionTestCase):
    """On the paths with /stream the conversation is Alpaca's own."""

    manner = ProtocolMode.ALPACA

    def test_answers_every_dialect_with_the_object_and_waits_for_listen(self) -> None:
        """The array is no word of Alpaca's, and no event comes before `listen`."""
        self.check((), {login: ([frames.AUTHORIZED], False) for login in LOGINS})

    def test_refuses_listen_before_the_auth_message(self) -> None:
        """The refusal names `listen`, the client may still authenticate, and has to listen again then."""
        rows: dict[bytes, tuple[Seen, bool]] = {
            frames.LISTEN: ([frames.LISTEN_UNAUTHORIZED], False),
            frames.LISTEN_TO_NOTHING: ([frames.LISTEN_UNAUTHORIZED], False),
            **{payload: ([], False) for payload in UNKNOWN},
        }
        self.check((), rows)
        self.check((frames.LISTEN,), {frames.AUTHENTICATE: ([frames.AUTHORIZED], False)})

    def test_listen_names_the_full_set_of_streams(self) -> None:
        """Events follow exactly while trade_updates is in the set; streams not had here are left out."""
        rows: dict[bytes, tuple[Seen, bool]] = {
            frames.LISTEN: ([frames.LISTENING], True),
            LISTEN_TO_ALL: ([frames.LISTENING], True),
            LISTEN_TO_OTHERS: ([frames.LISTENING_TO_NOTHING], False),
            frames.LISTEN_TO_NOTHING: ([frames.LISTENING_TO_NOTHING], False),
        }
        for login in LOGINS:
            self.check((login,), rows)
            self.check((login, frames.LISTEN), rows)

    def test_unlisten_takes_streams_away(self) -> None:
        """The ack has what is left, and `listen` brings the events back."""
        login = frames.AUTHENTICATE
        unlisten: dict[bytes, tuple[Seen, bool]] = {
            frames.UNLISTEN: ([frames.LISTENING_TO_NOTHING], False),
        }
        self.check((login,), unlisten)
        self.check((login, frames.LISTEN), unlisten)
        self.check((login, frames.LISTEN), {UNLISTEN_OTHERS: ([frames.LISTENING], True)})
        self.check(
            (login, frames.LISTEN, frames.UNLISTEN), {frames.LISTEN: ([frames.LISTENING], True)}
        )

    def test_ignores_other_json(self) -> None:
        """It changes nothing, before `listen` or after."""
        login = frames.AUTHENTICATE
        self.check((login,), {payload: ([], False) for payload in UNKNOWN})
        self.check((login, frames.LISTEN), {payload: ([], True) for payload in UNKNOWN})

    def test_a_second_login_leaves_the_streams_as_they_are(self) -> None:
        """A client that says who it is again goes on listening."""
        for login in LOGINS:
            self.check((frames.AUTH, frames.LISTEN), {login: ([frames.AUTHORIZED], True)})


class StatusTests(SynchronousTestCase):
    """The `proxy_status` stream is for those who ask for it."""

    def test_a_query_brings_it_with_the_auth_message(self) -> None:
        """On every path, after the reply and before the events, for as long as the connection lasts."""
        for manner in ProtocolMode:
            session = ClientSession(manner, anybody, status=True)
            effects = session.received(frames.AUTH)
            expected = (
                [SendReply, SetStatus, SetEvents]
                if manner is ProtocolMode.ORIGINAL
                else [SendReply, SetStatus]
            )
            self.assertEqual([type(effect) for effect in effects], expected, manner)
            talk = Talk(manner, status=True)
            self.assertEqual(talk.says(frames.LISTEN)[1:], [])
            self.assertFalse(talk.status)
            talk.says(frames.AUTH, LISTEN_TO_STATUS, frames.LISTEN_TO_NOTHING, UNLISTEN_STATUS)
            self.assertTrue(talk.status)

    def test_listen_names_it_like_any_other_stream(self) -> None:
        """It is in the ack, follows it, and ends when it is no longer in the set."""
        for manner in ProtocolMode:
            talk = talk_after(manner, frames.AUTH)
            self.assertEqual(talk.says(LISTEN_TO_STATUS), [LISTENING_TO_BOTH])
            self.assertEqual((talk.events, talk.status), (True, True))
            self.assertEqual(talk.says(UNLISTEN_STATUS), [frames.LISTENING])
            self.assertEqual((talk.events, talk.status), (True, False))
            talk.says(LISTEN_TO_STATUS, frames.LISTEN_TO_NOTHING)
            self.assertEqual((talk.events, talk.status), (manner is ProtocolMode.ORIGINAL, False))

    def test_it_waits_for_the_auth_message(self) -> None:
        """On the original paths one may listen before, and is told nothing before the auth reply."""
        talk = talk_after(ProtocolMode.ORIGINAL, LISTEN_TO_STATUS)
        self.assertEqual((talk.events, talk.status), (False, False))
        talk.says(frames.AUTH)
        self.assertEqual((talk.events, talk.status), (True, True))

    def test_it_comes_before_the_events(self) -> None:
        """What begins with the same message begins with the status."""
        session = ClientSession(ProtocolMode.ALPACA, anybody)
        session.received(frames.AUTH)
        effects = session.received(LISTEN_TO_STATUS)
        self.assertEqual(effects[1:], (SetStatus(True), SetEvents(True)))


class TokenTests(SynchronousTestCase):
    """With tokens, an auth message must hold one."""

    def test_a_refused_client_is_told_so_in_alpacas_words_and_closed(self) -> None:
        """Either dialect gets the authorization object, on every path, and then the close code."""
        for manner in ProtocolMode:
            for login in LOGINS:
                talk = Talk(manner, nobody, status=True)
                expected: Seen = [frames.UNAUTHORIZED, CloseCode.TOKEN_REFUSED]
                self.assertEqual(talk.says(login), expected, (manner, login))
                self.assertIs(talk.session.state, ClientState.CLOSED)
                self.assertFalse(talk.events or talk.status)

    def test_what_the_client_offers_is_what_is_judged(self) -> None:
        """The judge is given the credentials of the message, and lets in only those it knows."""
        offered: list[Credentials] = []

        def admits(credentials: Credentials) -> bool:
            offered.append(credentials)
            return credentials == OAuthToken(Secret("T"))

        table: dict[bytes, Seen] = {
            frames.AUTH: [frames.UNAUTHORIZED, CloseCode.TOKEN_REFUSED],
            frames.AUTHENTICATE: [frames.UNAUTHORIZED, CloseCode.TOKEN_REFUSED],
            frames.OAUTH: [frames.AUTHORIZED],
        }
        for login, expected in table.items():
            self.assertEqual(Talk(ProtocolMode.ALPACA, admits).says(login), expected, login)
        pair = KeyPair(Secret("K"), Secret("S"))
        self.assertEqual(offered, [pair, pair, OAuthToken(Secret("T"))])

    def test_a_client_that_was_let_in_is_out_after_a_wrong_second_login(self) -> None:
        """The last word on who the client is counts."""
        answers = iter([True, False])
        talk = Talk(ProtocolMode.ORIGINAL, lambda _credentials: next(answers))
        talk.says(frames.AUTH)
        self.assertTrue(talk.events)
        expected: Seen = [frames.UNAUTHORIZED, CloseCode.TOKEN_REFUSED]
        self.assertEqual(talk.says(frames.AUTH), expected)
        self.assertFalse(talk.events)

    def test_nothing_but_a_login_is_judged(self) -> None:
        """A client without a token is not closed for what it says before its auth message."""
        for manner in ProtocolMode:
            for payload in (frames.LISTEN, frames.UNLISTEN, *UNKNOWN):
                talk = Talk(manner, nobody)
                talk.says(payload)
                self.assertIs(talk.session.state, ClientState.AWAITING_AUTH, (manner, payload))
                self.assertFalse(talk.events, (manner, payload))


class EndTests(SynchronousTestCase):
    """A conversation ends once, with a code."""

    def test_what_is_not_json_is_closed_as_malformed(self) -> None:
        """In every state: the code, and nothing else."""
        for manner in ProtocolMode:
            for before in ((), (frames.AUTH,), (frames.AUTH, frames.LISTEN)):
                for name, payload in frames.NOT_JSON.items():
                    talk = talk_after(manner, *before)
                    case = (manner, before, name)
                    self.assertEqual(talk.says(payload), [CloseCode.MALFORMED], case)
                    self.assertFalse(talk.events, case)

    def test_a_client_that_does_not_authenticate_in_time_is_closed(self) -> None:
        """Whatever else it said; one that did authenticate is left alone."""
        for manner in ProtocolMode:
            for before in ((), (frames.LISTEN,), (b'{"action":"ping"}',)):
                talk = talk_after(manner, *before)
                self.assertEqual(
                    talk.takes(talk.session.auth_timed_out()), [CloseCode.NO_AUTH], (manner, before)
                )
                self.assertIs(talk.session.state, ClientState.CLOSED)
            for login in LOGINS:
                session = talk_after(manner, login).session
                self.assertEqual(session.auth_timed_out(), (), (manner, login))
                self.assertIs(session.state, ClientState.AUTHENTICATED)

    def test_it_can_be_ended_for_a_reason_of_ours(self) -> None:
        """In every state, with the code that is given, and a reason that may say more than the code's own."""
        for code in (CloseCode.RESTARTING, CloseCode.TOO_SLOW):
            for before in ((), (frames.AUTH,), (frames.AUTH, frames.LISTEN)):
                session = talk_after(ProtocolMode.ALPACA, *before).session
                self.assertEqual(
                    session.close(code), (CloseWith(code, code.reason),), (code, before)
                )
                session = talk_after(ProtocolMode.ALPACA, *before).session
                self.assertEqual(
                    session.close(code, "so"), (CloseWith(code, "so"),), (code, before)
                )

    def test_nothing_follows_a_close(self) -> None:
        """No message, timer or second end has any effect after a close frame, whatever caused it."""
        for manner in ProtocolMode:
            malformed, refused = talk_after(manner, b"junk").session, ClientSession(manner, nobody)
            refused.received(frames.AUTH)
            overdue = talk_after(manner).session
            ended = talk_after(manner, frames.AUTH, frames.LISTEN).session
            overdue.auth_timed_out()
            ended.close(CloseCode.TOO_SLOW)
            for session in (malformed, refused, overdue, ended):
                for payload in (*LOGINS, LISTEN_TO_STATUS, frames.UNLISTEN, *UNKNOWN, b"junk"):
                    self.assertEqual(session.received(payload), (), (manner, payload))
                self.assertEqual(session.auth_timed_out(), ())
                self.assertEqual(session.close(CloseCode.RESTARTING), ())
                self.assertIs(session.state, ClientState.CLOSED)
