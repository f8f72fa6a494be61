"""Tests for tradeproxy.wire.messages."""

from __future__ import annotations

import json
from typing import Any, get_args

from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.support import frames
from tradeproxy.wire.credentials import KeyPair, OAuthToken, Secret
from tradeproxy.wire.messages import (
    Authenticate,
    Authenticated,
    Authorization,
    ClientMessage,
    Dialect,
    Listen,
    Listening,
    Malformed,
    Sendable,
    ServerError,
    ServerMessage,
    TradeUpdate,
    UnknownRequest,
    Unlisten,
    encode,
    parse_client,
    parse_server,
)

PAIR = KeyPair(Secret("K"), Secret("S"))
NO_PAIR = KeyPair(Secret(""), Secret(""))
TOKEN = OAuthToken(Secret("T"))

repeatable = settings(deadline=None, derandomize=True, max_examples=200)

KEYS = (
    "action",
    "stream",
    "data",
    "streams",
    "status",
    "message",
    "key",
    "secret",
    "key_id",
    "oauth_token",
)
VALUES = (
    "auth",
    "authenticate",
    "listen",
    "unlisten",
    "error",
    "trade_updates",
    "authorization",
    "listening",
)

# The protocol's own words, so that what is made up at random comes close to it.
words = st.sampled_from([*KEYS, *VALUES])

# Lone surrogates too: JSON has an escape for them.
texts = words | st.text(st.characters(exclude_categories=()), max_size=5)
documents = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=12,
)
requests = st.fixed_dictionaries({"action": texts}, optional={"data": documents, "key": documents})
replies = st.fixed_dictionaries({"data": documents}, optional={"stream": texts, "action": texts})


class ParseServerTests(SynchronousTestCase):
    """What Alpaca sends becomes a value."""

    def test_reads_the_documented_handshake_and_error_frames(self) -> None:
        """Each frame of Alpaca's documentation is the value that it stands for."""
        table: dict[bytes, ServerMessage] = {
            frames.AUTHORIZED: Authorization(authorized=True),
            frames.UNAUTHORIZED: Authorization(authorized=False),
            frames.KEY_REFUSED: Authorization(
                authorized=False, message="access key verification failed"
            ),
            frames.LISTEN_UNAUTHORIZED: Authorization(authorized=False, action="listen"),
            frames.LISTENING: Listening(("trade_updates",)),
            frames.LISTENING_TO_NOTHING: Listening(()),
            frames.SERVER_ERROR: ServerError("internal server error"),
        }
        for payload, message in table.items():
            self.assertEqual(parse_server(payload), message, payload)

    def test_passes_on_every_capture_of_a_trade_update_as_it_came(self) -> None:
        """The payload of a trade update is the very object that was received, whatever its year and shape."""
        self.assertEqual(len(frames.TRADE_UPDATES), 11)
        for payload in frames.TRADE_UPDATES:
            message = parse_server(payload)
            assert isinstance(message, TradeUpdate), payload
            self.assertIs(message.event.payload, payload)

    def test_passes_on_events_and_fields_that_are_yet_unknown(self) -> None:
        """An unheard-of event, extra keys, odd spacing and an empty `data` are still a trade update."""
        for payload in (
            b'{"stream":"trade_updates","data":{"event":"teleported"},"v":2}',
            b'{ "data" : { } , "stream" : "trade_updates" }\r\n',
            b'{"stream":"trade_updates","data":{"note":"\\ud800"}}',
            '{"stream":"trade_updates","data":{"note":"é"}}'.encode(),
        ):
            self.assert_passed_on(payload)

    def assert_passed_on(self, payload: bytes) -> None:
        message = parse_server(payload)
        assert isinstance(message, TradeUpdate), payload
        self.assertEqual(message.event.payload, payload)

    def test_passes_on_numbers_of_any_length(self) -> None:
        """JSON knows no largest number, and Python's limit on digits is no reason to lose an event."""
        payload = b'{"stream":"trade_updates","data":{"qty":' + b"9" * 5000 + b"}}"
        self.assert_passed_on(payload)

    def test_tells_apart_what_cannot_be_used(self) -> None:
        """A frame of no use is Malformed, with one of three phrases that count its kind."""
        table = {
            frames.NULL_DATA: "a frame without a data object",
            b'{"stream":"trade_updates"}': "a frame without a data object",
            b'{"stream":"trade_updates","data":[]}': "a frame without a data object",
            b'{"stream":"trade_updates","data":"x"}': "a frame without a data object",
            b'{"stream":"authorization","data":{}}': "a frame without a data object",
            b'{"stream":"listening","data":{"streams":null}}': "a frame without a data object",
            b'{"stream":"listening","data":{"streams":"trade_updates"}}': "a frame without a data object",
            b'{"stream":"weather","data":null}': "a frame without a data object",
            b'{"stream":7,"data":{}}': "a frame of an unknown kind",
            b'{"action":"error"}': "a frame of an unknown kind",
            b'[{"T":"success","msg":"connected"}]': "a frame of an unknown kind",
            b"{}": "a frame of an unknown kind",
            b"null": "a frame of an unknown kind",
            b"1": "a frame of an unknown kind",
        }
        for payload, problem in table.items():
            self.assertEqual(parse_server(payload), Malformed(problem), payload)

    def test_takes_an_error_frame_without_its_text(self) -> None:
        """The server's failure is told apart even when it does not say what failed."""
        for payload in (
            b'{"action":"error","data":null}',
            b'{"action":"error","data":{}}',
            b'{"action":"error","data":{"error_message":500}}',
        ):
            self.assertEqual(parse_server(payload), ServerError(""), payload)

    def test_leaves_out_names_of_streams_that_are_no_text(self) -> None:
        """What is not a string among the streams of an ack is no stream."""
        payload = b'{"stream":"listening","data":{"streams":[null,"trade_updates",1,["x"],{}]}}'
        self.assertEqual(parse_server(payload), Listening(("trade_updates",)))

    def test_takes_only_the_word_authorized_for_a_yes(self) -> None:
        """Any other status is a no."""
        for status in (b"unauthorized", b"AUTHORIZED", b"pending", b""):
            payload = b'{"stream":"authorization","data":{"status":"' + status + b'"}}'
            self.assertEqual(
                parse_server(payload), Authorization(authorized=False, action=""), status
            )

    def test_takes_what_is_not_json_for_a_value(self) -> None:
        """Garbage is Malformed: an exception would end the connection to Alpaca."""
        for name, payload in frames.NOT_JSON.items():
            self.assertEqual(parse_server(payload), Malformed("not JSON"), name)

    @repeatable
    @given(st.binary())
    def test_never_fails_on_bytes(self, payload: bytes) -> None:
        """Whatever the bytes, there is a value for them."""
        self.assertIsInstance(parse_server(payload), get_args(ServerMessage))

    @repeatable
    @given(documents | replies)
    @example({"stream": "trade_updates", "data": None})
    def test_never_fails_on_json(self, document: Any) -> None:
        """Whatever the JSON, it is a value, and a trade update only if it has an object as `data`."""
        message = parse_server(json.dumps(document).encode())
        self.assertIsInstance(message, get_args(ServerMessage))
        is_event = (
            isinstance(document, dict)
            and document.get("stream") == "trade_updates"
            and isinstance(document.get("data"), dict)
        )
        self.assertEqual(isinstance(message, TradeUpdate), is_event)


