"""The rule for Host and Origin: which requests come from this machine's programs and pages."""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import Enum, auto

from tradeproxy.wire import hosts

_AUTHORITY = re.compile(r"(?P<host>\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::[0-9]{1,5})?")


class OriginProblem(Enum):
    """Why a request is rejected."""

    HOST = auto()
    """Host is missing, or not this machine's."""
    ORIGIN = auto()
    """Origin is another site's."""
    FETCH_SITE = auto()
    """A page of another site sent it, and no Origin."""


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

    def find_problem(
        self,
        host: str | None,
        origin: str | None,
        fetch_site: str | None,
        *,
        secure: bool,
        replaced_host: str | None = None,
    ) -> OriginProblem | None:
        """Return why a request is rejected, or None.

        Args:
            host: The host that the client asked for, None if there is none.
            origin: The Origin header, None if there is none.
            fetch_site: The Sec-Fetch-Site header, None if there is none.
            secure: Whether the request came over TLS.
            replaced_host: The Host header if `host` is that of X-Forwarded-Host, else None.
        """
        received = host if replaced_host is None else replaced_host
        if not self._is_own_host(host or "") or not self._is_own_host(received or ""):
            return OriginProblem.HOST
        if origin is None:
            is_foreign = fetch_site in ("cross-site", "same-site")
            return OriginProblem.FETCH_SITE if is_foreign else None
        own = _parse_origin(f"{'https' if secure else 'http'}://{host}")
        theirs = _parse_origin(origin)
        is_allowed = theirs is not None and (theirs == own or theirs in self._origins)
        return None if is_allowed else OriginProblem.ORIGIN

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
