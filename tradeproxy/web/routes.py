"""Which path means what: the stream endpoints of each account, health, and the dashboard."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum, auto
from functools import lru_cache
from typing import NamedTuple, TypeAlias
from urllib.parse import unquote_to_bytes

from tradeproxy.config.accounts import RESERVED_NAMES
from tradeproxy.downstream.session import ProtocolMode
from tradeproxy.web.static import INDEX


class PageRoute(Enum):
    """A path that is no account's."""

    HEALTHZ = auto()
    READYZ = auto()
    STATUS = auto()
    METRICS = auto()


@dataclass(frozen=True, slots=True)
class AssetRoute:
    """A file of the dashboard, which need not exist."""

    name: str


@dataclass(frozen=True, slots=True)
class StreamRoute:
    """The stream of the account with this name, which need not exist."""

    account: str
    mode: ProtocolMode


@dataclass(frozen=True, slots=True)
class SseRoute:
    """The same as server-sent events."""

    account: str


Route: TypeAlias = PageRoute | AssetRoute | StreamRoute | SseRoute

_PAGES: dict[bytes, Route] = {
    b"/": AssetRoute(INDEX),
    b"/healthz": PageRoute.HEALTHZ,
    b"/readyz": PageRoute.READYZ,
    b"/status.json": PageRoute.STATUS,
    b"/metrics": PageRoute.METRICS,
}
_ASSET = re.compile(rb"/dashboard/(?P<name>[a-z]+\.[a-z]+)")
_STREAM = re.compile(
    rb"/(?:trade-updates-)?(?P<account>[a-z0-9_]{1,64})(?:(?P<alpaca>/stream)|(?P<events>/v2/events/trades))?"
)


@lru_cache(maxsize=64)
def route(path: bytes) -> Route | None:
    """Return what `path`, without its query, stands for; None if nothing.

    Repeated and trailing slashes make no difference: SDKs append "/stream/" to whatever they are given.
    """
    path = re.sub(rb"/+", b"/", path).rstrip(b"/") or path[:1]
    if asset := _ASSET.fullmatch(path):
        return AssetRoute(asset["name"].decode("ascii"))
    match = _STREAM.fullmatch(path)
    if match is None or path == b"/stream":  # which an SDK asks for whose base URL has no path
        return _PAGES.get(path)
    account = match["account"].decode("ascii")
    if account in RESERVED_NAMES:
        return _PAGES.get(path)
    if match["events"]:
        return SseRoute(account)
    return StreamRoute(account, ProtocolMode.ALPACA if match["alpaca"] else ProtocolMode.ORIGINAL)


class Paths(NamedTuple):
    """An account's own paths: in the original proxy's manner, in Alpaca's, and as server-sent events."""

    original: str
    alpaca: str
    events: str


def account_paths(account: str) -> Paths:
    """Return the paths at which an account's stream is announced."""
    path = f"/trade-updates-{account}"
    return Paths(path, f"{path}/stream", f"{path}/v2/events/trades")


_TARGET = re.compile(
    # Of visible ASCII, "#" has no place in a request, and "?" begins the query.
    rb"/+(?:trade-updates-)?(?P<account>[a-z0-9_]{1,64})/+"
    rb"(?P<target>v2/(?P<path>[!\"$->@-~]+)(?:\?[!\"$-~]*)?)"
)
_OUTSIDE = re.compile(rb"(?:\A|[/\\])[. ]*(?:;[^/\\]*)?(?=[/\\]|\Z)|[\x00-\x1f\x7f]")
_MOST_CODINGS = 3


@dataclass(frozen=True, slots=True)
class RestRequest:
    """An account, which need not exist, and the target beneath its base URL: "/v2/", a path and a query."""

    account: str
    target: bytes


def match_rest_request(uri: bytes) -> RestRequest | None:
    """Return what the target of a request line asks of Alpaca, None if nothing that is passed through.

    What stands behind /v2/ is left as it is. None of its segments may be empty or made of dots, before and
    after any decoding, and between slashes of either kind: no reading of such a path leads out of /v2/.
    """
    match = _TARGET.fullmatch(uri)
    if match is None or not _stays_inside(match["path"].removesuffix(b"/")):
        return None
    account = match["account"].decode("ascii")
    return None if account in RESERVED_NAMES else RestRequest(account, b"/" + match["target"])


def _stays_inside(path: bytes) -> bool:
    for _ in range(_MOST_CODINGS):
        if _OUTSIDE.search(path):
            return False
        coded, path = path, unquote_to_bytes(path)
        if path == coded:
            return True
    return False
