"""Admission: accepts or rejects a client by its request and its token; wrong tokens are counted."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import assert_never

from tradeproxy.runtime.peer import get_host_key
from tradeproxy.wire.close_codes import CloseCode
from tradeproxy.wire.credentials import Credentials, KeyPair, OAuthToken, Secret
from tradeproxy.wire.origin_rules import OriginRules, RequestInfo

MAX_WRONG = 10
"""Wrong tokens in WINDOW seconds from one address that are answered at once."""

WINDOW = 60.0
"""Seconds. The count of an address starts over this long after its first wrong token."""

DELAY = 1.0
"""Seconds before the answer to every further wrong token of the address."""

MAX_ADDRESSES = 10_000
"""Addresses that are counted. The one that was counted first is forgotten for another one."""


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

    def replace(self, tokens: Iterable[Secret]) -> None:
        """Accept these tokens from now on. Clients of the old ones stay connected."""
        self._tokens = tuple(tokens)

    def match(self, *offers: Secret) -> tuple[Secret, ...] | None:
        """Return the tokens that are among `offers`, or None if the client is not accepted.

        It is empty if there are no tokens. All pairs are compared, so the duration does not show
        which token matched.
        """
        matches = [token for token in self._tokens for offer in offers if offer == token]
        return tuple(matches) if matches or not self._tokens else None

    def admit(self, *offers: Secret) -> bool:
        """Return whether one of `offers` is a token, or there are no tokens."""
        return self.match(*offers) is not None


class WrongTokens:
    """Counts wrong tokens by address: after a few of them, each answer takes a second.

    A right token is never delayed, whatever its address sent before.
    """

    def __init__(self, seconds: Callable[[], float]) -> None:
        """Create an empty table; `seconds` is a clock that cannot be set."""
        self._seconds = seconds
        self._counts: dict[str, tuple[float, int]] = {}

    def __len__(self) -> int:
        return len(self._counts)

    def record(self, address: str) -> float:
        """Count a wrong token, and return by how many seconds its answer must be delayed.

        The address is "" for a UNIX socket, whose clients share one count. So do the addresses of
        one network of IPv6: see `get_host_key`.
        """
        address = get_host_key(address)
        now = self._seconds()
        since, count = self._counts.get(address, (now, 0))
        if now - since >= WINDOW:
            self._counts.pop(address)  # it becomes the newest of the table
            since, count = now, 0
        self._counts[address] = since, count + 1
        if len(self._counts) > MAX_ADDRESSES:
            del self._counts[next(iter(self._counts))]
        return DELAY if count >= MAX_WRONG else 0.0


class Grant:
    """The tokens by which one client was accepted, if it was; for as long as it is connected."""

    __slots__ = ("_by_header", "_matched", "_tokens")

    def __init__(self, tokens: Tokens, offers: Iterable[Secret]) -> None:
        """Create the grant of a request whose headers have `offers`."""
        self._tokens = tokens
        self._matched = tokens.match(*offers)
        self._by_header = self._matched is not None

    def admit(self, credentials: Credentials) -> bool:
        """Return whether an auth message is accepted.

        One of its fields must be a token, unless a header had one.
        """
        if self._by_header:
            return True
        match credentials:
            case KeyPair(key_id, secret_key):
                matched = self._tokens.match(key_id, secret_key)
            case OAuthToken(token):
                matched = self._tokens.match(token)
            case _:  # pragma: no cover
                assert_never(credentials)
        if matched is not None:
            self._matched = matched
        return matched is not None

    def find_end(self) -> CloseCode | None:
        """Return the code to close the client with, if the tokens no longer accept it; or None.

        A client that was accepted without tokens is to reconnect, and then to send one. One that
        has not sent any yet may still do so.
        """
        if self._matched is None or self._tokens.admit(*self._matched):
            return None
        return CloseCode.TOKEN_REMOVED if self._matched else CloseCode.TOKEN_NEEDED


class Admission:
    """The admission rules, checked in this order.

    Host and Origin must satisfy `OriginRules`.

    A token is required if there are tokens. A WebSocket client may send it in its auth message.
    """

    def __init__(
        self, allowed_hosts: Iterable[str], allowed_origins: Iterable[str], tokens: Tokens
    ) -> None:
        """Create the rules; hosts and origins are in the form of `tradeproxy.wire.hosts`."""
        self.replace_origin_rules(allowed_hosts, allowed_origins)
        self._tokens = tokens

    def replace_origin_rules(
        self, allowed_hosts: Iterable[str], allowed_origins: Iterable[str]
    ) -> None:
        """Apply these hosts and origins to requests from now on."""
        hosts = tuple(allowed_hosts)
        self._origin_rules = OriginRules(hosts, allowed_origins)
        self._own_rules = OriginRules(hosts)

    def check(self, request: RequestInfo, *, public: bool = False) -> Rejection | None:
        """Return the rejection of `request`, or None. A `public` resource needs no token."""
        if (problem := self._origin_rules.find_problem(request)) is not None:
            return Rejection(403, problem)
        may_authenticate_later = request.upgrade and not request.offers
        if not public and not may_authenticate_later and not self._tokens.admit(*request.offers):
            return Rejection(401, "this needs one of PROXY_TOKENS, as Authorization: Bearer")
        return None

    def is_foreign(self, request: RequestInfo) -> bool:
        """Whether a page of another origin sent `request`, which may read but not change anything.

        Pages of the allowed origins are foreign, too.
        """
        return self._own_rules.find_problem(request) is not None

    def grant(self, request: RequestInfo) -> Grant:
        """Return the grant of an admitted client. It checks the client's auth message."""
        return Grant(self._tokens, request.offers)
