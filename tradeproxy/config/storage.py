"""Where events are stored: in journal files of this node, or in a Redis that nodes share."""

from __future__ import annotations

import importlib.util
import re
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import SplitResult, quote, unquote, urlsplit

from tradeproxy.config.env import Environment
from tradeproxy.config.setting import (
    Setting,
    check_encoding,
    is_visible_ascii,
    made_of,
    read_fields,
    setting,
    whole_number,
)
from tradeproxy.wire import hosts
from tradeproxy.wire.credentials import Secret

DAY = 86_400.0


def _parse_sync(text: str) -> bool:
    if text not in ("full", "normal"):
        raise ValueError(f"{text!r} is neither full nor normal")
    return text == "full"


def _parse_days(text: str) -> float:
    if re.fullmatch(r"[0-9]{1,5}(\.[0-9]{1,9})?", text) and float(text) > 0:
        return float(text) * DAY
    raise ValueError(f"{text!r} is not a number of days (more than 0)")


DATA_DIR = Setting(
    "PROXY_DATA_DIR",
    str,
    "",
    "directory of the journals, with one file per account; `STATE_DIRECTORY` (of systemd) and"
    " `XDG_STATE_HOME` also set it",
    "The order is this variable, $STATE_DIRECTORY, $XDG_STATE_HOME/tradeproxy,"
    " ~/.local/state/tradeproxy.",
    cell="`~/.local/state/tradeproxy`",
)


@dataclass(frozen=True, slots=True)
class JournalSettings:
    """The journals: one SQLite file per account in `directory`, or in memory if that is None.

    Messages about the directory name `source`, the variable that sets it. `max_age` is in seconds.
    """

    directory: Path | None = field(default=None, metadata=made_of(DATA_DIR))
    source: str = DATA_DIR.name
    full_sync: bool = setting(
        "PROXY_JOURNAL_SYNC",
        _parse_sync,
        "full",
        "`full`: events survive a power cut; `normal`: they survive a crash of the proxy only, and"
        " writes are faster",
    )
    max_age: float = setting(
        "PROXY_JOURNAL_DAYS",
        _parse_days,
        "7",
        "how many days events are kept",
        "Days count once Alpaca's clock is known, and the newest event is always kept.",
    )
    max_events: int = setting(
        "PROXY_JOURNAL_EVENTS",
        whole_number,
        "1000000",
        "how many events of an account are kept",
    )

    def path(self, account: str) -> Path | None:
        """Return the journal file of an account, or None if journals are in memory."""
        return None if self.directory is None else self.directory / f"{account}.sqlite3"


def read_journal(env: Environment, *, in_memory: bool) -> JournalSettings:
    """Read the settings of the journals. Problems and warnings go to `env.findings`.

    With `in_memory` (the demo) or a Redis URL, no directory is used.
    """
    source, directory = DATA_DIR.name, None
    if in_memory:
        env.warn_unused((source,), "by the demo, which stores events in memory")
    elif redis := env.find_source(REDIS_URL.name):
        reason = f"since {redis} is set: the events are stored in Redis"
        env.warn_unused((source, "PROXY_JOURNAL_SYNC"), reason)
    else:
        source, directory = _choose_directory(env)
    return read_fields(JournalSettings, env, directory=directory, source=source)


def _choose_directory(env: Environment) -> tuple[str, Path | None]:
    """Choose the directory, and return it with the variable that sets it.

    The order is PROXY_DATA_DIR, STATE_DIRECTORY (systemd.exec(5)), then the directory of the XDG
    Base Directory Specification.
    """
    if text := env.get(DATA_DIR.name):
        return DATA_DIR.name, expand_path(env, DATA_DIR.name, text)
    if text := env.get("STATE_DIRECTORY"):
        # systemd separates several directories with colons.
        return "STATE_DIRECTORY", Path(text.split(":")[0])
    state = Path(env.get("XDG_STATE_HOME") or "")
    if state.is_absolute():  # the specification says to ignore a relative path
        return DATA_DIR.name, state / "tradeproxy"
    return DATA_DIR.name, _find_home(env, DATA_DIR.name) / ".local/state/tradeproxy"


def expand_path(env: Environment, source: str, text: str) -> Path:
    """Return the path that the variable `source` names; "~" is the user's home directory."""
    env.warn_of_quotes(source, text)
    home = re.compile(r"\A~(?=/|\Z)")
    return env.directory / home.sub(lambda _: str(_find_home(env, source)), text)


def _find_home(env: Environment, source: str) -> Path:
    """Return the user's home directory. Without one, that is a problem of the variable `source`."""
    try:
        return Path(env.get("HOME") or Path.home())
    except RuntimeError:  # in some containers, the user has no entry in /etc/passwd
        env.findings.problem(f"{source}: the user has no home directory; set an absolute path")
        return env.directory


REDIS_PORT = 6379
_LIBRARIES = ("txredisapi", "hiredis")
_NOT_A_URL = (
    "not a URL such as redis://host:6379/0, rediss://host or unix:///path?db=0;"
    " percent-encode special characters of a password, or set PROXY_REDIS_PASSWORD"
)

