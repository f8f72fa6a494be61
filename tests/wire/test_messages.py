"""Tests for tradeproxy.wire.messages."""

from __future__ import annotations

import json
from bisect import bisect_left
from typing import Any, get_args

from hypothesis import example, given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.support import frames
from tests.support.properties import examples
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

repeatable = examples()

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
    """Messages from Alpaca become values."""

    def test_documented_frames_become_values(self) -> None:
        """Each frame in Alpaca's documentation becomes the value that it represents."""
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

    def test_every_captured_update_keeps_its_payload(self) -> None:
        """The payload is the received object itself."""
        self.assertEqual(len(frames.TRADE_UPDATES), 11)
        for payload in frames.TRADE_UPDATES:
            message = parse_server(payload)
            assert isinstance(message, TradeUpdate), payload
            self.assertIs(message.event.payload, payload)

    def test_unknown_events_and_fields_are_trade_updates(self) -> None:
        """New events, extra keys, odd spacing and empty `data` are accepted."""
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

    def test_numbers_of_any_length_are_accepted(self) -> None:
        """JSON has no limit on digits, so Python's limit must not drop an event."""
        payload = b'{"stream":"trade_updates","data":{"qty":' + b"9" * 5000 + b"}}"
        self.assert_passed_on(payload)

    def test_nan_and_infinity_are_forwarded(self) -> None:
        """They are no JSON, but an event with one must not be lost: every byte stays."""
        payload = b'{"stream":"trade_updates","data":{"event":"fill","qty":NaN,"price":-Infinity}}'
        update = parse_server(payload)
        assert isinstance(update, TradeUpdate)
        self.assertEqual(update.event.payload, payload)

    def test_nesting_of_any_depth_raises_nothing(self) -> None:
        """Python 3.11 can parse arrays that are too deep for the digest of the data."""

        def parse(depth: int) -> ServerMessage:
            arrays = b"[" * depth + b"]" * depth
            return parse_server(b'{"stream":"trade_updates","data":{"x":' + arrays + b"}}")

        deepest = bisect_left(
            range(100_000), True, key=lambda depth: not isinstance(parse(depth), TradeUpdate)
        )
        self.assertGreater(deepest, 100)
        for depth in range(deepest - 10, deepest + 10):
            message = parse(depth)
            if message != Malformed("not JSON"):
                self.assertIsInstance(message, TradeUpdate, depth)

    def test_unusable_frame_is_malformed(self) -> None:
        """Each is Malformed with one of three fixed phrases."""
        table = {
            frames.NULL_DATA: "a frame without a data object",
            b'{"stream":"trade_updates"}': "a frame without a data object",
            b'{"stream":"trade_updates","data":[]}': "a frame without a data object",
            b'{"stream":"trade_updates","data":"x"}': "a frame without a data object",
            b'{"stream":"authorization","data":{}}': "a frame without a data object",
            b'{"stream":"listening","data":{"streams":null}}': "a frame without a data object",
            b'{"stream":"listening","data":{"streams":"trade_updates"}}': (
                "a frame without a data object"
            ),
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

    def test_error_frame_without_text_is_server_error(self) -> None:
        """The text of an error frame is optional."""
        for payload in (
            b'{"action":"error","data":null}',
            b'{"action":"error","data":{}}',
            b'{"action":"error","data":{"error_message":500}}',
        ):
            self.assertEqual(parse_server(payload), ServerError(""), payload)

    def test_errors_of_data_streams_have_code(self) -> None:
        """They come in an array. An invalid code counts as none."""
        for payload, message in (
            (b'[{"T":"error","code":406,"msg":"full"}]', ServerError("full", 406)),
            (b'{"T":"error","code":406,"msg":"full"}', ServerError("full", 406)),
            (b'[{"T":"error","code":4e2},{}]', ServerError("")),
            (b'[{"T":"error","code":"406","msg":null}]', ServerError("")),
            (b'[{"T":"error","code":' + b"9" * 5000 + b"}]", ServerError("")),
        ):
            self.assertEqual(parse_server(payload), message, payload[:99])

    def test_stream_names_other_than_text_are_ignored(self) -> None:
        """An ack may list only strings as streams."""
        payload = b'{"stream":"listening","data":{"streams":[null,"trade_updates",1,["x"],{}]}}'
        self.assertEqual(parse_server(payload), Listening(("trade_updates",)))

    def test_other_status_is_unauthorized(self) -> None:
        """Only the status `authorized` accepts a login."""
        for status in (b"unauthorized", b"AUTHORIZED", b"pending", b""):
            payload = b'{"stream":"authorization","data":{"status":"' + status + b'"}}'
            self.assertEqual(
                parse_server(payload), Authorization(authorized=False, action=""), status
            )

    def test_invalid_json_is_malformed(self) -> None:
        """An exception would close the connection to Alpaca."""
        for name, payload in frames.NOT_JSON.items():
            self.assertEqual(parse_server(payload), Malformed("not JSON"), name)

    @repeatable
    @given(st.binary())
    def test_any_bytes_become_a_value(self, payload: bytes) -> None:
        """No input raises."""
        self.assertIsInstance(parse_server(payload), get_args(ServerMessage))

    @repeatable
    @given(documents | replies)
    @example({"stream": "trade_updates", "data": None})
    def test_any_json_becomes_a_value(self, document: Any) -> None:
        """It is a trade update only if `data` is an object."""
        message = parse_server(json.dumps(document).encode())
        self.assertIsInstance(message, get_args(ServerMessage))
        is_event = (
            isinstance(document, dict)
            and document.get("stream") == "trade_updates"
            and isinstance(document.get("data"), dict)
        )
        self.assertEqual(isinstance(message, TradeUpdate), is_event)


class ParseClientTests(SynchronousTestCase):
    """Messages from clients become values."""

    def test_both_dialects_and_oauth_are_parsed(self) -> None:
        """The documented `auth`, the SDKs' `authenticate` and an OAuth token are logins."""
        table = {
            frames.AUTH: Authenticate(PAIR, Dialect.AUTH),
            frames.AUTHENTICATE: Authenticate(PAIR, Dialect.AUTHENTICATE),
            frames.OAUTH: Authenticate(TOKEN, Dialect.AUTHENTICATE),
            b'{"action":"auth","oauth_token":"T"}': Authenticate(TOKEN, Dialect.AUTH),
        }
        for payload, message in table.items():
            self.assertEqual(parse_client(payload), message, payload)

    def test_auth_without_fields_is_empty_key_pair(self) -> None:
        """The original proxy ignored the fields, so some of its clients omit them."""
        table = {
            b'{"action":"auth"}': Dialect.AUTH,
            b'{"action":"auth","key":null,"secret":7}': Dialect.AUTH,
            b'{"action":"authenticate"}': Dialect.AUTHENTICATE,
            b'{"action":"authenticate","data":null}': Dialect.AUTHENTICATE,
            b'{"action":"authenticate","data":["K","S"]}': Dialect.AUTHENTICATE,
            b'{"action":"authenticate","data":{"key_id":["K"],"secret_key":{}}}': (
                Dialect.AUTHENTICATE
            ),
            b'{"action":"authenticate","data":{"oauth_token":""}}': Dialect.AUTHENTICATE,
        }
        for payload, dialect in table.items():
            self.assertEqual(parse_client(payload), Authenticate(NO_PAIR, dialect), payload)

    def test_listen_and_unlisten_are_parsed(self) -> None:
        """Elements of the list that are not strings are ignored."""
        table = {
            frames.LISTEN: Listen(("trade_updates",)),
            frames.LISTEN_TO_NOTHING: Listen(()),
            b'{"action":"listen","data":{"streams":["a",1,null,["b"],{},"c"]}}': Listen(("a", "c")),
            frames.UNLISTEN: Unlisten(("trade_updates",)),
            b'{"action":"unlisten","data":{"streams":[false]}}': Unlisten(()),
        }
        for payload, message in table.items():
            self.assertEqual(parse_client(payload), message, payload)

    def test_other_json_is_unknown_request(self) -> None:
        """Unknown JSON does not close the connection."""
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

    def test_invalid_json_is_malformed(self) -> None:
        """The session closes with a close code."""
        for name, payload in frames.NOT_JSON.items():
            self.assertEqual(parse_client(payload), Malformed("not JSON"), name)

    @repeatable
    @given(st.binary())
    def test_any_bytes_become_a_value(self, payload: bytes) -> None:
        """No input raises."""
        self.assertIsInstance(parse_client(payload), get_args(ClientMessage))

    @repeatable
    @given(documents | requests)
    @example({"action": "auth", "key": "\ud800", "secret": "\udfff"})
    def test_any_json_becomes_a_value(self, document: Any) -> None:
        """Only invalid JSON is Malformed."""
        message = parse_client(json.dumps(document).encode())
        self.assertIsInstance(message, get_args(ClientMessage))
        self.assertNotIsInstance(message, Malformed)


class EncodeTests(SynchronousTestCase):
    """Messages have the exact bytes of Alpaca, its clients and the original proxy."""

    def test_messages_have_documented_bytes(self) -> None:
        """Each message has the documented form, without white space."""
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
            (
                Authorization(authorized=False, message="too many connections"),
                frames.LIMIT_REJECTION,
            ),
            (Authenticated(), frames.AUTHENTICATED),
            (Listening(("trade_updates",)), frames.LISTENING),
            (Listening(()), frames.LISTENING_TO_NOTHING),
            (ServerError("internal server error"), frames.SERVER_ERROR),
            (ServerError("full", 406), b'[{"T":"error","code":406,"msg":"full"}]'),
        ]
        for message, payload in table:
            self.assertEqual(encode(message), payload)

    def test_any_text_is_encoded(self) -> None:
        """A key may contain any character, even a lone surrogate; the result is ASCII."""
        payload = encode(Authenticate(KeyPair(Secret('é"'), Secret("\ud800")), Dialect.AUTH))
        self.assertEqual(payload, rb'{"action":"auth","key":"\u00e9\"","secret":"\ud800"}')


class ReprTests(SynchronousTestCase):
    """The repr of a message contains no credentials."""

    def test_repr_contains_no_credential(self) -> None:
        """This holds for any message from a client or from Alpaca."""
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
