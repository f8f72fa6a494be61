"""The frames of Alpaca's stream as literal bytes, independent of the code under test."""

from __future__ import annotations

from pathlib import Path

FRAMES = tuple(Path(__file__).with_name("trade-updates.jsonl").read_bytes().splitlines())
"""What Alpaca sends: six documented frames, eleven trade updates (mostly captures), one broken."""

AUTHORIZED, UNAUTHORIZED, KEY_REFUSED, LISTEN_UNAUTHORIZED, LISTENING, SERVER_ERROR = FRAMES[:6]
TRADE_UPDATES = FRAMES[6:17]
PENDING_NEW, NEW, FILL, CRYPTO_FILL, FILL_OF_2024, DOCUMENTED_FILL, MULTI_LEG_FILL = FRAMES[6:13]
NEW_OF_2021, PARTIAL_FILL, CANCELED, REJECTED = FRAMES[13:17]
NULL_DATA = FRAMES[17]

LISTENING_TO_NOTHING = b'{"stream":"listening","data":{"streams":[]}}'
LIMIT_ERROR = b'{"action":"error","data":{"error_message":"Connection limit exceeded"}}'
LIMIT_REJECTION = (
    b'{"stream":"authorization","data":'
    b'{"status":"unauthorized","action":"authenticate","message":"too many connections"}}'
)

# What clients send, with the key pair K, S and the OAuth token T.
AUTH = b'{"action":"auth","key":"K","secret":"S"}'
AUTHENTICATE = b'{"action":"authenticate","data":{"key_id":"K","secret_key":"S"}}'
OAUTH = b'{"action":"authenticate","data":{"oauth_token":"T"}}'
LISTEN = b'{"action":"listen","data":{"streams":["trade_updates"]}}'
LISTEN_TO_NOTHING = b'{"action":"listen","data":{"streams":[]}}'
UNLISTEN = b'{"action":"unlisten","data":{"streams":["trade_updates"]}}'

# What the original proxy answers to `auth`.
AUTHENTICATED = b'[{"T":"success","msg":"authenticated"}]'

NOT_JSON = {
    "nothing": b"",
    "prose": b"hello",
    "half a frame": LISTENING[:-1],
    "two frames": LISTENING + LISTENING,
    "Latin-1": '{"action":"é"}'.encode("latin-1"),
    "UTF-16 with a byte order mark": LISTENING.decode().encode("utf-16"),
    "UTF-16 without one": LISTENING.decode().encode("utf-16-le"),
    "UTF-32": LISTENING.decode().encode("utf-32"),
    "an encoded surrogate": b'"\xed\xa0\x80"',
    "MessagePack": b"\x82\xa6action\xa4auth\xa3key\xa1K",
    "deep arrays": b"[" * 100_000,
    "deep arrays that end": b"[" * 100_000 + b"]" * 100_000,
    "deep objects": b'{"data":' * 100_000,
}
"""Payloads that are not JSON, or that cannot be parsed, by the problem."""
