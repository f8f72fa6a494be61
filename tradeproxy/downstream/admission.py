"""Admission: accepts or rejects a client by its HTTP request, before any upgrade."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, assert_never

from tradeproxy.wire.credentials import Credentials, KeyPair, OAuthToken, Secret
from tradeproxy.wire.origin_rules import OriginProblem, OriginRules

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_REASONS = {
    OriginProblem.HOST: "this Host is not allowed; PROXY_ALLOWED_HOSTS adds to those that are",
    OriginProblem.ORIGIN: (
        "this Origin is not allowed; PROXY_ALLOWED_ORIGINS adds to those that are"
    ),
    OriginProblem.FETCH_SITE: (
        "a page of another site asks for this, and does not say which (no Origin)"
    ),
}


@dataclass(frozen=True, slots=True)
class RequestInfo:
    """The parts of an HTTP request that admission depends on."""

    host: str | None
    """The Host header, None if there is none."""
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

    Host and Origin must satisfy `OriginRules`.

    A token is required if there are tokens. A WebSocket client may send it in its auth message.
    """

    def __init__(
        self, allowed_hosts: Iterable[str], allowed_origins: Iterable[str], tokens: Tokens
    ) -> None:
        """Create the rules; hosts and origins are in the form of `tradeproxy.wire.hosts`."""
        self._origin_rules = OriginRules(allowed_hosts, allowed_origins)
        self._tokens = tokens

    def check(self, request: RequestInfo, *, public: bool = False) -> Rejection | None:
        """Return the rejection of `request`, or None. A `public` resource needs no token."""
        problem = self._origin_rules.find_problem(
            request.host,
            request.origin,
            request.fetch_site,
            secure=request.secure,
        )
        if problem is not None:
            return Rejection(403, _REASONS[problem])
        may_authenticate_later = request.upgrade and not request.offers
        if not public and not may_authenticate_later and not self._tokens.admit(*request.offers):
            return Rejection(401, "this needs one of PROXY_TOKENS, as Authorization: Bearer")
        return None

    def get_authenticator(self, request: RequestInfo) -> Callable[[Credentials], bool]:
        """Return the check of the credentials in the auth message of an admitted client."""
        if self._tokens.admit(*request.offers):
            return _accept_any  # a header had a token, so the message needs none
        return self._tokens.admit_credentials


def _accept_any(_: Credentials) -> bool:
    return True