class ParseClientTests(SynchronousTestCase):
    """What clients send becomes a value."""

    def test_reads_both_dialects_and_oauth(self) -> None:
        """The documented `auth`, the SDKs' `authenticate` and an OAuth token say who the client is."""
        table = {
            frames.AUTH: Authenticate(PAIR, Dialect.AUTH),
            frames.AUTHENTICATE: Authenticate(PAIR, Dialect.AUTHENTICATE),
            frames.OAUTH: Authenticate(TOKEN, Dialect.AUTHENTICATE),
            b'{"action":"auth","oauth_token":"T"}': Authenticate(TOKEN, Dialect.AUTH),
        }
        for payload, message in table.items():
            self.assertEqual(parse_client(payload), message, payload)

    def test_takes_an_auth_message_without_usable_fields_for_an_empty_key_pair(self) -> None:
        """The original proxy never looked at the fields, so that some of its clients send none."""
        table = {
            b'{"action":"auth"}': Dialect.AUTH,
            b'{"action":"auth","key":null,"secret":7}': Dialect.AUTH,
            b'{"action":"authenticate"}': Dialect.AUTHENTICATE,
            b'{"action":"authenticate","data":null}': Dialect.AUTHENTICATE,
            b'{"action":"authenticate","data":["K","S"]}': Dialect.AUTHENTICATE,
            b'{"action":"authenticate","data":{"key_id":["K"],"secret_key":{}}}': Dialect.AUTHENTICATE,
            b'{"action":"authenticate","data":{"oauth_token":""}}': Dialect.AUTHENTICATE,
        }
        for payload, dialect in table.items():
            self.assertEqual(parse_client(payload), Authenticate(NO_PAIR, dialect), payload)

    def test_reads_listen_and_unlisten(self) -> None:
        """The streams are those that are named by a text; what else is in the list is left out."""
        table = {
            frames.LISTEN: Listen(("trade_updates",)),
            frames.LISTEN_TO_NOTHING: Listen(()),
            b'{"action":"listen","data":{"streams":["a",1,null,["b"],{},"c"]}}': Listen(("a", "c")),
            frames.UNLISTEN: Unlisten(("trade_updates",)),
            b'{"action":"unlisten","data":{"streams":[false]}}': Unlisten(()),
        }
        for payload, message in table.items():
            self.assertEqual(parse_client(payload), message, payload)

    def test_takes_other_json_for_an_unknown_request(self) -> None:
        """JSON that asks for nothing we know is no reason to drop anybody."""
        for payload in (
            b"null",
            b"0",
            b'"auth"',
            b"[]",
            b"{}",
            b'{"action":null}',
            b'{"action":["auth"]}',
            b'{"action":"AUTH","key":"K","secret":"S"}',
            b'{"action":"ping"}',
            b'{"action":"listen"}',
            b'{"action":"listen","data":null}',
            b'{"action":"listen","data":{"streams":"trade_updates"}}',
            b'{"action":"unlisten","data":{}}',
        ):
            self.assertEqual(parse_client(payload), UnknownRequest(), payload)

    def test_takes_what_is_not_json_for_a_value(self) -> None:
        """Garbage is Malformed, which the session answers with a close code."""
        for name, payload in frames.NOT_JSON.items():
            self.assertEqual(parse_client(payload), Malformed("not JSON"), name)

    @repeatable
    @given(st.binary())
    def test_never_fails_on_bytes(self, payload: bytes) -> None:
        """Whatever the bytes, there is a value for them."""
        self.assertIsInstance(parse_client(payload), get_args(ClientMessage))

    @repeatable
    @given(documents | requests)
    @example({"action": "auth", "key": "\ud800", "secret": "\udfff"})
    def test_never_fails_on_json(self, document: Any) -> None:
        """Whatever the JSON, it is a value, and never Malformed: only what is not JSON is."""
        message = parse_client(json.dumps(document).encode())
        self.assertIsInstance(message, get_args(ClientMessage))
        self.assertNotIsInstance(message, Malformed)


