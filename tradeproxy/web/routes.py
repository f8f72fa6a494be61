"""Routes: which path names a stream, the state of an account, a REST request, health or a page."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from enum import Enum, auto
from functools import lru_cache
from typing import TypeAlias
from urllib.parse import unquote_to_bytes

from tradeproxy.config.accounts import RESERVED_NAMES
from tradeproxy.downstream.admission import Rejection
from tradeproxy.downstream.session import ProtocolMode
from tradeproxy.web.static import INDEX


class PageRoute(Enum):
    """A page that belongs to no account."""

    HEALTHZ = auto()
    READYZ = auto()
    STATUS = auto()
    METRICS = auto()
    DASHBOARD = auto()
    """Leads to the dashboard, which is at "/"."""


@dataclass(frozen=True, slots=True)
class AssetRoute:
    """A file of the dashboard; it may not exist."""

    name: str


@dataclass(frozen=True, slots=True)
class StreamRoute:
    """The WebSocket stream of an account; the account may not exist."""

    account: str
    mode: ProtocolMode


@dataclass(frozen=True, slots=True)
class SseRoute:
    """The server-sent events of an account; the account may not exist."""

    account: str


class StatePage(Enum):
    """A page about an account's state; the value is the end of its path."""

    STATE = "state"
    ORDERS = "orders"
    POSITIONS = "positions"
    EVENTS = "events"
    STRATEGIES = "strategies"


@dataclass(frozen=True, slots=True)
class StateRoute:
    """A page about the state of an account; the account may not exist."""

    account: str
    page: StatePage
    order_id: str | None = None
    """Of one order, for ORDERS; None for the list."""


@dataclass(frozen=True, slots=True)
class StrategyRoute:
    """What changes the strategies of an account; the account may not exist."""

    account: str
    order_id: str | None
    """The order that is assigned by hand; None for the import."""


Route: TypeAlias = PageRoute | AssetRoute | StreamRoute | SseRoute | StateRoute | StrategyRoute

_PAGES: dict[str, Route] = {
    "/": AssetRoute(INDEX),
    "/healthz": PageRoute.HEALTHZ,
    "/readyz": PageRoute.READYZ,
    "/status.json": PageRoute.STATUS,
    "/metrics": PageRoute.METRICS,
    "/dashboard": PageRoute.DASHBOARD,
}
_ASSET = re.compile(r"/dashboard/(?P<name>[a-z]+\.[a-z]+)")
_STREAM = re.compile(
    r"/(?:trade-updates-)?(?P<account>[a-z0-9_]{1,64})"
    r"(?:(?P<alpaca>/stream)|(?P<events>/v2/events/trades))?"
)
_STATE = re.compile(
    # "/v2/orders" lacks the account's name. It is not the page of an account named "v2".
    r"/(?:trade-updates-|(?!v[0-9]+(?:(?:alpha|beta)[0-9]+)?/))(?P<account>[a-z0-9_]{1,64})"
    r"(?:/stream)?/(?P<page>state|orders|positions|events|strategies)"
    r"(?:(?<=orders)/(?P<order>[A-Za-z0-9._~-]{1,128}))?"
)
_STRATEGY = re.compile(
    r"/(?:trade-updates-)?(?P<account>[a-z0-9_]{1,64})(?:/stream)?"
    r"/strategies/(?:import|orders/(?P<order>[A-Za-z0-9._~-]{1,128}))"
)


