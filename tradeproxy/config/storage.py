"""The settings of the shared log: which Redis holds it, and what opens that."""

from __future__ import annotations

import importlib.util
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, quote, unquote, urlsplit

from tradeproxy.config import hosts
from tradeproxy.config.accounts import is_visible_ascii
from tradeproxy.config.values import whole_number
from tradeproxy.wire.credentials import Secret

if TYPE_CHECKING:
    from tradeproxy.config.env import Environment


DAY = 86_400.0


@dataclass(frozen=True, slots=True)
class JournalSettings:
    """`directory` None keeps the journals in no file; `source` is the variable that gave it, for messages.

    With `full_sync` an event survives a power cut, without it only a crash of the process. Events are kept
    for `max_age` seconds, and at most `max_events` an account.
    """

    directory: Path | None = None
    source: str = "PROXY_DATA_DIR"
    full_sync: bool = True
    max_age: float = 7 * DAY
    max_events: int = 1_000_000

    def path(self, account: str) -> Path | None:
        """Return the file of an account's journal."""
        return None if self.directory is None else self.directory / f"{account}.sqlite3"


def read_journal(env: Environment, *, in_memory: bool) -> JournalSettings:
    """Read them; what is wrong is noted in the environment's findings."""
    default = JournalSettings()
    source, directory = "PROXY_DATA_DIR", None
    if in_memory:
        env.warn_unused(("PROXY_DATA_DIR",), "by the demo, which forgets everything at its end")
    elif redis := env.find_source("PROXY_REDIS_URL"):
        reason = f"since {redis} is set: the events are kept in Redis"
        env.warn_unused(("PROXY_DATA_DIR", "PROXY_JOURNAL_SYNC"), reason)
    else:
        source, directory = _directory(env)
    return JournalSettings(
        directory=directory,
        source=source,
        full_sync=env.parse("PROXY_JOURNAL_SYNC", _full_sync, default.full_sync),
        max_age=env.parse("PROXY_JOURNAL_DAYS", _days, default.max_age),
        max_events=env.parse("PROXY_JOURNAL_EVENTS", whole_number, default.max_events),
    )


def _directory(env: Environment) -> tuple[str, Path | None]:
    """Choose where state is kept: as told, where systemd says, or where the XDG specification does."""
    if text := env.get("PROXY_DATA_DIR"):
        return "PROXY_DATA_DIR", env.directory / re.sub(
            r"\A~(?=/|\Z)", lambda _: str(_home(env)), text
        )
    if text := env.get("STATE_DIRECTORY"):
        return "STATE_DIRECTORY", Path(text.split(":")[0])
    state = Path(env.get("XDG_STATE_HOME") or "")
    if state.is_absolute():  # a relative one is to be ignored, says the specification
        return "PROXY_DATA_DIR", state / "tradeproxy"
    return "PROXY_DATA_DIR", _home(env) / ".local/state/tradeproxy"


def _home(env: Environment) -> Path:
    try:
        return Path(env.get("HOME") or Path.home())
    except RuntimeError:  # as in a container whose user has no entry in /etc/passwd
        env.findings.problem("PROXY_DATA_DIR: not set, and there is no home directory either")
        return env.directory


def _full_sync(text: str) -> bool:
    if text not in ("full", "normal"):
        raise ValueError(f"{text!r} is neither full nor normal")
    return text == "full"


def _days(text: str) -> float:
    if re.fullmatch(r"[0-9]{1,5}(\.[0-9]{1,9})?", text) and float(text) > 0:
        return float(text) * DAY
    raise ValueError(f"{text!r} is not a number of days (more than 0)")


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
        return f"{'rediss' if self.tls else 'redis'}://{hosts.format_in_url(self.host)}:{self.port}/{self.db}"


def read_redis(env: Environment, *, in_memory: bool = False) -> RedisSettings | None:
    """Read them; None if there is no URL, or none counts. What is wrong is noted in env's findings."""
    source, password_source = (
        env.find_source("PROXY_REDIS_URL"),
        env.find_source("PROXY_REDIS_PASSWORD"),
    )
    if in_memory:
        env.warn_unused(("PROXY_REDIS_URL",), "by the demo, which forgets everything at its end")
        return None
    if source is None:
        env.warn_unused(("PROXY_REDIS_PASSWORD",), "without PROXY_REDIS_URL")
        return None
    if not all(
        map(importlib.util.find_spec, _LIBRARIES)
    ):  # importing txredisapi would install a reactor
        env.findings.problem(f"{source}: needs pip install 'tradeproxy[redis]'")
    password = env.read_secret("PROXY_REDIS_PASSWORD")
    text = env.read_secret("PROXY_REDIS_URL")
    settings = env.findings.attempt(source, _parse, text, None) if text else None
    return None if settings is None else _opened(settings, source, password, password_source, env)


def _opened(
    settings: RedisSettings,
    source: str,
    password: str,
    password_source: str | None,
    env: Environment,
) -> RedisSettings:
    """Return the settings with the password, from wherever it came."""
    if settings.password is not None and password_source is not None:
        env.findings.problem(
            f"{source}: holds a password, and {password_source} is set too; keep one"
        )
    elif settings.username is not None and settings.password is None and password_source is None:
        env.findings.problem(
            f"{source}: has a user, but no password; a password alone is redis://:password@…"
        )
    elif password:
        settings = replace(settings, password=Secret(password))
    in_the_clear = (
        settings.path is None and not settings.tls and not hosts.is_loopback(settings.host)
    )
    if in_the_clear and settings.password is not None:
        env.findings.warning(
            f"{source}: the password travels in the clear to another machine; use rediss:"
        )
    return settings


def _parse(text: str) -> RedisSettings | None:
    """Read a URL; raises ValueError with a phrase that holds nothing of it, since it may hold a password."""
    if not is_visible_ascii(text) or "#" in text:  # urlsplit would drop line ends and tabs silently
        raise ValueError(_NOT_A_URL)
    if _BROKEN_CODING.search(text):
        raise ValueError("has a % that begins no percent-coded character; a % itself is %25")
    try:
        parts = urlsplit(text)
        username, password = _decoded(parts.username), _decoded(parts.password)
        if parts.scheme == "unix":
            host, port, path, db = "", 0, *_at_file(parts)
        else:
            host, port, path, db = (
                *_at_host(parts),
                None,
                _database(r"/?|/([0-9]{1,6})", parts.path),
            )
    except ValueError:
        raise ValueError(_NOT_A_URL) from None
    tls = parts.scheme == "rediss"
    return RedisSettings(
        host, port, path, tls, username, Secret(password) if password else None, db
    )


def _at_host(parts: SplitResult) -> tuple[str, int]:
    port = DEFAULT_PORT if parts.port is None else parts.port
    if parts.scheme not in ("redis", "rediss") or not port or parts.query:
        raise ValueError
    return hosts.canonicalize(parts.hostname or ""), port


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
