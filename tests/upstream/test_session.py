"""Tests for tradeproxy.upstream.session."""

from __future__ import annotations

from typing import TypeAlias

from twisted.trial.unittest import SynchronousTestCase

from tests.support import frames
from tradeproxy.upstream.backoff import Disconnect, DisconnectCause
from tradeproxy.upstream.session import (
    CloseConnection,
    DropFrame,
    PublishEvent,
    SendRequest,
    StreamUp,
    UpstreamEffect,
    UpstreamSession,
    UpstreamState,
)
from tradeproxy.wire.credentials import Credentials, KeyPair, OAuthToken, Secret
from tradeproxy.wire.messages import Dialect, TradeUpdate, encode, parse_server

Seen: TypeAlias = tuple[UpstreamEffect | bytes, ...]
"""Effects, those that send as the bytes that are sent."""

Row: TypeAlias = tuple[Seen, UpstreamState]
"""What the session has done to it, and where it then stands."""

PAIR = KeyPair(Secret("K"), Secret("S"))
TOKEN = OAuthToken(Secret("T"))

LIMIT_ERROR_IN_OTHER_WORDS = b'{"action":"error","data":{"error_message":"Too many connections"}}'
UNKNOWN = b'{"hello":"world"}'

REFUSED = Disconnect(DisconnectCause.REFUSED, "login refused: ALPACA_API_KEY is not accepted")
LIMITED = Disconnect(
    DisconnectCause.LIMITED, "connection limit: somebody else holds this account's stream"
)
NOT_LISTED = Disconnect(
    DisconnectCause.LOST, "Alpaca does not list trade_updates among our streams"
)

WAY = {
    UpstreamState.CONNECTING: (),
    UpstreamState.AUTHENTICATING: (),
    UpstreamState.SUBSCRIBING: (frames.AUTHORIZED,),
    UpstreamState.STREAMING: (frames.AUTHORIZED, frames.LISTENING),
    UpstreamState.CLOSING: (frames.UNAUTHORIZED,),
}
"""The frames that lead to each state."""


def new_session(
    credentials: Credentials = PAIR, dialect: Dialect = Dialect.AUTHENTICATE
) -> UpstreamSession:
    """Return a session that has not begun."""
    return UpstreamSession(credentials, dialect, "ALPACA_API_KEY")


def seen(effects: tuple[UpstreamEffect, ...]) -> Seen:
    """Return `effects` as they are seen from outside."""
    return tuple(
        encode(effect.message) if isinstance(effect, SendRequest) else effect for effect in effects
    )


def publish(payload: bytes) -> PublishEvent:
    """Return the effect that hands on the event in a frame."""
    message = parse_server(payload)
    assert isinstance(message, TradeUpdate), payload
    return PublishEvent(message.event)


def session_in(state: UpstreamState) -> UpstreamSession:
    """Return a session that came to `state` on the usual way."""
    session = new_session()
    if state is not UpstreamState.CONNECTING:
        session.opened()
    for payload in WAY[state]:
        session.received(payload)
    assert session.state is state
    return session


