"""The accounts at Alpaca that the environment names: where each is, and what opens it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import combinations
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from tradeproxy.config import hosts
from tradeproxy.wire.credentials import Credentials, KeyPair, OAuthToken, Secret
from tradeproxy.wire.messages import Dialect

if TYPE_CHECKING:
    from tradeproxy.config.env import Environment

_SECURE = {"https": True, "wss": True, "http": False, "ws": False}


@dataclass(frozen=True, slots=True)
class BaseUrl:
    """Where an account is: `path` is "" or "/prefix", without a slash at its end."""

    secure: bool
    host: str
    port: int
    path: str = ""

    @property
    def stream(self) -> str:
        """The URL of the account's WebSocket stream."""
        return f"{'wss' if self.secure else 'ws'}://{self._authority}{self.path}/stream"

    @property
    def rest(self) -> str:
        """The URL under which the REST paths ("/v2/…") are."""
        return f"{'https' if self.secure else 'http'}://{self._authority}{self.path}"

    @property
    def _authority(self) -> str:
        host = hosts.format_in_url(self.host)
        return host if self.port == _default_port(self.secure) else f"{host}:{self.port}"

    @classmethod
    def parse(cls, text: str) -> BaseUrl:
        """Read what a user wrote; "/stream" or "/v2" at the end, as Alpaca's own examples have it, is cut.

        Raises ValueError with a phrase for the user. It never holds the URL, which may hold a password.
        """
        not_a_url = ValueError("not a URL such as https://paper-api.alpaca.markets")
        if not is_visible_ascii(text):  # urlsplit would drop line ends and tabs silently
            raise not_a_url
        try:
            parts = urlsplit(text)
            secure = _SECURE[parts.scheme]
            host = hosts.canonicalize(parts.hostname or "")
            port = _default_port(secure) if parts.port is None else parts.port
        except (ValueError, KeyError):
            raise not_a_url from None
        if not port:
            raise not_a_url
        if parts.username is not None or "?" in text or "#" in text:
            raise ValueError("a base URL has no user name, no query and no fragment")
        if not secure and not hosts.is_loopback(host):
            raise ValueError(
                "http and ws are for this machine only: keys don't travel in the clear; use https"
            )
        return cls(secure, host, port, re.sub(r"(/+(stream|v2))*/*\Z", "", parts.path))


PAPER = BaseUrl(secure=True, host="paper-api.alpaca.markets", port=443)
LIVE = BaseUrl(secure=True, host="api.alpaca.markets", port=443)


@dataclass(frozen=True, slots=True)
class AccountSettings:
    """One account at Alpaca. `key_variable` is what to name when its key is spoken of."""

    name: str
    base_url: BaseUrl
    credentials: Credentials
    dialect: Dialect
    key_variable: str


_PREFIXED = re.compile(
    r"ALPACA_(?:(?P<name>.*)_)?(?P<form>(?:API_KEY|SECRET_KEY|OAUTH_TOKEN)(?:_FILE)?|URL)",
    re.DOTALL,
)
_USUAL = [
    f"ALPACA_{name}{form}"
    for name in ("", "LIVE_")
    for form in ("API_KEY", "SECRET_KEY", "OAUTH_TOKEN", "URL")
]
_NAME = re.compile(r"[A-Z0-9_]{1,64}")
RESERVED_NAMES = frozenset({"healthz", "readyz", "metrics"})
"""Names that are paths of their own, so that no account can have them."""


def read_accounts(env: Environment, dialect: Dialect) -> tuple[AccountSettings, ...]:
    """Read every account that the environment names; what is wrong with them is noted there."""
    names = sorted(_names(env), key=_prefix)
    candidates = (_read_account(env, name, dialect) for name in names)
    accounts = tuple(account for account in candidates if account is not None)
    for one, other in combinations(accounts, 2):
        if (one.credentials, one.base_url) == (other.credentials, other.base_url):
            env.findings.problem(
                f"{other.key_variable}: the account of {one.key_variable} again;"
                " Alpaca allows one connection an account"
            )
    _warn_of_misspelt(env)
    named = any(
        (match := _PREFIXED.fullmatch(variable)) and match["form"] != "URL" for variable in env
    )
    if not named:
        hint = (
            "; APCA_API_KEY_ID has the name ALPACA_API_KEY here"
            if env.get("APCA_API_KEY_ID")
            else ""
        )
        env.findings.problem(
            "ALPACA_API_KEY, ALPACA_SECRET_KEY: not set, and no other account is either;"
            f" set them in {env.directory / '.env'}, or try `tradeproxy demo`, which needs none{hint}"
        )
    return accounts


