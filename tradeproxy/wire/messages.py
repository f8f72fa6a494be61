"""The messages of Alpaca's trade-updates stream, in both directions, as values.

The formats follow Alpaca's documentation ("WebSocket Streaming", trading API) and its SDKs. An
invalid frame becomes a value too (Malformed), never an exception: Autobahn drops the connection
if onMessage raises.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypeAlias, assert_never

from tradeproxy.wire.credentials import Credentials, KeyPair, OAuthToken, Secret
from tradeproxy.wire.event import Event, Number, parse_event, read_event

TRADE_UPDATES = "trade_updates"
"""The name of the only stream of trading events."""

AUTHORIZATION = "authorization"
LISTENING = "listening"


class Dialect(Enum):
    """The format of a login: `auth` is what Alpaca documents, `authenticate` what SDKs send."""

    AUTHENTICATE = "authenticate"
    AUTH = "auth"


@dataclass(frozen=True, slots=True)
class Authenticate:
    """A client logs in."""

    credentials: Credentials
    dialect: Dialect


@dataclass(frozen=True, slots=True)
class Listen:
    """A client sets the full list of its streams; an empty list stops them all."""

    streams: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Unlisten:
    """A client removes streams from its list."""

    streams: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class UnknownRequest:
    """Valid JSON from a client that is no known request."""


@dataclass(frozen=True, slots=True)
class Authorization:
    """The server accepts or rejects a login. `action` names the request that it answers."""

    authorized: bool
    action: str = "authenticate"
    message: str = ""


@dataclass(frozen=True, slots=True)
class Authenticated:
    """The original proxy's reply to an `auth` login, in Alpaca's market data format."""


@dataclass(frozen=True, slots=True)
class Listening:
    """The server confirms the list of streams that it now sends."""

    streams: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TradeUpdate:
    """One trading event."""

    event: Event


@dataclass(frozen=True, slots=True)
class ServerError:
    """The server reports an error. It then usually closes the connection.

    `code` is that of Alpaca's data streams, such as 406: connection limit exceeded; None without.
    """

    message: str
    code: int | None = None


@dataclass(frozen=True, slots=True)
class Malformed:
    """An unusable frame. `problem` is a fixed phrase, never text from the frame."""

    problem: str


ClientMessage: TypeAlias = Authenticate | Listen | Unlisten | UnknownRequest | Malformed
ServerMessage: TypeAlias = Authorization | Listening | TradeUpdate | ServerError | Malformed
Sendable: TypeAlias = (
    Authenticate | Listen | Unlisten | Authorization | Authenticated | Listening | ServerError
)

NOT_JSON = Malformed("not JSON")
NO_DATA = Malformed("a frame without a data object")
UNKNOWN_FRAME = Malformed("a frame of an unknown kind")

_DECODER = json.JSONDecoder(parse_int=Number, parse_float=Number)
_CODE = re.compile("[1-9][0-9]{2}", re.ASCII)


def parse_client(payload: bytes) -> ClientMessage:
    """Parse one message from a client, from a text or a binary frame."""
    match _load(payload):
        case Malformed() as malformed:
            return malformed
        case {"action": "auth", **fields}:
            return Authenticate(_credentials(fields, "key", "secret"), Dialect.AUTH)
        case {"action": "authenticate", **fields}:
            data = fields.get("data")
            return Authenticate(_credentials(data, "key_id", "secret_key"), Dialect.AUTHENTICATE)
        case {"action": "listen", "data": {"streams": [*streams]}}:
            return Listen(_names(streams))
        case {"action": "unlisten", "data": {"streams": [*streams]}}:
            return Unlisten(_names(streams))
    return UnknownRequest()


def parse_server(payload: bytes) -> ServerMessage:
    """Parse one message from Alpaca, from a text or a binary frame."""
    if (event := parse_event(payload)) is not None:
        return TradeUpdate(event)
    match _load(payload):
        case Malformed() as malformed:
            return malformed
        case {"stream": "trade_updates", "data": {} as data}:
            return _trade_update(payload, data)
        case {"stream": "authorization", "data": {"status": str(status)} as data}:
            return Authorization(
                status == "authorized", _text(data, "action"), _text(data, "message")
            )
        case {"stream": "listening", "data": {"streams": [*streams]}}:
            return Listening(_names(streams))
        case {"action": "error", "data": data}:
            return ServerError(_text(data, "error_message"))
        case ({"T": "error"} as error) | [{"T": "error"} as error, *_]:
            # The form of Alpaca's data streams ("Real-time Stock Data": Errors).
            return ServerError(_text(error, "msg"), _read_code(error.get("code")))
        case {"stream": str()}:
            return NO_DATA
    return UNKNOWN_FRAME


def encode(message: Sendable) -> bytes:
    """Encode a message as Alpaca or its clients do: compact JSON in UTF-8."""
    return json.dumps(_document(message), separators=(",", ":")).encode()


def _document(message: Sendable) -> Any:
    match message:
        case Authenticate(credentials, dialect):
            return _authentication(credentials, dialect)
        case Listen(streams):
            return {"action": "listen", "data": {"streams": streams}}
        case Unlisten(streams):
            return {"action": "unlisten", "data": {"streams": streams}}
        case Authorization(authorized, action, text):
            status = "authorized" if authorized else "unauthorized"
            optional = {"message": text} if text else {}
            return {
                "stream": AUTHORIZATION,
                "data": {"status": status, "action": action, **optional},
            }
        case Authenticated():
            return [{"T": "success", "msg": "authenticated"}]
        case Listening(streams):
            return {"stream": LISTENING, "data": {"streams": streams}}
        case ServerError(text, None):
            return {"action": "error", "data": {"error_message": text}}
        case ServerError(text, code):
            return [{"T": "error", "code": code, "msg": text}]
        case _:  # pragma: no cover
            assert_never(message)


def _authentication(credentials: Credentials, dialect: Dialect) -> Any:
    match credentials, dialect:
        case KeyPair(key_id, secret_key), Dialect.AUTH:
            return {"action": "auth", "key": key_id.reveal(), "secret": secret_key.reveal()}
        case KeyPair(key_id, secret_key), _:
            data = {"key_id": key_id.reveal(), "secret_key": secret_key.reveal()}
        case OAuthToken(token), _:  # the `auth` dialect has no OAuth
            data = {"oauth_token": token.reveal()}
        case _:  # pragma: no cover
            assert_never(credentials)
    return {"action": "authenticate", "data": data}


def _trade_update(payload: bytes, data: dict[str, Any]) -> TradeUpdate | Malformed:
    try:
        return TradeUpdate(read_event(payload, data))
    except (ValueError, RecursionError):  # too deep to serialize for the digest, though it parsed
        return NOT_JSON


def _load(payload: bytes) -> Any:
    """Return the JSON value, or NOT_JSON, which never equals a JSON value."""
    # json.loads would build a decoder per call and detect UTF-16 and UTF-32.
    # RecursionError: "[[[[…".
    try:
        return _DECODER.decode(payload.decode("utf-8"))
    except (ValueError, RecursionError):
        return NOT_JSON


def _credentials(fields: Any, key_name: str, secret_name: str) -> Credentials:
    if token := _text(fields, "oauth_token"):
        return OAuthToken(Secret(token))
    return KeyPair(Secret(_text(fields, key_name)), Secret(_text(fields, secret_name)))


def _names(streams: list[Any]) -> tuple[str, ...]:
    return tuple(name for name in streams if isinstance(name, str))


def _read_code(value: Any) -> int | None:
    text = value.text if isinstance(value, Number) else ""
    return int(text) if _CODE.fullmatch(text) else None


def _text(fields: Any, name: str) -> str:
    value = fields.get(name) if isinstance(fields, dict) else None
    return value if isinstance(value, str) else ""