class EncodeTests(SynchronousTestCase):
    """Messages are written byte for byte as Alpaca, its clients and the original proxy write them."""

    def test_writes_the_documented_bytes(self) -> None:
        """Each message has the documented form, without a space."""
        table: list[tuple[Sendable, bytes]] = [
            (Authenticate(PAIR, Dialect.AUTH), frames.AUTH),
            (Authenticate(PAIR, Dialect.AUTHENTICATE), frames.AUTHENTICATE),
            (Authenticate(TOKEN, Dialect.AUTHENTICATE), frames.OAUTH),
            (Authenticate(TOKEN, Dialect.AUTH), frames.OAUTH),  # `auth` has no form for a token
            (Listen(("trade_updates",)), frames.LISTEN),
            (Listen(()), frames.LISTEN_TO_NOTHING),
            (Unlisten(("trade_updates",)), frames.UNLISTEN),
            (Authorization(authorized=True), frames.AUTHORIZED),
            (Authorization(authorized=False), frames.UNAUTHORIZED),
            (Authorization(authorized=False, action="listen"), frames.LISTEN_UNAUTHORIZED),
            (Authorization(authorized=False, message="too many connections"), frames.LIMIT_REJECTION),
            (Authenticated(), frames.AUTHENTICATED),
            (Listening(("trade_updates",)), frames.LISTENING),
            (Listening(()), frames.LISTENING_TO_NOTHING),
            (ServerError("internal server error"), frames.SERVER_ERROR),
        ]
        for message, payload in table:
            self.assertEqual(encode(message), payload)

    def test_writes_any_text_as_utf_8(self) -> None:
        """A key may hold any character, a lone surrogate even; the result is ASCII, hence UTF-8."""
        payload = encode(Authenticate(KeyPair(Secret('é"'), Secret("\ud800")), Dialect.AUTH))
        self.assertEqual(payload, rb'{"action":"auth","key":"\u00e9\"","secret":"\ud800"}')


class ReprTests(SynchronousTestCase):
    """A message that finds its way into a log or a traceback takes no credential there."""

    def test_no_message_shows_a_credential(self) -> None:
        """Whatever a client or Alpaca sends, its repr has none of the keys that were in the frame."""
        for template in (
            b'{"action":"auth","key":"HUSH","secret":"HUSH"}',
            b'{"action":"authenticate","data":{"key_id":"HUSH","secret_key":"HUSH"}}',
            b'{"action":"authenticate","data":{"oauth_token":"HUSH"}}',
            b'{"action":"auth","oauth_token":"HUSH"}',
            b'{"action":"login","key":"HUSH"}',
            b'{"action":"auth","key":"HUSH"',
            b"HUSH",
        ):
            for message in (parse_client(template), parse_server(template)):
                self.assertNotIn("HUSH", repr(message), template)