def _warn_of_misspelt(env: Environment) -> None:
    for variable in env:
        if variable.startswith("ALPACA_") and not _PREFIXED.fullmatch(variable):
            for nearest in get_close_matches(variable, _USUAL, n=1, cutoff=0.8):
                env.findings.warning(
                    f"{variable}: there is no such variable; the nearest is {nearest}"
                )


def demo_account(port: int, dialect: Dialect) -> AccountSettings:
    """Return the account of the demo: a simulator on a loopback port, and a key that opens nothing else."""
    credentials = KeyPair(Secret("demo-key"), Secret("demo-secret"))
    return AccountSettings(
        "paper",
        BaseUrl(secure=False, host="127.0.0.1", port=port),
        credentials,
        dialect,
        key_variable="--demo",
    )


def name_variables(name: str) -> str:
    """Say which variables would make an account of this name known."""
    return f"{_prefix(name)}API_KEY and {_prefix(name)}SECRET_KEY"


def is_visible_ascii(text: str) -> bool:
    """Whether a text is made of visible ASCII only, as keys, tokens and URLs are."""
    return all("!" <= character <= "~" for character in text)


def _prefix(name: str) -> str:
    return "ALPACA_" if name == "paper" else f"ALPACA_{name.upper()}_"


def _names(env: Environment) -> set[str]:
    names = set()
    for variable in env:
        if (match := _PREFIXED.fullmatch(variable)) is None:
            continue
        name, form = match["name"], match["form"]
        if name is None:
            names.add("paper")
        elif not _NAME.fullmatch(name):
            env.findings.problem(
                f"{variable}: the account's name must be [A-Z0-9_]+, of 64 characters at most"
            )
        elif name == "PAPER":
            env.findings.problem(f"{variable}: the name PAPER is taken; use ALPACA_{form}")
        elif name.lower() in RESERVED_NAMES:
            env.findings.problem(f"{variable}: the name {name} is taken")
        else:
            names.add(name.lower())
    return names


def _read_account(env: Environment, name: str, dialect: Dialect) -> AccountSettings | None:
    prefix = _prefix(name)
    key, secret, token = (
        env.find_source(prefix + form) for form in ("API_KEY", "SECRET_KEY", "OAUTH_TOKEN")
    )
    key_variable = key or token
    if key_variable is None and secret is None:
        if name != "paper":  # this one has a default to override, keys or not
            env.findings.warning(f"{prefix}URL: not used, as {prefix}API_KEY is not set")
        return None
    base_url = env.parse(f"{prefix}URL", BaseUrl.parse, LIVE if name == "live" else PAPER)
    credentials = _read_credentials(env, prefix, key, secret, token)
    if dialect is Dialect.AUTH and isinstance(credentials, OAuthToken):
        env.findings.problem(
            f"PROXY_UPSTREAM_AUTH: 'auth' has no form for {token}; use authenticate"
        )
    if credentials is None or key_variable is None:
        return None
    return AccountSettings(name, base_url, credentials, dialect, key_variable)


def _read_credentials(
    env: Environment, prefix: str, key: str | None, secret: str | None, token: str | None
) -> Credentials | None:
    if token and (pair := key or secret):
        env.findings.problem(f"{token}: {pair} is set too; an account has a key pair or a token")
    elif token:
        if text := _plain_secret(env, f"{prefix}OAUTH_TOKEN"):
            return OAuthToken(text)
    elif not secret:
        env.findings.problem(f"{prefix}SECRET_KEY is missing: {key} is set")
    elif not key:
        env.findings.problem(f"{prefix}API_KEY is missing: {secret} is set")
    else:
        key_id, secret_key = (
            _plain_secret(env, prefix + form) for form in ("API_KEY", "SECRET_KEY")
        )
        if key_id and secret_key:
            return KeyPair(key_id, secret_key)
    return None


def _plain_secret(env: Environment, name: str) -> Secret | None:
    text = env.read_secret(name)
    if not is_visible_ascii(text):
        env.findings.problem(
            f"{env.find_source(name)}: holds white space, or a character that no key has"
        )
        return None
    return Secret(text) if text else None


def _default_port(secure: bool) -> int:
    return 443 if secure else 80
