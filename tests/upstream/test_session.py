"""Tests for tradeproxy.upstream.session."""

from __future__ import annotations

from typing import TypeAlias

from twisted.trial.unittest import SynchronousTestCase

from tests.support import frames
from tradeproxy.upstream.backoff import Cause, Ending
from tradeproxy.upstream.session import Drop, Effect, Leave, Publish, Send, State, Up, UpstreamSession
from tradeproxy.wire.credentials import Credentials, KeyPair, OAuthToken, Secret
from tradeproxy.wire.messages import Dialect, TradeUpdate, encode, parse_server

Seen: TypeAlias = tuple[Effect | bytes, ...]
"""Effects, those that send as the bytes that are sent."""

Row: TypeAlias = tuple[Seen, State]
"""What the session has done to it, and where it then stands."""

PAIR = KeyPair(Secret("K"), Secret("S"))
TOKEN = OAuthToken(Secret("T"))

LIMIT_ERROR_IN_OTHER_WORDS = b'{"action":"error","data":{"error_message":"Too many connections"}}'
UNKNOWN = b'{"hello":"world"}'

REFUSED = Ending(Cause.REFUSED, "login refused: ALPACA_API_KEY is not accepted")
LIMITED = Ending(Cause.LIMITED, "connection limit: somebody else holds this account's stream")
NOT_LISTED = Ending(Cause.LOST, "Alpaca does not list trade_updates among our streams")

WAY = {
    State.CONNECTING: (),
    State.AUTHENTICATING: (),
    State.SUBSCRIBING: (frames.AUTHORIZED,),
    State.STREAMING: (frames.AUTHORIZED, frames.LISTENING),
    State.LEAVING: (frames.UNAUTHORIZED,),
}
"""The frames that lead to each state."""


def new_session(credentials: Credentials = PAIR, dialect: Dialect = Dialect.AUTHENTICATE) -> UpstreamSession:
    """Return a session that has not begun."""
    return UpstreamSession(credentials, dialect, "ALPACA_API_KEY")


def seen(effects: tuple[Effect, ...]) -> Seen:
    """Return `effects` as they are seen from outside."""
    return tuple(encode(effect.message) if isinstance(effect, Send) else effect for effect in effects)


def publish(payload: bytes) -> Publish:
    """Return the effect that hands on the event in a frame."""
    message = parse_server(payload)
    assert isinstance(message, TradeUpdate), payload
    return Publish(message.event)


def session_in(state: State) -> UpstreamSession:
    """Return a session that came to `state` on the usual way."""
    session = new_session()
    if state is not State.CONNECTING:
        session.opened()
    for payload in WAY[state]:
        session.received(payload)
    assert session.state is state
    return session