class UpstreamSessionTests(SynchronousTestCase):
    """The conversation with Alpaca, as a table of states and frames."""

    def check(self, state: UpstreamState, rows: dict[bytes, Row]) -> None:
        """Hold what each frame does in `state` against `rows`."""
        for payload, (effects, after) in rows.items():
            session = session_in(state)
            self.assertEqual(seen(session.received(payload)), effects, (state, payload))
            self.assertIs(session.state, after, (state, payload))

    def test_begins_with_its_credentials(self) -> None:
        """Alpaca says nothing first; the login has the configured dialect, and a token its only form."""
        table: list[tuple[Credentials, Dialect, bytes]] = [
            (PAIR, Dialect.AUTHENTICATE, frames.AUTHENTICATE),
            (PAIR, Dialect.AUTH, frames.AUTH),
            (TOKEN, Dialect.AUTHENTICATE, frames.OAUTH),
            (TOKEN, Dialect.AUTH, frames.OAUTH),
        ]
        for credentials, dialect, payload in table:
            session = new_session(credentials, dialect)
            self.assertIs(session.state, UpstreamState.CONNECTING)
            self.assertEqual(seen(session.opened()), (payload,), dialect)
            self.assertIs(session.state, UpstreamState.AUTHENTICATING)

    def test_comes_to_stream(self) -> None:
        """Login, listen, ack, and from then on every event is handed on untouched."""
        session = new_session()
        self.assertEqual(seen(session.opened()), (frames.AUTHENTICATE,))
        self.assertEqual(seen(session.received(frames.AUTHORIZED)), (frames.LISTEN,))
        self.assertEqual(seen(session.received(frames.LISTENING)), (StreamUp(),))
        for payload in frames.TRADE_UPDATES:
            (effect,) = session.received(payload)
            assert isinstance(effect, PublishEvent), payload
            self.assertIs(effect.event.payload, payload)
        self.assertIs(session.state, UpstreamState.STREAMING)
        self.assertIsNone(session.disconnect)

    def test_awaits_the_word_on_its_login(self) -> None:
        """While it authenticates, `authorized` leads on, a refusal ends it, and the rest changes nothing."""
        here = UpstreamState.AUTHENTICATING
        rows: dict[bytes, Row] = {
            frames.AUTHORIZED: ((frames.LISTEN,), UpstreamState.SUBSCRIBING),
            frames.UNAUTHORIZED: ((CloseConnection(),), UpstreamState.CLOSING),
            frames.KEY_REFUSED: ((CloseConnection(),), UpstreamState.CLOSING),
            frames.LIMIT_REFUSAL: ((CloseConnection(),), UpstreamState.CLOSING),
            frames.LIMIT_ERROR: ((CloseConnection(),), UpstreamState.CLOSING),
            frames.FILL: ((publish(frames.FILL),), here),
            frames.LISTENING: ((DropFrame("a frame out of turn"),), here),
            frames.LISTENING_TO_NOTHING: ((DropFrame("a frame out of turn"),), here),
            frames.SERVER_ERROR: ((DropFrame("an error frame"),), here),
            frames.NULL_DATA: ((DropFrame("a frame without a data object"),), here),
            UNKNOWN: ((DropFrame("a frame of an unknown kind"),), here),
            b"junk": ((DropFrame("not JSON"),), here),
        }
        self.check(here, rows)

    def test_awaits_the_ack_of_listen(self) -> None:
        """While it subscribes, an ack with trade_updates leads on, and one without them ends it."""
        here = UpstreamState.SUBSCRIBING
        rows: dict[bytes, Row] = {
            frames.LISTENING: ((StreamUp(),), UpstreamState.STREAMING),
            b'{"stream":"listening","data":{"streams":["x","trade_updates"]}}': (
                (StreamUp(),),
                UpstreamState.STREAMING,
            ),
            frames.LISTENING_TO_NOTHING: ((CloseConnection(),), UpstreamState.CLOSING),
            b'{"stream":"listening","data":{"streams":["trades"]}}': (
                (CloseConnection(),),
                UpstreamState.CLOSING,
            ),
            frames.UNAUTHORIZED: ((CloseConnection(),), UpstreamState.CLOSING),
            frames.LISTEN_UNAUTHORIZED: ((CloseConnection(),), UpstreamState.CLOSING),
            frames.LIMIT_ERROR: ((CloseConnection(),), UpstreamState.CLOSING),
            frames.FILL: ((publish(frames.FILL),), here),
            frames.AUTHORIZED: ((DropFrame("a frame out of turn"),), here),
            frames.SERVER_ERROR: ((DropFrame("an error frame"),), here),
            frames.NULL_DATA: ((DropFrame("a frame without a data object"),), here),
            UNKNOWN: ((DropFrame("a frame of an unknown kind"),), here),
            b"junk": ((DropFrame("not JSON"),), here),
        }
        self.check(here, rows)

    def test_streams_until_it_is_told_otherwise(self) -> None:
        """While it streams, junk and repeated replies are dropped; only a loss of the stream ends it."""
        here = UpstreamState.STREAMING
        rows: dict[bytes, Row] = {
            frames.FILL: ((publish(frames.FILL),), here),
            frames.LISTENING: ((DropFrame("a frame out of turn"),), here),
            frames.AUTHORIZED: ((DropFrame("a frame out of turn"),), here),
            frames.SERVER_ERROR: ((DropFrame("an error frame"),), here),
            frames.NULL_DATA: ((DropFrame("a frame without a data object"),), here),
            UNKNOWN: ((DropFrame("a frame of an unknown kind"),), here),
            b"junk": ((DropFrame("not JSON"),), here),
            frames.LISTENING_TO_NOTHING: ((CloseConnection(),), UpstreamState.CLOSING),
            frames.UNAUTHORIZED: ((CloseConnection(),), UpstreamState.CLOSING),
            frames.LIMIT_ERROR: ((CloseConnection(),), UpstreamState.CLOSING),
        }
        self.check(here, rows)

    def test_hands_on_events_while_it_leaves_and_hears_nothing_else(self) -> None:
        """An event that comes before the connection is gone is an event; the rest is over."""
        here = UpstreamState.CLOSING
        rows: dict[bytes, Row] = {
            frames.FILL: ((publish(frames.FILL),), here),
            frames.AUTHORIZED: ((), here),
            frames.UNAUTHORIZED: ((), here),
            frames.LISTENING: ((), here),
            frames.LISTENING_TO_NOTHING: ((), here),
            frames.SERVER_ERROR: ((), here),
            frames.LIMIT_ERROR: ((), here),
            frames.NULL_DATA: ((), here),
            UNKNOWN: ((), here),
            b"junk": ((), here),
        }
        self.check(here, rows)

    def test_an_event_during_the_login_delays_nothing(self) -> None:
        """The original proxy swallowed an event where it expected the ack: here both are had."""
        session = session_in(UpstreamState.AUTHENTICATING)
        self.assertEqual(seen(session.received(frames.NEW)), (publish(frames.NEW),))
        self.assertEqual(seen(session.received(frames.AUTHORIZED)), (frames.LISTEN,))
        self.assertEqual(seen(session.received(frames.FILL)), (publish(frames.FILL),))
        self.assertEqual(seen(session.received(frames.LISTENING)), (StreamUp(),))

    def test_knows_why_it_ended(self) -> None:
        """The ending, which decides the wait, is there with Leave: a key, a taken slot, or a lost stream."""
        table = {
            frames.UNAUTHORIZED: REFUSED,
            frames.KEY_REFUSED: REFUSED,
            frames.LISTEN_UNAUTHORIZED: REFUSED,
            frames.LIMIT_REFUSAL: LIMITED,
            frames.LIMIT_ERROR: LIMITED,
            LIMIT_ERROR_IN_OTHER_WORDS: LIMITED,
            frames.LISTENING_TO_NOTHING: NOT_LISTED,
        }
        for state in (UpstreamState.SUBSCRIBING, UpstreamState.STREAMING):
            for payload, ending in table.items():
                session = session_in(state)
                session.received(payload)
                self.assertEqual(session.disconnect, ending, (state, payload))

    def test_keeps_the_first_reason_of_its_end(self) -> None:
        """What Alpaca says after the session left does not rewrite why it left."""
        session = session_in(UpstreamState.AUTHENTICATING)
        session.received(frames.LIMIT_ERROR)
        session.received(frames.UNAUTHORIZED)
        self.assertEqual(session.disconnect, LIMITED)

    def test_gives_up_on_a_server_that_does_not_come_to_the_point(self) -> None:
        """Overdue ends the login and the listen with their name; before and after, it means nothing."""
        table: dict[UpstreamState, tuple[tuple[UpstreamEffect, ...], Disconnect | None]] = {
            UpstreamState.CONNECTING: ((), None),
            UpstreamState.AUTHENTICATING: (
                (CloseConnection(),),
                Disconnect(DisconnectCause.LOST, "no answer to the login in time"),
            ),
            UpstreamState.SUBSCRIBING: (
                (CloseConnection(),),
                Disconnect(DisconnectCause.LOST, "no answer to listen in time"),
            ),
            UpstreamState.STREAMING: ((), None),
            UpstreamState.CLOSING: ((), REFUSED),
        }
        for state, (effects, ending) in table.items():
            session = session_in(state)
            self.assertEqual(session.login_timed_out(), effects, state)
            self.assertEqual(session.disconnect, ending, state)
            self.assertIs(session.state, UpstreamState.CLOSING if effects else state, state)

    def test_shows_no_credential(self) -> None:
        """The effect that carries the login does not show it, nor does the reason of a refusal."""
        session = new_session(KeyPair(Secret("HUSH"), Secret("HUSH")))
        self.assertNotIn("HUSH", repr(session.opened()))
        session.received(frames.KEY_REFUSED)
        self.assertNotIn("HUSH", repr(session.disconnect))
        self.assertIn("ALPACA_API_KEY", repr(session.disconnect))