REDIS_URL = Setting(
    "PROXY_REDIS_URL",
    str,
    "",
    "keep events in this Redis, for [several nodes](scaling.md):"
    " `redis://user:password@host:6379/0`,"
    " `rediss://…` for TLS, or `unix:///run/redis.sock?db=0`; needs"
    " `.venv/bin/pip install -e '.[redis]'` in the clone",
    "Percent-encode special characters of user and password.",
    secret=True,
)
REDIS_PASSWORD = Setting(
    "PROXY_REDIS_PASSWORD",
    str,
    "",
    "the password of Redis, if it is not in the URL",
    secret=True,
)


@dataclass(frozen=True, slots=True)
class RedisSettings:
    """The address of Redis, and its credentials.

    The address is the socket file `path`, or `host` and `port` if that is None. A user name always
    comes with a password.
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
        """The URL without user and password, for logs and messages."""
        if self.path is not None:
            return f"unix://{quote(self.path)}?db={self.db}"
        scheme = "rediss" if self.tls else "redis"
        return f"{scheme}://{hosts.format_in_url(self.host)}:{self.port}/{self.db}"


def read_redis(env: Environment, *, in_memory: bool = False) -> RedisSettings | None:
    """Read the settings of Redis. Problems and warnings go to `env.findings`.

    Returns None without a valid URL, and with `in_memory` (the demo).
    """
    source = env.find_source(REDIS_URL.name)
    password_source = env.find_source(REDIS_PASSWORD.name)
    if in_memory:
        env.warn_unused((REDIS_URL.name,), "by the demo, which stores events in memory")
        return None
    if source is None:
        env.warn_unused((REDIS_PASSWORD.name,), "without PROXY_REDIS_URL")
        return None
    # Importing txredisapi would install a reactor, so this only looks for the module.
    if not all(map(importlib.util.find_spec, _LIBRARIES)):
        env.findings.problem(
            f"{source}: needs two libraries: {sys.executable} -m pip install {' '.join(_LIBRARIES)}"
        )
    password = env.read_secret(REDIS_PASSWORD.name)
    text = env.read_secret(REDIS_URL.name)
    settings = env.findings.attempt(source, _parse_url, text, None) if text else None
    if settings is None:
        return None
    return _add_password(settings, source, password, password_source, env)


def _add_password(
    settings: RedisSettings,
    source: str,
    password: str,
    password_source: str | None,
    env: Environment,
) -> RedisSettings:
    """Return the settings with the password of the URL or of PROXY_REDIS_PASSWORD.

    The settings are from the URL, and `source` is the variable that sets it. The password is the
    text of PROXY_REDIS_PASSWORD, or "", and `password_source` the variable that sets it, or None.
    Problems and warnings go to `env.findings`.
    """
    if settings.password is not None and password_source is not None:
        env.findings.problem(
            f"{source}: contains a password, and {password_source} is set too; keep one"
        )
    elif settings.username is not None and settings.password is None and password_source is None:
        env.findings.problem(
            f"{source}: contains a user, but no password; write redis://:password@… for no user"
        )
    elif password:
        settings = replace(settings, password=Secret(password))
    is_exposed = settings.path is None and not settings.tls and not hosts.is_loopback(settings.host)
    if is_exposed and settings.password is not None:
        env.findings.warning(
            f"{source}: sends the password unencrypted to another machine; use rediss:"
        )
    return settings


def _parse_url(text: str) -> RedisSettings | None:
    """Parse a URL. Raises ValueError with a reason for the user.

    The reason quotes no part of the URL, because a malformed one may show a password anywhere.
    """
    # urlsplit removes line breaks and tabs silently. It ends the password at a "#".
    if not is_visible_ascii(text) or "#" in text:
        raise ValueError(_NOT_A_URL)
    check_encoding(text)
    try:
        parts = urlsplit(text)
        username, password = _decode(parts.username), _decode(parts.password)
        path: str | None = None
        if parts.scheme == "unix":
            host, port = "", 0
            path, db = _parse_file(parts)
        else:
            host, port = _parse_host(parts)
            db = _parse_database(r"/?|/([0-9]{1,6})", parts.path)
    except ValueError:
        raise ValueError(_NOT_A_URL) from None
    tls = parts.scheme == "rediss"
    return RedisSettings(
        host, port, path, tls, username, Secret(password) if password else None, db
    )


def _parse_host(parts: SplitResult) -> tuple[str, int]:
    port = REDIS_PORT if parts.port is None else parts.port
    if parts.scheme not in ("redis", "rediss") or not port or parts.query:
        raise ValueError
    return hosts.canonicalize(parts.hostname or ""), port


def _parse_file(parts: SplitResult) -> tuple[str, int]:
    path = _decode(parts.path)
    if parts.netloc.rpartition("@")[2] or path is None or not path.startswith("/") or "\0" in path:
        raise ValueError
    return path, _parse_database("(?:db=([0-9]{1,6}))?", parts.query)


def _parse_database(pattern: str, text: str) -> int:
    match = re.fullmatch(pattern, text)
    if match is None:
        raise ValueError
    return int(match[1] or 0)


def _decode(text: str | None) -> str | None:
    """Decode a part of a URL. Returns None if it is empty. Raises ValueError if it is not UTF-8."""
    return unquote(text, errors="strict") if text else None