class UpstreamSessionTests(SynchronousTestCase):
    """The conversation with Alpaca, as a table of states and frames."""

    def check(self, state: State, rows: dict[bytes, Row]) -> None:
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
            self.assertIs(session.state, State.CONNECTING)
            self.assertEqual(seen(session.opened()), (payload,), dialect)
            self.assertIs(session.state, State.AUTHENTICATING)

    def test_comes_to_stream(self) -> None:
        """Login, listen, ack, and from then on every event is handed on untouched."""
        session = new_session()
        self.assertEqual(seen(session.opened()), (frames.AUTHENTICATE,))
        self.assertEqual(seen(session.received(frames.AUTHORIZED)), (frames.LISTEN,))
        self.assertEqual(seen(session.received(frames.LISTENING)), (Up(),))
        for payload in frames.TRADE_UPDATES:
            (effect,) = session.received(payload)
            assert isinstance(effect, Publish), payload
            self.assertIs(effect.event.payload, payload)
        self.assertIs(session.state, State.STREAMING)
        self.assertIsNone(session.ending)

    def test_awaits_the_word_on_its_login(self) -> None:
        """While it authenticates, `authorized` leads on, a refusal ends it, and the rest changes nothing."""
        here = State.AUTHENTICATING
        rows: dict[bytes, Row] = {
            frames.AUTHORIZED: ((frames.LISTEN,), State.SUBSCRIBING),
            frames.UNAUTHORIZED: ((Leave(),), State.LEAVING),
            frames.KEY_REFUSED: ((Leave(),), State.LEAVING),
            frames.LIMIT_REFUSAL: ((Leave(),), State.LEAVING),
            frames.LIMIT_ERROR: ((Leave(),), State.LEAVING),
            frames.FILL: ((publish(frames.FILL),), here),
            frames.LISTENING: ((Drop("a frame out of turn"),), here),
            frames.LISTENING_TO_NOTHING: ((Drop("a frame out of turn"),), here),
            frames.SERVER_ERROR: ((Drop("an error frame"),), here),
            frames.NULL_DATA: ((Drop("a frame without a data object"),), here),
            UNKNOWN: ((Drop("a frame of an unknown kind"),), here),
            b"junk": ((Drop("not JSON"),), here),
        }
        self.check(here, rows)

    def test_awaits_the_ack_of_listen(self) -> None:
        """While it subscribes, an ack with trade_updates leads on, and one without them ends it."""
        here = State.SUBSCRIBING
        rows: dict[bytes, Row] = {
            frames.LISTENING: ((Up(),), State.STREAMING),
            b'{"stream":"listening","data":{"streams":["x","trade_updates"]}}': ((Up(),), State.STREAMING),
            frames.LISTENING_TO_NOTHING: ((Leave(),), State.LEAVING),
            b'{"stream":"listening","data":{"streams":["trades"]}}': ((Leave(),), State.LEAVING),
            frames.UNAUTHORIZED: ((Leave(),), State.LEAVING),
            frames.LISTEN_UNAUTHORIZED: ((Leave(),), State.LEAVING),
            frames.LIMIT_ERROR: ((Leave(),), State.LEAVING),
            frames.FILL: ((publish(frames.FILL),), here),
            frames.AUTHORIZED: ((Drop("a frame out of turn"),), here),
            frames.SERVER_ERROR: ((Drop("an error frame"),), here),
            frames.NULL_DATA: ((Drop("a frame without a data object"),), here),
            UNKNOWN: ((Drop("a frame of an unknown kind"),), here),
            b"junk": ((Drop("not JSON"),), here),
        }
        self.check(here, rows)

    def test_streams_until_it_is_told_otherwise(self) -> None:
        """While it streams, junk and repeated replies are dropped; only a loss of the stream ends it."""
        here = State.STREAMING
        rows: dict[bytes, Row] = {
            frames.FILL: ((publish(frames.FILL),), here),
            frames.LISTENING: ((Drop("a frame out of turn"),), here),
            frames.AUTHORIZED: ((Drop("a frame out of turn"),), here),
            frames.SERVER_ERROR: ((Drop("an error frame"),), here),
            frames.NULL_DATA: ((Drop("a frame without a data object"),), here),
            UNKNOWN: ((Drop("a frame of an unknown kind"),), here),
            b"junk": ((Drop("not JSON"),), here),
            frames.LISTENING_TO_NOTHING: ((Leave(),), State.LEAVING),
            frames.UNAUTHORIZED: ((Leave(),), State.LEAVING),
            frames.LIMIT_ERROR: ((Leave(),), State.LEAVING),
        }
        self.check(here, rows)

    def test_hands_on_events_while_it_leaves_and_hears_nothing_else(self) -> None:
        """An event that comes before the connection is gone is an event; the rest is over."""
        here = State.LEAVING
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
        session = session_in(State.AUTHENTICATING)
        self.assertEqual(seen(session.received(frames.NEW)), (publish(frames.NEW),))
        self.assertEqual(seen(session.received(frames.AUTHORIZED)), (frames.LISTEN,))
        self.assertEqual(seen(session.received(frames.FILL)), (publish(frames.FILL),))
        self.assertEqual(seen(session.received(frames.LISTENING)), (Up(),))

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
        for state in (State.SUBSCRIBING, State.STREAMING):
            for payload, ending in table.items():
                session = session_in(state)
                session.received(payload)
                self.assertEqual(session.ending, ending, (state, payload))

    def test_keeps_the_first_reason_of_its_end(self) -> None:
        """What Alpaca says after the session left does not rewrite why it left."""
        session = session_in(State.AUTHENTICATING)
        session.received(frames.LIMIT_ERROR)
        session.received(frames.UNAUTHORIZED)
        self.assertEqual(session.ending, LIMITED)

    def test_gives_up_on_a_server_that_does_not_come_to_the_point(self) -> None:
        """Overdue ends the login and the listen with their name; before and after, it means nothing."""
        table: dict[State, tuple[tuple[Effect, ...], Ending | None]] = {
            State.CONNECTING: ((), None),
            State.AUTHENTICATING: ((Leave(),), Ending(Cause.LOST, "no answer to the login in time")),
            State.SUBSCRIBING: ((Leave(),), Ending(Cause.LOST, "no answer to listen in time")),
            State.STREAMING: ((), None),
            State.LEAVING: ((), REFUSED),
        }
        for state, (effects, ending) in table.items():
            session = session_in(state)
            self.assertEqual(session.overdue(), effects, state)
            self.assertEqual(session.ending, ending, state)
            self.assertIs(session.state, State.LEAVING if effects else state, state)

    def test_shows_no_credential(self) -> None:
        """The effect that carries the login does not show it, nor does the reason of a refusal."""
        session = new_session(KeyPair(Secret("HUSH"), Secret("HUSH")))
        self.assertNotIn("HUSH", repr(session.opened()))
        session.received(frames.KEY_REFUSED)
        self.assertNotIn("HUSH", repr(session.ending))
        self.assertIn("ALPACA_API_KEY", repr(session.ending))
