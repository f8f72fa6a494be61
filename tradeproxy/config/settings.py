"""The settings: the environment and .env, read once into frozen values.

An invalid setting does not end the reading, so one error lists every problem.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from difflib import get_close_matches
from enum import Enum
from typing import TYPE_CHECKING

from tradeproxy.config.accounts import (
    AccountSettings,
    demo_accounts,
    is_visible_ascii,
    read_accounts,
)
from tradeproxy.config.addresses import Addresses, read_addresses
from tradeproxy.config.connect_proxy import (
    EXCEPTION_VARIABLES,
    URL_VARIABLES,
    ConnectProxy,
    read_connect_proxy,
)
from tradeproxy.config.endpoints import format_url, is_local
from tradeproxy.config.env import ALLOW_FOREIGN, Environment
from tradeproxy.config.logging import LogSettings, read_log
from tradeproxy.config.storage import JournalSettings, RedisSettings, read_journal, read_redis
from tradeproxy.config.trade_log import TradeLogSettings, read_trade_log
from tradeproxy.config.values import flag, seconds, whole_number
from tradeproxy.config.webhooks import WebhookSettings, is_webhook_variable, read_webhooks
from tradeproxy.wire import hosts
from tradeproxy.wire.credentials import Secret
from tradeproxy.wire.messages import Dialect
from tradeproxy.wire.trusted_proxies import canonicalize_entry

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path


class RecoveryMode(Enum):
    """The source of missed events after an outage."""

    AUTO = "auto"
    """Alpaca's history of events. If Alpaca rejects that request, its orders and fills."""
    EVENTS = "events"
    """Alpaca's history of events only. Clients get no event that the proxy reconstructed."""
    OFF = "off"
    """No source: missed events are lost."""


@dataclass(frozen=True, slots=True)
class RecoverySettings:
    """The source and the times of recovery, in seconds.

    After a reconnect, new events wait up to `deadline` for missed events. While the stream is up,
    recovery checks for missed events every `reconcile_interval`.
    """

    mode: RecoveryMode = RecoveryMode.AUTO
    deadline: float = 5.0
    reconcile_interval: float = 900.0


WEAK_TOKEN = 16
"""A token with fewer characters causes a warning."""

