"""Which path means what: the stream endpoints of each account, and health."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum, auto
from typing import TypeAlias

from tradeproxy.downstream.session import Manner


class Page(Enum):
    """A path that is no account's."""

    HEALTHZ = auto()
    READYZ = auto()


@dataclass(frozen=True, slots=True)
class Stream:
    """The stream of the account with this name, which need not exist."""

    account: str
    manner: Manner


Route: TypeAlias = Page | Stream

_PAGES: dict[bytes, Route] = {b"/healthz": Page.HEALTHZ, b"/readyz": Page.READYZ}
_RESERVED = frozenset({b"healthz", b"readyz", b"metrics"})
_STREAM = re.compile(rb"/(?:trade-updates-)?(?P<account>[a-z0-9_]{1,64})(?P<alpaca>/stream)?")


def route(path: bytes) -> Route | None:
    """Return what `path`, without its query, stands for; None if nothing.

    Repeated and trailing slashes make no difference: SDKs append "/stream/" to whatever they are given.
    """
    path = re.sub(rb"/+", b"/", path).rstrip(b"/")
    match = _STREAM.fullmatch(path)
    if match is None or match["account"] in _RESERVED or path == b"/stream":
        return _PAGES.get(path)  # "/stream" is what an SDK asks for whose base URL has no path
    manner = Manner.ALPACA if match["alpaca"] else Manner.ORIGINAL
    return Stream(match["account"].decode("ascii"), manner)


def paths(account: str) -> dict[str, str]:
    """Return an account's paths: `own`, in the original proxy's manner, and `alpacas`, in Alpaca's."""
    return {"own": f"/trade-updates-{account}", "alpacas": f"/trade-updates-{account}/stream"}
