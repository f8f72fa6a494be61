"""Tests for tradeproxy.upstream.session."""

from __future__ import annotations

import json
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
from tradeproxy.wire.messages import (
    Authorization,
    Dialect,
    TradeUpdate,
    encode,
    parse_server,
)

EncodedEffects: TypeAlias = tuple[UpstreamEffect | bytes, ...]
"""Effects; those that send a message as the bytes of that message."""

Row: TypeAlias = tuple[EncodedEffects, UpstreamState]
"""The expected effects, and the next state."""

PAIR = KeyPair(Secret("K"), Secret("S"))
TOKEN = OAuthToken(Secret("T"))

OTHER_LIMIT_ERROR = b'{"action":"error","data":{"error_message":"Too many connections"}}'
UNKNOWN = b'{"hello":"world"}'

REFUSED = Disconnect(DisconnectCause.REFUSED, "login refused: ALPACA_API_KEY is not accepted")
LIMITED = Disconnect(
    DisconnectCause.LIMITED, "connection limit: somebody else holds this account's stream"
)
NOT_LISTED = Disconnect(
    DisconnectCause.LOST, "Alpaca does not list trade_updates among our streams"
)

PATHS = {
    UpstreamState.CONNECTING: (),
    UpstreamState.AUTHENTICATING: (),
    UpstreamState.SUBSCRIBING: (frames.AUTHORIZED,),
    UpstreamState.STREAMING: (frames.AUTHORIZED, frames.LISTENING),
    UpstreamState.CLOSING: (frames.UNAUTHORIZED,),
}
"""The frames that bring a new session to each state."""


def new_session(
    credentials: Credentials = PAIR, dialect: Dialect = Dialect.AUTHENTICATE
) -> UpstreamSession:
    """Return a session in CONNECTING."""
    return UpstreamSession(credentials, dialect, "ALPACA_API_KEY")


def encode_effects(effects: tuple[UpstreamEffect, ...]) -> EncodedEffects:
    """Return `effects` with each SendRequest as the bytes of its message."""
    return tuple(
        encode(effect.message) if isinstance(effect, SendRequest) else effect for effect in effects
    )


def publish(payload: bytes) -> PublishEvent:
    """Return the effect that publishes the event of a frame."""
    message = parse_server(payload)
    assert isinstance(message, TradeUpdate), payload
    return PublishEvent(message.event)


def session_in(state: UpstreamState) -> UpstreamSession:
    """Return a session that reached `state` on the usual path."""
    session = new_session()
    if state is not UpstreamState.CONNECTING:
        session.opened()
    for payload in PATHS[state]:
        session.received(payload)
    assert session.state is state
    return session