VARIABLES = (
    ALLOW_FOREIGN,
    "PROXY_ALLOWED_HOSTS",
    "PROXY_ALLOWED_ORIGINS",
    "PROXY_ALLOW_ANONYMOUS",
    "PROXY_AUTH_TIMEOUT",
    "PROXY_BOOK",
    "PROXY_CORE_DUMPS",
    "PROXY_DATA_DIR",
    "PROXY_HANDSHAKE_TIMEOUT",
    "PROXY_HOST",
    "PROXY_JOURNAL_DAYS",
    "PROXY_JOURNAL_EVENTS",
    "PROXY_JOURNAL_SYNC",
    "PROXY_LISTEN",
    "PROXY_LOG_FORMAT",
    "PROXY_LOG_LEVEL",
    "PROXY_MAX_CLIENTS",
    "PROXY_MAX_MESSAGE",
    "PROXY_PORT",
    "PROXY_RECONCILE_INTERVAL",
    "PROXY_RECOVERY",
    "PROXY_RECOVERY_DEADLINE",
    "PROXY_REDIS_PASSWORD",
    "PROXY_REDIS_PASSWORD_FILE",
    "PROXY_REDIS_URL",
    "PROXY_REDIS_URL_FILE",
    "PROXY_REST",
    "PROXY_REUSE_PORT",
    "PROXY_STALL_TIMEOUT",
    "PROXY_TOKENS",
    "PROXY_TOKENS_FILE",
    "PROXY_TRADE_LOG",
    "PROXY_TRADE_LOG_FORMAT",
    "PROXY_TRUSTED_PROXIES",
    "PROXY_UPSTREAM_AUTH",
)
"""All PROXY_* variables but those of webhooks. An unknown one causes a warning."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits on clients. Timeouts are in seconds, `max_message` is in bytes.

    `max_clients` limits the clients that have logged in. `handshake_timeout` starts with the
    connection, `auth_timeout` with the open WebSocket. A client must read its buffered data within
    `stall_timeout`.
    """

    max_clients: int = 10_000
    handshake_timeout: float = 5.0
    auth_timeout: float = 10.0
    max_message: int = 16 * 1024
    stall_timeout: float = 30.0


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings.

    accounts: sorted by their variables' names.
    listen: complete Twisted endpoint descriptions.
    listen_source: what set `listen`: PROXY_HOST (with a port), PROXY_LISTEN or --listen.
    reuse_port: other processes may listen on the same TCP ports (SO_REUSEPORT).
    tokens: empty if clients need no token.
    allowed_origins: in the canonical form of `hosts.canonicalize_origin`.
    allowed_hosts: in the canonical form of `hosts.canonicalize`, without ports.
    trusted_proxies: in the form of `trusted_proxies.canonicalize_entry`.
    listen_names: those of them that are in PROXY_HOST.
    redis: the Redis with the log that nodes share, or None if this node has its own journal.
    trade_log: the folder and the format of the trade log, or None if there is none.
    connect_proxy: the HTTP proxy on the way to Alpaca, or None.
    rest: whether the proxy forwards Alpaca's REST interface.
    book: whether the proxy keeps each account's orders and positions.
    webhooks: sorted by their names.
    core_dumps: whether a crash may leave a core dump, which contains the keys.
    demo: each account has a simulator, at its own base URL.
    warnings: probable mistakes, one line each.
    """

    accounts: tuple[AccountSettings, ...]
    listen: tuple[str, ...]
    listen_source: str
    reuse_port: bool
    tokens: tuple[Secret, ...]
    allowed_origins: tuple[str, ...]
    allowed_hosts: tuple[str, ...]
    trusted_proxies: tuple[str, ...]
    listen_names: tuple[str, ...]
    limits: Limits
    journal: JournalSettings
    redis: RedisSettings | None
    trade_log: TradeLogSettings | None
    recovery: RecoverySettings
    log: LogSettings
    connect_proxy: ConnectProxy | None
    rest: bool
    book: bool
    webhooks: tuple[WebhookSettings, ...]
    core_dumps: bool
    demo: bool
    warnings: tuple[str, ...]

    @property
    def storage_label(self) -> str:
        """Where events are stored: a directory, a Redis without its password, or memory."""
        if self.redis is not None:
            return f"Redis at {self.redis.label}"
        return "memory only" if self.journal.directory is None else str(self.journal.directory)


class SettingsError(Exception):
    """The settings are invalid. `problems`, then warnings, are lines that contain no secret."""

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


def read_settings(
    environ: Mapping[str, str],
    *,
    directory: Path,
    env_file: str | None = None,
    port: str | None = None,
    listen: Sequence[str] = (),
    demo: bool = False,
    ipv6_loopback: bool | None = None,
    reads_pipes: bool = True,
) -> Settings:
    """Read all settings. Options override the environment, which overrides the .env file.

    Args:
        environ: the environment variables.
        directory: the base directory of .env and of relative file names.
        env_file: a file to read instead of .env. It must exist.
        port: the text of --port, or None.
        listen: the endpoint descriptions of --listen.
        demo: replace the accounts by the demo's, and store events in memory.
        ipv6_loopback: whether ::1 exists; None tries to bind it.
        reads_pipes: whether a file may be a pipe, which blocks until another program writes to it.

    Raises SettingsError with every problem.
    """
    env = Environment.read(environ, directory, env_file, reads_pipes=reads_pipes)
    _warn_unknown(env)
    _warn_not_from_file(env, environ)
    addresses = read_addresses(env, port, listen, ipv6_loopback)
    tokens = _read_tokens(env)
    _check_exposure(env, addresses)
    dialect = env.parse("PROXY_UPSTREAM_AUTH", _parse_dialect, Dialect.AUTHENTICATE)
    # The demo ignores the real accounts, so it cannot reach one.
    if demo:
        accounts = demo_accounts(addresses.port + 1, dialect)
        if accounts[-1].base_url.port > 65535:
            env.findings.problem(
                f"{addresses.port_source}: --demo also uses the next two ports; "
                "at most 65533 leaves room for them"
            )
    else:
        accounts = read_accounts(env, dialect)
    settings = Settings(
        accounts=accounts,
        listen=addresses.descriptions,
        listen_source=addresses.source,
        reuse_port=_read_reuse_port(env, demo),
        tokens=tokens,
        allowed_origins=env.parse_list(
            "PROXY_ALLOWED_ORIGINS", lambda text: hosts.canonicalize_origin(text.removesuffix("/"))
        ),
        allowed_hosts=(
            *env.parse_list("PROXY_ALLOWED_HOSTS", hosts.canonicalize),
            *addresses.names,
        ),
        trusted_proxies=env.parse_list("PROXY_TRUSTED_PROXIES", canonicalize_entry),
        listen_names=addresses.names,
        limits=_read_limits(env),
        journal=read_journal(env, in_memory=demo),
        redis=read_redis(env, in_memory=demo),
        trade_log=read_trade_log(env, in_memory=demo),
        recovery=_read_recovery(env),
        log=read_log(env),
        connect_proxy=None if demo else read_connect_proxy(environ, env.findings),
        rest=_read_rest(env, addresses),
        book=env.parse("PROXY_BOOK", flag, default=True),
        webhooks=read_webhooks(env, [account.name for account in accounts], demo=demo),
        core_dumps=env.parse("PROXY_CORE_DUMPS", flag, default=False),
        demo=demo,
        warnings=tuple(env.findings.warnings),
    )
    if env.findings.problems:
        warnings = (f"warning: {warning}" for warning in env.findings.warnings)
        raise SettingsError([*env.findings.problems, *warnings])
    return settings


CLIENT_VARIABLES = ("PROXY_TOKEN", "PROXY_TOKEN_FILE")
"""Only `tradeproxy tail` and `status` read these; `check` compares the token."""


def _warn_unknown(env: Environment) -> None:
    for name in env:
        env.warn_case(name, (*VARIABLES, *CLIENT_VARIABLES).__contains__)
        if is_webhook_variable(name):
            continue  # `read_webhooks` reports an unknown one
        if name.startswith("PROXY_") and name not in (*VARIABLES, *CLIENT_VARIABLES):
            nearest, *_ = get_close_matches(name, VARIABLES, n=1, cutoff=0)
            env.findings.warning(f"{name}: unknown variable; did you mean {nearest}?")


def _warn_not_from_file(env: Environment, environ: Mapping[str, str]) -> None:
    for name in (*URL_VARIABLES, *EXCEPTION_VARIABLES):
        if env.get(name) and not environ.get(name, "").strip():
            env.findings.warning(f"{name}: not used; only the environment can set it")


def _read_reuse_port(env: Environment, demo: bool) -> bool:
    reuse_port = env.parse("PROXY_REUSE_PORT", flag, default=False)
    if reuse_port and demo:
        env.warn_unused(("PROXY_REUSE_PORT",), "by the demo, which is a single process")
        return False
    if reuse_port and not hasattr(socket, "SO_REUSEPORT"):
        env.findings.problem("PROXY_REUSE_PORT: this system has no SO_REUSEPORT")
    if reuse_port and env.find_source("PROXY_REDIS_URL") is None:
        env.findings.warning(
            "PROXY_REUSE_PORT: PROXY_REDIS_URL is not set;"
            " processes that share a port must share the log"
        )
    return reuse_port


def _read_tokens(env: Environment) -> tuple[Secret, ...]:
    source = env.find_source("PROXY_TOKENS")
    text = env.read_secret("PROXY_TOKENS")
    tokens = [token.strip() for token in text.split(",") if token.strip()]
    # Without this problem, a list of blanks would mean that no token is necessary.
    if text and not tokens:
        env.findings.problem(f"{source}: contains no token")
    if not all(map(is_visible_ascii, tokens)):
        env.findings.problem(
            f"{source}: a token contains white space, or is not ASCII; separate tokens by commas"
        )
    if any(len(token) < WEAK_TOKEN for token in tokens):
        env.findings.warning(
            f"{source}: a token of fewer than {WEAK_TOKEN} characters can be guessed;"
            " a later version will refuse it"
        )
    return tuple(Secret(token) for token in tokens)


def _check_exposure(env: Environment, addresses: Addresses) -> None:
    anonymous = env.parse("PROXY_ALLOW_ANONYMOUS", flag, default=False)
    if anonymous or env.find_source("PROXY_TOKENS"):
        return
    for description in addresses.descriptions:
        if not is_local(description):
            env.findings.problem(
                f"{addresses.source}: other machines may reach {format_url(description)}"
                " and read every order;"
                " set PROXY_TOKENS, or PROXY_ALLOW_ANONYMOUS=1 to allow that"
            )


def _read_limits(env: Environment) -> Limits:
    default = Limits()
    return Limits(
        max_clients=env.parse("PROXY_MAX_CLIENTS", whole_number, default.max_clients),
        handshake_timeout=env.parse("PROXY_HANDSHAKE_TIMEOUT", seconds, default.handshake_timeout),
        auth_timeout=env.parse("PROXY_AUTH_TIMEOUT", seconds, default.auth_timeout),
        max_message=env.parse("PROXY_MAX_MESSAGE", whole_number, default.max_message),
        stall_timeout=env.parse("PROXY_STALL_TIMEOUT", seconds, default.stall_timeout),
    )


def _read_recovery(env: Environment) -> RecoverySettings:
    default = RecoverySettings()
    return RecoverySettings(
        mode=env.parse("PROXY_RECOVERY", _parse_recovery_mode, default.mode),
        deadline=env.parse("PROXY_RECOVERY_DEADLINE", seconds, default.deadline),
        reconcile_interval=env.parse(
            "PROXY_RECONCILE_INTERVAL", seconds, default.reconcile_interval
        ),
    )


def _read_rest(env: Environment, addresses: Addresses) -> bool:
    rest = env.parse("PROXY_REST", flag, default=False)
    if rest and (tokens := env.find_source("PROXY_TOKENS")):
        env.findings.problem(
            f"PROXY_REST: {tokens} is set too;"
            " the headers of a request cannot carry a token and Alpaca's keys"
        )
    elif rest and any(
        format_url(description).startswith("http:") and not is_local(description)
        for description in addresses.descriptions
    ):
        env.findings.warning(
            "PROXY_REST: other machines send their keys unencrypted; use ssl: in PROXY_LISTEN"
        )
    return rest


def _parse_recovery_mode(text: str) -> RecoveryMode:
    try:
        return RecoveryMode(text)
    except ValueError:
        raise ValueError(f"{text!r} is not one of auto, events, off") from None


def _parse_dialect(text: str) -> Dialect:
    try:
        return Dialect(text)
    except ValueError:
        raise ValueError(f"{text!r} is neither authenticate nor auth") from None
