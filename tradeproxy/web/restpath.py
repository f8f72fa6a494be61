"""Which requests are for Alpaca's REST interface, and what they ask of it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from tradeproxy.config.accounts import RESERVED_NAMES

_TARGET = re.compile(
    # Of visible ASCII, "#" has no place in a request, and "?" begins the query.
    rb"/+(?:trade-updates-)?(?P<account>[a-z0-9_]{1,64})/+"
    rb"(?P<target>v2/(?P<path>[!\"$->@-~]+)(?:\?[!\"$-~]*)?)"
)
_OUTSIDE = re.compile(rb"(?:\A|[/\\])[. ]*(?:;[^/\\]*)?(?=[/\\]|\Z)|[\x00-\x1f\x7f]")
_MOST_CODINGS = 3


@dataclass(frozen=True, slots=True)
class Call:
    """An account, which need not exist, and the target beneath its base URL: "/v2/", a path and a query."""

    account: str
    target: bytes


def find_call(uri: bytes) -> Call | None:
    """Return what the target of a request line asks of Alpaca, None if nothing that is passed through.

    What stands behind /v2/ is left as it is. None of its segments may be empty or made of dots, before and
    after any decoding, and between slashes of either kind: no reading of such a path leads out of /v2/.
    """
    match = _TARGET.fullmatch(uri)
    if match is None or not _stays_inside(match["path"].removesuffix(b"/")):
        return None
    account = match["account"].decode("ascii")
    return None if account in RESERVED_NAMES else Call(account, b"/" + match["target"])


def _stays_inside(path: bytes) -> bool:
    for _ in range(_MOST_CODINGS):
        if _OUTSIDE.search(path):
            return False
        coded, path = path, unquote_to_bytes(path)
        if path == coded:
            return True
    return False
