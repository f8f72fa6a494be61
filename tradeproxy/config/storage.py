"""The settings of the shared log: which Redis holds it, and what opens that."""

from __future__ import annotations

import importlib.util
import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, quote, unquote, urlsplit

from tradeproxy.config import hosts
from tradeproxy.config.accounts import is_plain
from tradeproxy.wire.credentials import Secret

if TYPE_CHECKING:
    from tradeproxy.config.env import Environment

DEFAULT_PORT = 6379
_LIBRARIES = ("txredisapi", "hiredis")
_BROKEN_CODING = re.compile("%(?![0-9A-Fa-f]{2})")
_NOT_A_URL = (
    "not a URL such as redis://host:6379/0, rediss://host or unix:///path?db=0;"
    " what is special in a password is percent-coded, or the password is in PROXY_REDIS_PASSWORD"
)


@dataclass(frozen=True, slots=True)
class RedisSettings:
    """Where Redis is: at `path`, a socket file, or where that is None at a host and port, by TLS or not.

    A user name without a password does not occur.
    """

    host: str
    port: int
    path: str | None
    tls: bool
    username: str | None = field(repr=False)
    password: Secret | None
    db: int

    @property
    def label(self) -> str:
        """The URL as it may be shown: without user and password."""
        if self.path is not None:
            return f"unix://{quote(self.path)}?db={self.db}"
        return f"{'rediss' if self.tls else 'redis'}://{hosts.in_url(self.host)}:{self.port}/{self.db}"


def read_redis(env: Environment, *, in_memory: bool = False) -> RedisSettings | None:
    """Read them; None if there is no URL, or none counts. What is wrong is noted in env's findings."""
    source, password_source = env.source("PROXY_REDIS_URL"), env.source("PROXY_REDIS_PASSWORD")
    if in_memory:
        env.warn_unused(("PROXY_REDIS_URL",), "by the demo, which forgets everything at its end")
        return None
    if source is None:
        env.warn_unused(("PROXY_REDIS_PASSWORD",), "without PROXY_REDIS_URL")
        return None
    if not all(map(importlib.util.find_spec, _LIBRARIES)):  # importing txredisapi would install a reactor
        env.findings.problem(f"{source}: needs pip install 'tradeproxy[redis]'")
    password = env.confidential("PROXY_REDIS_PASSWORD")
    text = env.confidential("PROXY_REDIS_URL")
    settings = env.findings.attempt(source, _parse, text, None) if text else None
    return None if settings is None else _opened(settings, source, password, password_source, env)


def _opened(
    settings: RedisSettings, source: str, password: str, password_source: str | None, env: Environment
) -> RedisSettings:
    """Return the settings with the password, from wherever it came."""
    if settings.password is not None and password_source is not None:
        env.findings.problem(f"{source}: holds a password, and {password_source} is set too; keep one")
    elif settings.username is not None and settings.password is None and password_source is None:
        env.findings.problem(
            f"{source}: has a user, but no password; a password alone is redis://:password@…"
        )
    elif password:
        settings = replace(settings, password=Secret(password))
    in_the_clear = settings.path is None and not settings.tls and not hosts.is_loopback(settings.host)
    if in_the_clear and settings.password is not None:
        env.findings.warning(f"{source}: the password travels in the clear to another machine; use rediss:")
    return settings


def _parse(text: str) -> RedisSettings | None:
    """Read a URL; raises ValueError with a phrase that holds nothing of it, since it may hold a password."""
    if not is_plain(text) or "#" in text:  # urlsplit would drop line ends and tabs silently
        raise ValueError(_NOT_A_URL)
    if _BROKEN_CODING.search(text):
        raise ValueError("has a % that begins no percent-coded character; a % itself is %25")
    try:
        parts = urlsplit(text)
        username, password = _decoded(parts.username), _decoded(parts.password)
        if parts.scheme == "unix":
            host, port, path, db = "", 0, *_at_file(parts)
        else:
            host, port, path, db = *_at_host(parts), None, _database(r"/?|/([0-9]{1,6})", parts.path)
    except ValueError:
        raise ValueError(_NOT_A_URL) from None
    tls = parts.scheme == "rediss"
    return RedisSettings(host, port, path, tls, username, Secret(password) if password else None, db)


def _at_host(parts: SplitResult) -> tuple[str, int]:
    port = DEFAULT_PORT if parts.port is None else parts.port
    if parts.scheme not in ("redis", "rediss") or not port or parts.query:
        raise ValueError
    return hosts.canonical(parts.hostname or ""), port


def _at_file(parts: SplitResult) -> tuple[str, int]:
    path = _decoded(parts.path)
    if parts.netloc.rpartition("@")[2] or path is None or not path.startswith("/") or "\0" in path:
        raise ValueError
    return path, _database("(?:db=([0-9]{1,6}))?", parts.query)


def _database(pattern: str, text: str) -> int:
    match = re.fullmatch(pattern, text)
    if match is None:
        raise ValueError
    return int(match[1] or 0)


def _decoded(text: str | None) -> str | None:
    """Return a part of a URL as it is meant; what is empty is not there."""
    return unquote(text, errors="strict") if text else None
