"""Admission: accepts or rejects a client by its HTTP request, before any upgrade."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, assert_never

from tradeproxy.config import hosts
from tradeproxy.wire.credentials import Credentials, KeyPair, OAuthToken, Secret

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_AUTHORITY = re.compile(r"(?P<host>\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::[0-9]{1,5})?")


@dataclass(frozen=True, slots=True)
class RequestInfo:
    """The parts of an HTTP request that admission depends on."""

    host: str | None
    """The Host header, None if there is none."""
    origin: str | None
    """The Origin header: the origin of the page. Only browsers have to send it."""
    secure: bool
    """Whether the request came over TLS."""
    local_address: str | None
    """The local address that received the request; None for a UNIX socket."""
    offers: tuple[Secret, ...] = ()
    """Possible tokens in the headers: Authorization: Bearer, and the APCA headers."""
    upgrade: bool = False
    """Whether it asks for a WebSocket. An auth message can follow on it."""
    fetch_site: str | None = None
    """The Sec-Fetch-Site header: how the page is related to this server. Browsers send it."""


@dataclass(frozen=True, slots=True)
class Rejection:
    """The answer to a rejected request: an HTTP status, and the reason in one line."""

    status: int
    reason: str
    retry_after: int = 1
    """Seconds, for a 503."""


class Tokens:
    """The accepted tokens. With no tokens, every client is accepted."""

    def __init__(self, tokens: Iterable[Secret]) -> None:
        self._tokens = tuple(tokens)

    def admit(self, *offers: Secret) -> bool:
        """Return whether one of `offers` is a token.

        All pairs are compared, so the duration does not show which token matched.
        """
        matches = [offer == token for offer in offers for token in self._tokens]
        return not self._tokens or any(matches)

    def admit_credentials(self, credentials: Credentials) -> bool:
        """Return whether any field of an auth message is a token."""
        match credentials:
            case KeyPair(key_id, secret_key):
                return self.admit(key_id, secret_key)
            case OAuthToken(token):
                return self.admit(token)
            case _:  # pragma: no cover
                assert_never(credentials)


class Admission:
    """The admission rules, checked in this order.

    Host must be a known name or address of this machine. This defeats DNS rebinding: a page whose
    host name resolves to this machine still sends its own name.

    Origin must be absent, this server's own, or an allowed one. Otherwise any page in a browser on
    this machine could read the stream.

    Without an Origin, Sec-Fetch-Site (W3C, Fetch Metadata) must not name another site. A page that
    embeds a resource, such as an image, sends no Origin. It must not keep connections open either.

    A token is required if there are tokens. A WebSocket client may send it in its auth message.
    """

    def __init__(
        self, allowed_hosts: Iterable[str], allowed_origins: Iterable[str], tokens: Tokens
    ) -> None:
        """Create the rules; hosts and origins are in the form of `tradeproxy.config.hosts`."""
        self._hosts = frozenset(allowed_hosts)
        self._origins = frozenset(allowed_origins)
        self._tokens = tokens

    def check(self, request: RequestInfo, *, public: bool = False) -> Rejection | None:
        """Return the rejection of `request`, or None. A `public` resource needs no token."""
        if not self._is_own_host(request):
            return Rejection(
                403, "this Host is not allowed; PROXY_ALLOWED_HOSTS adds to those that are"
            )
        if request.origin is not None and not self._is_allowed_origin(request.origin, request):
            return Rejection(
                403, "this Origin is not allowed; PROXY_ALLOWED_ORIGINS adds to those that are"
            )
        if request.origin is None and request.fetch_site in ("cross-site", "same-site"):
            return Rejection(
                403, "a page of another site asks for this, and does not say which (no Origin)"
            )
        may_authenticate_later = request.upgrade and not request.offers
        if not public and not may_authenticate_later and not self._tokens.admit(*request.offers):
            return Rejection(401, "this needs one of PROXY_TOKENS, as Authorization: Bearer")
        return None

    def get_authenticator(self, request: RequestInfo) -> Callable[[Credentials], bool]:
        """Return the check of the credentials in the auth message of an admitted client."""
        if self._tokens.admit(*request.offers):
            return _accept_any  # a header had a token, so the message needs none
        return self._tokens.admit_credentials

    def _is_own_host(self, request: RequestInfo) -> bool:
        host = _parse_host(request.host or "")
        if host is None:
            return False
        # DNS cannot rebind a literal address. One equal to the local address is this machine's.
        here = (request.local_address or "").removeprefix("::ffff:")
        return host == here or host in self._hosts or hosts.is_loopback(host)

    def _is_allowed_origin(self, origin: str, request: RequestInfo) -> bool:
        scheme = "https" if request.secure else "http"
        own = _parse_origin(f"{scheme}://{request.host}")
        theirs = _parse_origin(origin)
        return theirs is not None and (theirs == own or theirs in self._origins)


def _accept_any(_: Credentials) -> bool:
    return True


def _parse_host(authority: str) -> str | None:
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