class UpstreamSessionTests(SynchronousTestCase):
    """The session as a table of states and frames."""

    def assert_rows(self, state: UpstreamState, rows: dict[bytes, Row]) -> None:
        """Assert the effects and the next state of each frame in `state`."""
        for payload, (effects, next_state) in rows.items():
            session = session_in(state)
            self.assertEqual(encode_effects(session.received(payload)), effects, (state, payload))
            self.assertIs(session.state, next_state, (state, payload))

    def test_opened_sends_login_in_configured_dialect(self) -> None:
        """The client sends first. An OAuth token has the same form in both dialects."""
        table: list[tuple[Credentials, Dialect, bytes]] = [
            (PAIR, Dialect.AUTHENTICATE, frames.AUTHENTICATE),
            (PAIR, Dialect.AUTH, frames.AUTH),
            (TOKEN, Dialect.AUTHENTICATE, frames.OAUTH),
            (TOKEN, Dialect.AUTH, frames.OAUTH),
        ]
        for credentials, dialect, payload in table:
            session = new_session(credentials, dialect)
            self.assertIs(session.state, UpstreamState.CONNECTING)
            self.assertEqual(encode_effects(session.opened()), (payload,), dialect)
            self.assertIs(session.state, UpstreamState.AUTHENTICATING)

    def test_received_login_and_ack_starts_stream(self) -> None:
        """After login, listen and ack, each event is published with its bytes unchanged."""
        session = new_session()
        self.assertEqual(encode_effects(session.opened()), (frames.AUTHENTICATE,))
        self.assertEqual(encode_effects(session.received(frames.AUTHORIZED)), (frames.LISTEN,))
        self.assertEqual(encode_effects(session.received(frames.LISTENING)), (StreamUp(),))
        for payload in frames.TRADE_UPDATES:
            (effect,) = session.received(payload)
            assert isinstance(effect, PublishEvent), payload
            self.assertIs(effect.event.payload, payload)
        self.assertIs(session.state, UpstreamState.STREAMING)
        self.assertIsNone(session.disconnect)

    def test_received_while_authenticating_follows_table(self) -> None:
        """`authorized` sends listen, a rejection closes, and every other frame keeps the state."""
        state = UpstreamState.AUTHENTICATING
        rows: dict[bytes, Row] = {
            frames.AUTHORIZED: ((frames.LISTEN,), UpstreamState.SUBSCRIBING),
            frames.UNAUTHORIZED: ((CloseConnection(),), UpstreamState.CLOSING),
            frames.KEY_REFUSED: ((CloseConnection(),), UpstreamState.CLOSING),
            frames.LIMIT_REJECTION: ((CloseConnection(),), UpstreamState.CLOSING),
            frames.LIMIT_ERROR: ((CloseConnection(),), UpstreamState.CLOSING),
            frames.FILL: ((publish(frames.FILL),), state),
            frames.LISTENING: ((DropFrame("a frame out of turn"),), state),
            frames.LISTENING_TO_NOTHING: ((DropFrame("a frame out of turn"),), state),
            frames.SERVER_ERROR: ((DropFrame("an error frame"),), state),
            frames.NULL_DATA: ((DropFrame("a frame without a data object"),), state),
            UNKNOWN: ((DropFrame("a frame of an unknown kind"),), state),
            b"junk": ((DropFrame("not JSON"),), state),
        }
        self.assert_rows(state, rows)

    def test_received_while_subscribing_follows_table(self) -> None:
        """An ack with trade_updates starts the stream; one without it closes."""
        state = UpstreamState.SUBSCRIBING
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
            frames.FILL: ((publish(frames.FILL),), state),
            frames.AUTHORIZED: ((DropFrame("a frame out of turn"),), state),
            frames.SERVER_ERROR: ((DropFrame("an error frame"),), state),
            frames.NULL_DATA: ((DropFrame("a frame without a data object"),), state),
            UNKNOWN: ((DropFrame("a frame of an unknown kind"),), state),
            b"junk": ((DropFrame("not JSON"),), state),
        }
        self.assert_rows(state, rows)

    def test_received_while_streaming_follows_table(self) -> None:
        """Junk and repeated replies are dropped; only a loss of the stream closes."""
        state = UpstreamState.STREAMING
        rows: dict[bytes, Row] = {
            frames.FILL: ((publish(frames.FILL),), state),
            frames.LISTENING: ((DropFrame("a frame out of turn"),), state),
            frames.AUTHORIZED: ((DropFrame("a frame out of turn"),), state),
            frames.SERVER_ERROR: ((DropFrame("an error frame"),), state),
            frames.NULL_DATA: ((DropFrame("a frame without a data object"),), state),
            UNKNOWN: ((DropFrame("a frame of an unknown kind"),), state),
            b"junk": ((DropFrame("not JSON"),), state),
            frames.LISTENING_TO_NOTHING: ((CloseConnection(),), UpstreamState.CLOSING),
            frames.UNAUTHORIZED: ((CloseConnection(),), UpstreamState.CLOSING),
            frames.LIMIT_ERROR: ((CloseConnection(),), UpstreamState.CLOSING),
        }
        self.assert_rows(state, rows)

    def test_received_while_closing_publishes_events_only(self) -> None:
        """An event that arrives before the close is published; other frames have no effect."""
        state = UpstreamState.CLOSING
        rows: dict[bytes, Row] = {
            frames.FILL: ((publish(frames.FILL),), state),
            frames.AUTHORIZED: ((), state),
            frames.UNAUTHORIZED: ((), state),
            frames.LISTENING: ((), state),
            frames.LISTENING_TO_NOTHING: ((), state),
            frames.SERVER_ERROR: ((), state),
            frames.LIMIT_ERROR: ((), state),
            frames.NULL_DATA: ((), state),
            UNKNOWN: ((), state),
            b"junk": ((), state),
        }
        self.assert_rows(state, rows)

    def test_received_event_during_login_is_published(self) -> None:
        """An event may arrive where the ack is expected. The original proxy lost such an event."""
        session = session_in(UpstreamState.AUTHENTICATING)
        self.assertEqual(encode_effects(session.received(frames.NEW)), (publish(frames.NEW),))
        self.assertEqual(encode_effects(session.received(frames.AUTHORIZED)), (frames.LISTEN,))
        self.assertEqual(encode_effects(session.received(frames.FILL)), (publish(frames.FILL),))
        self.assertEqual(encode_effects(session.received(frames.LISTENING)), (StreamUp(),))

    def test_received_fatal_frame_sets_disconnect(self) -> None:
        """The disconnect tells apart a rejected key, a taken slot and a lost stream."""
        table = {
            frames.UNAUTHORIZED: REFUSED,
            frames.KEY_REFUSED: REFUSED,
            frames.LISTEN_UNAUTHORIZED: REFUSED,
            frames.LIMIT_REJECTION: LIMITED,
            frames.LIMIT_ERROR: LIMITED,
            OTHER_LIMIT_ERROR: LIMITED,
            frames.LISTENING_TO_NOTHING: NOT_LISTED,
        }
        for state in (UpstreamState.SUBSCRIBING, UpstreamState.STREAMING):
            for payload, disconnect in table.items():
                session = session_in(state)
                session.received(payload)
                self.assertEqual(session.disconnect, disconnect, (state, payload))

    def test_received_second_fatal_frame_keeps_first_disconnect(self) -> None:
        """A frame that arrives after the session closed does not change the cause."""
        session = session_in(UpstreamState.AUTHENTICATING)
        session.received(frames.LIMIT_ERROR)
        session.received(frames.UNAUTHORIZED)
        self.assertEqual(session.disconnect, LIMITED)

    def test_login_timed_out_before_stream_closes(self) -> None:
        """The reason names the missing answer; in every other state the timeout has no effect."""
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
        for state, (effects, disconnect) in table.items():
            session = session_in(state)
            self.assertEqual(session.login_timed_out(), effects, state)
            self.assertEqual(session.disconnect, disconnect, state)
            self.assertIs(session.state, UpstreamState.CLOSING if effects else state, state)

    def test_received_other_wordings_of_limit_is_limit(self) -> None:
        """Alpaca's text for the limit is not documented. Users report these."""
        refusals = (
            "Your connection is rejected while another connection is open under the same account",
            "connection limit exceeded",
        )
        errors = (
            {"T": "error", "code": 406, "msg": "connection limit exceeded"},
            {"T": "error", "code": 406, "msg": "maximum reached"},
            {"T": "error", "msg": "ANOTHER CONNECTION is open"},
        )
        payloads = [
            *(encode(Authorization(authorized=False, message=text)) for text in refusals),
            *(json.dumps(error).encode() for error in errors),
            *(json.dumps([error]).encode() for error in errors),
        ]
        for payload in payloads:
            session = session_in(UpstreamState.AUTHENTICATING)
            session.received(payload)
            self.assertEqual(session.disconnect, LIMITED, payload)

    def test_received_refusal_with_unknown_message_waits_as_for_limit(self) -> None:
        """It may be another wording of the limit. The message is bounded and escaped."""
        reason = "login refused for an unknown reason"
        for message, quote in (
            ("account is \x1b[31m frozen", "account is \\x1b[31m frozen"),
            ("no " * 65 + "abcdefg", "no " * 65 + "abcde"),
        ):
            session = session_in(UpstreamState.AUTHENTICATING)
            session.received(encode(Authorization(authorized=False, message=message)))
            self.assertEqual(
                session.disconnect, Disconnect(DisconnectCause.LIMITED, reason, quote=quote)
            )

    def test_received_refusal_about_key_is_refusal(self) -> None:
        """A person has to replace the key: the reason names its variable."""
        for message in ("", "access key verification failed", "Invalid credentials"):
            session = session_in(UpstreamState.AUTHENTICATING)
            session.received(encode(Authorization(authorized=False, message=message)))
            self.assertEqual(session.disconnect, REFUSED, message)

    def test_received_message_with_credentials_is_quoted_without_them(self) -> None:
        """A hostile server may send them back: whole, in part, or encoded."""
        secret = "AKHUSH0123456789"
        session = new_session(KeyPair(Secret(secret), Secret("S")))
        session.opened()
        echo = f"{secret} x{secret[:9]} {secret.encode().hex()} frozen: {secret[6:12]}."
        session.received(encode(Authorization(authorized=False, message=echo)))
        assert session.disconnect is not None
        self.assertEqual(session.disconnect.quote, "... ... ... frozen: ...")

    def test_received_message_is_quoted_without_fragments_of_credentials(self) -> None:
        """Four characters of a key are too many, and so is a word as long as a key."""
        for secret, word, is_quoted in (
            ("AKHUSH01", "xAKHUx", False),
            ("AKHUSH01", "xSH01x", False),
            ("AKHUSH01", "xAKHxH01x", True),
            ("AKH", "xAKHx", False),
            ("AKH", "xAKx", True),
            ("AKHUSH01", "x" * 15, True),
            ("AKHUSH01", "x" * 16, False),
        ):
            session = new_session(KeyPair(Secret(secret), Secret("?")))
            session.opened()
            session.received(encode(Authorization(authorized=False, message=f"frozen {word}")))
            assert session.disconnect is not None
            quote = f"frozen {word}" if is_quoted else "frozen ..."
            self.assertEqual(session.disconnect.quote, quote, (secret, word))

    def test_received_message_with_split_credentials_is_not_quoted(self) -> None:
        """No word of it shows enough, but the words together do: as they are, or as hex digits."""
        for text, is_quoted in (
            ("frozen AK HU", False),
            ("frozen 41 4B 48 55", False),
            ("frozen AK HX 41 4B 48 58", True),
        ):
            session = new_session(KeyPair(Secret("AKHUSH01"), Secret("??")))
            session.opened()
            session.received(encode(Authorization(authorized=False, message=text)))
            assert session.disconnect is not None
            self.assertEqual(session.disconnect.quote, text if is_quoted else "...")

    def test_repr_of_effects_and_disconnect_hides_credentials(self) -> None:
        """Neither the login effect nor the reason of a rejection shows a credential."""
        session = new_session(KeyPair(Secret("HUSH"), Secret("HUSH")))
        self.assertNotIn("HUSH", repr(session.opened()))
        session.received(frames.KEY_REFUSED)
        self.assertNotIn("HUSH", repr(session.disconnect))
        self.assertIn("ALPACA_API_KEY", repr(session.disconnect))
