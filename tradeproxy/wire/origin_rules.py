"""The rule for Host and Origin: which requests come from this machine's programs and pages."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from tradeproxy.wire import hosts
from tradeproxy.wire.credentials import Secret

_AUTHORITY = re.compile(r"(?P<host>\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::[0-9]{1,5})?")

BAD_HOST = "this Host is not allowed; PROXY_ALLOWED_HOSTS adds to those that are"
BAD_ORIGIN = "this Origin is not allowed; PROXY_ALLOWED_ORIGINS adds to those that are"
BAD_SITE = "a page of another site asks for this, and does not say which (no Origin)"


@dataclass(frozen=True, slots=True)
class RequestInfo:
    """The headers of a request by which it is admitted."""

    host: str | None
    """The host that the client asked for, None if there is none: Host, or X-Forwarded-Host."""
    origin: str | None
    """The Origin header: the origin of the page. Only browsers have to send it."""
    secure: bool
    """Whether the request came over TLS."""
    offers: tuple[Secret, ...] = ()
    """Possible tokens in the headers: Authorization: Bearer, and the APCA headers."""
    upgrade: bool = False
    """Whether it asks for a WebSocket. An auth message can follow on it."""
    fetch_site: str | None = None
    """The Sec-Fetch-Site header: how the page is related to this server. Browsers send it."""
    replaced_host: str | None = None
    """The Host header, if X-Forwarded-Host replaced it."""


class OriginRules:
    """The rules for the headers by which a browser says for whom it asks.

    Host must be an IP address or a known name of this machine. This defeats DNS rebinding: a page
    whose host name resolves to this machine still sends its own name, never an address. Such a page
    may set X-Forwarded-Host, so a Host that it replaced must be one too.

    Origin must be absent, this server's own, or an allowed one. Otherwise any page in a browser on
    this machine could read the stream.

    Without an Origin, Sec-Fetch-Site (W3C, Fetch Metadata) must not name another site. A page that
    embeds a resource, such as an image, sends no Origin. It must not keep connections open either.
    """

    def __init__(
        self, allowed_hosts: Iterable[str] = (), allowed_origins: Iterable[str] = ()
    ) -> None:
        """Create the rules; hosts and origins are in the form of `tradeproxy.wire.hosts`."""
        self._hosts = frozenset(allowed_hosts)
        self._origins = frozenset(allowed_origins)

    def find_problem(self, request: RequestInfo) -> str | None:
        """Return why a request is rejected, or None."""
        host, origin = request.host, request.origin
        received = host if request.replaced_host is None else request.replaced_host
        if not self._is_own_host(host or "") or not self._is_own_host(received or ""):
            return BAD_HOST
        if origin is None:
            return BAD_SITE if request.fetch_site in ("cross-site", "same-site") else None
        own = _parse_origin(f"{'https' if request.secure else 'http'}://{host}")
        theirs = _parse_origin(origin)
        is_allowed = theirs is not None and (theirs == own or theirs in self._origins)
        return None if is_allowed else BAD_ORIGIN

    def _is_own_host(self, authority: str) -> bool:
        host = parse_host(authority)
        return host is not None and (
            host in self._hosts or hosts.is_loopback(host) or hosts.is_address(host)
        )


def parse_host(authority: str) -> str | None:
    """Return the canonical host of a Host header (`host[:port]`); None if it is invalid."""
    match = _AUTHORITY.fullmatch(authority.lower())
    try:
        return hosts.canonicalize(match["host"].strip("[]")) if match else None
    except ValueError:
        return None


def _parse_origin(text: str) -> str | None:
    """Return the canonical origin of an Origin header; None if it is invalid, such as `null`."""
    try:
        return hosts.canonicalize_origin(text)
    except ValueError:
        return None
