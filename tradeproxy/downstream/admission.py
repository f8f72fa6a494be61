"""Who may come in, decided from the HTTP request alone, before any upgrade."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, assert_never

from tradeproxy.config import hosts
from tradeproxy.wire.credentials import Credentials, KeyPair, OAuthToken, Secret

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_AUTHORITY = re.compile(r"(?P<host>\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::[0-9]{1,5})?")


@dataclass(frozen=True, slots=True)
class RequestInfo:
    """What an HTTP request says of who sends it."""

    host: str | None
    """The Host header."""
    origin: str | None
    """The Origin header: a browser's word on whose page is asking. Other clients need not send one."""
    secure: bool
    """Whether the request came over TLS."""
    local_address: str | None
    """The address of ours that it came in at; None for a UNIX socket."""
    offers: tuple[Secret, ...] = ()
    """What its headers hold that could be a token: Authorization: Bearer, and the APCA headers."""
    upgrade: bool = False
    """Whether it asks for a WebSocket, on which an auth message can follow."""
    fetch_site: str | None = None
    """The Sec-Fetch-Site header: how the page that asks is related to this server, if a browser says so."""


@dataclass(frozen=True, slots=True)
class Rejection:
    """An HTTP status and the line that says why."""

    status: int
    reason: str


class Tokens:
    """The tokens that let a client in. Without any, every client is let in."""

    def __init__(self, tokens: Iterable[Secret]) -> None:
        self._tokens = tuple(tokens)

    def admit(self, *offers: Secret) -> bool:
        """Tell whether one of `offers` is a token, in a time that does not depend on which."""
        matches = [offer == token for offer in offers for token in self._tokens]
        return not self._tokens or any(matches)

    def admit_credentials(self, credentials: Credentials) -> bool:
        """Tell whether an auth message holds a token, in any of its fields."""
        match credentials:
            case KeyPair(key_id, secret_key):
                return self.admit(key_id, secret_key)
            case OAuthToken(token):
                return self.admit(token)
            case _:  # pragma: no cover
                assert_never(credentials)


class Admission:
    """The rules at the door. Hosts and origins are spelled as `tradeproxy.config.hosts` does.

    Host must be a name of this machine that we know, which defeats DNS rebinding: a page whose own host name
    was made to resolve to us still sends that name. Origin must be absent or this server's own, so that no
    other page of a browser on this machine can read the stream. A page that embeds something of ours, as an
    image say, sends no Origin; the browser then says in Sec-Fetch-Site (W3C, Fetch Metadata) that it is
    foreign, and it must not keep connections open here either.
    """

    def __init__(
        self, allowed_hosts: Iterable[str], allowed_origins: Iterable[str], tokens: Tokens
    ) -> None:
        self._hosts = frozenset(allowed_hosts)
        self._origins = frozenset(allowed_origins)
        self._tokens = tokens

    def check(self, visitor: RequestInfo, *, public: bool = False) -> Rejection | None:
        """Return why `visitor` must stay out, or None; what is `public` needs no token."""
        if not self._is_own_host(visitor):
            return Rejection(
                403, "this Host is not allowed; PROXY_ALLOWED_HOSTS adds to those that are"
            )
        if visitor.origin is not None and not self._is_allowed_origin(visitor.origin, visitor):
            return Rejection(
                403, "this Origin is not allowed; PROXY_ALLOWED_ORIGINS adds to those that are"
            )
        if visitor.origin is None and visitor.fetch_site in ("cross-site", "same-site"):
            return Rejection(
                403, "a page of another site asks for this, and does not say which (no Origin)"
            )
        may_come_later = visitor.upgrade and not visitor.offers
        if not public and not may_come_later and not self._tokens.admit(*visitor.offers):
            return Rejection(401, "this needs one of PROXY_TOKENS, as Authorization: Bearer")
        return None

    def get_authenticator(self, visitor: RequestInfo) -> Callable[[Credentials], bool]:
        """Return what decides on the auth message of a visitor that has been let in."""
        if self._tokens.admit(*visitor.offers):
            return _accept_any  # it has shown its token: the message may say anything
        return self._tokens.admit_credentials

    def _is_own_host(self, visitor: RequestInfo) -> bool:
        host = _parse_host(visitor.host or "")
        if host is None:
            return False
        # An address cannot be rebound: one that is also where the request arrived is ours.
        here = (visitor.local_address or "").removeprefix("::ffff:")
        return host == here or host in self._hosts or hosts.is_loopback(host)

    def _is_allowed_origin(self, origin: str, visitor: RequestInfo) -> bool:
        scheme = "https" if visitor.secure else "http"
        own = _parse_origin(f"{scheme}://{visitor.host}")
        theirs = _parse_origin(origin)
        return theirs is not None and (theirs == own or theirs in self._origins)


def _accept_any(_: Credentials) -> bool:
    return True


@lru_cache(maxsize=64)
def _parse_host(authority: str) -> str | None:
    """Return the host of a Host header's `host[:port]` in its one spelling; None if there is none."""
    match = _AUTHORITY.fullmatch(authority.lower())
    try:
        return hosts.canonicalize(match["host"].strip("[]")) if match else None
    except ValueError:
        return None


def _parse_origin(text: str) -> str | None:
    """Return an Origin header's origin in its one spelling; None for what is none, such as `null`."""
    try:
        return hosts.canonicalize_origin(text)
    except ValueError:
        return None