@lru_cache(maxsize=64)
def route(path: bytes) -> Route | None:
    """Return the route of `path`, which has no query; None if no route matches.

    Repeated and trailing slashes make no difference, since SDKs append "/stream/" to any base URL.
    """
    text = path.decode("latin-1")  # whatever is beyond ASCII matches nothing
    text = re.sub("/+", "/", text).rstrip("/") or text[:1]
    if asset := _ASSET.fullmatch(text):
        return AssetRoute(asset["name"])
    if (state := _STATE.fullmatch(text)) and state["account"] not in RESERVED_NAMES:
        return StateRoute(state["account"], StatePage(state["page"]), state["order"])
    if (change := _STRATEGY.fullmatch(text)) and change["account"] not in RESERVED_NAMES:
        return StrategyRoute(change["account"], change["order"])
    match = _STREAM.fullmatch(text)
    # An SDK requests "/stream" if its base URL has no path. It is not an account named "stream".
    if match is None or text == "/stream" or match["account"] in RESERVED_NAMES:
        return _PAGES.get(text)
    if match["events"]:
        return SseRoute(match["account"])
    mode = ProtocolMode.ALPACA if match["alpaca"] else ProtocolMode.ORIGINAL
    return StreamRoute(match["account"], mode)


def find_path(account: str, suffix: str = "") -> str:
    """Return the documented path of an account; the short form without "trade-updates-" works too.

    Without a suffix it has the original proxy's protocol; with "/stream", Alpaca's. The pages about
    its state are below both.
    """
    return f"/trade-updates-{account}{suffix}"


_TARGET = re.compile(
    # Visible ASCII without "#", which a request target may not have, and "?", which starts the
    # query (RFC 9112, 3.2; RFC 3986, 3.3).
    rb"/+(?:trade-updates-)?(?P<account>[a-z0-9_]{1,64})/+"
    rb"(?P<target>v[0-9]+(?:(?:alpha|beta)[0-9]+)?/(?P<path>[!\"$->@-~]+)(?:\?[!\"$-~]*)?)"
)

_UNSAFE = re.compile(rb"(?:\A|[/\\])[. ]*(?:;[^/\\]*)?(?=[/\\]|\Z)|[\x00-\x1f\x7f]")
"""A control character, or a segment that is empty or has only dots and spaces before a semicolon.

A backslash separates segments too: some servers treat it as a slash.
"""

_SEPARATORS = frozenset("./\\;%")

MAX_DECODINGS = 3
"""Levels of percent-encoding that are checked; a path with more is not forwarded."""


@dataclass(frozen=True, slots=True)
class RestRequest:
    """A request for the REST proxy; the account may not exist."""

    account: str
    target: bytes
    """The version ("/v2/", "/v2beta1/"), a path and a query, relative to the account's base URL."""


BAD_PATH = Rejection(
    400, "the path is not UTF-8, or has a character that some servers take for a dot or a slash"
)


def match_rest_request(uri: bytes) -> RestRequest | Rejection | None:
    """Return the REST request that a request target names; None if it is not forwarded.

    Returns BAD_PATH if the path is not UTF-8 at some level of decoding (an overlong encoding of a
    dot is not), or has a character such as a full-width dot.

    The part after the version is kept as it is. No segment of it may be empty or consist of dots,
    at any level of decoding, with slashes or backslashes. So no server can resolve it outside of
    the version's path.
    """
    match = _TARGET.fullmatch(uri)
    if match is None or match["account"].decode("ascii") in RESERVED_NAMES:
        return None
    levels = _decode(match["path"].removesuffix(b"/"))
    if any(map(_is_ambiguous, levels)):
        return BAD_PATH
    if len(levels) > MAX_DECODINGS or any(map(_UNSAFE.search, levels)):
        return None
    return RestRequest(match["account"].decode("ascii"), b"/" + match["target"])


def _decode(path: bytes) -> list[bytes]:
    """Return the path and its decodings: one more than MAX_DECODINGS if that is not enough."""
    levels = [path]
    while len(levels) <= MAX_DECODINGS and (decoded := unquote_to_bytes(levels[-1])) != levels[-1]:
        levels.append(decoded)
    return levels


def _is_ambiguous(path: bytes) -> bool:
    """Whether servers may read this path in different ways."""
    if path.isascii():
        return False
    try:
        text = path.decode()
    except UnicodeDecodeError:
        return True
    # NFKC makes a dot of a full-width dot, for example.
    return any(
        not character.isascii()
        and not _SEPARATORS.isdisjoint(unicodedata.normalize("NFKC", character))
        for character in text
    )
