"""The settings: the environment and .env, read once into frozen values.

An invalid setting does not end the reading, so one error lists every problem.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from tradeproxy.config import access, addresses, storage, trade_log
from tradeproxy.config.accounts import AccountSettings, demo_accounts, read_accounts
from tradeproxy.config.connect_proxy import (
    EXCEPTION_VARIABLES,
    URL_VARIABLES,
    ConnectProxy,
    read_connect_proxy,
)
from tradeproxy.config.env import ALLOW_FOREIGN, Environment
from tradeproxy.config.logging import LogSettings
from tradeproxy.config.setting import (
    Setting,
    choice,
    flag,
    list_settings,
    made_of,
    read_fields,
    seconds,
    setting,
    whole_number,
)
from tradeproxy.config.webhooks import WebhookSettings, is_webhook_variable, read_webhooks
from tradeproxy.wire.credentials import Secret
from tradeproxy.wire.messages import Dialect
from tradeproxy.wire.strategy_rule import StrategyRule, parse_rule


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
    """The source and the times of recovery, in seconds."""

    mode: RecoveryMode = setting(
        "PROXY_RECOVERY",
        choice(RecoveryMode),
        "auto",
        "`auto`: from Alpaca's history of events, else from its orders and fills; `events`: from"
        " the history only; `off`: no recovery",
        "Events from orders and fills are marked. Recovery uses them if Alpaca rejects the request"
        " for the history or it fails.",
    )
    deadline: float = setting(
        "PROXY_RECOVERY_DEADLINE",
        seconds,
        "5",
        "seconds after a reconnect for which new events wait for missed events",
    )
    reconcile_interval: float = setting(
        "PROXY_RECONCILE_INTERVAL",
        seconds,
        "900",
        "maximum seconds between two checks for missed events while the stream is up",
        "The first one runs after 30 s. Alpaca's stream can omit fills even then.",
    )


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits on clients. Timeouts are in seconds, `max_message` is in bytes."""

    max_clients: int = setting(
        "PROXY_MAX_CLIENTS",
        whole_number,
        "10000",
        "maximum number of clients that have logged in",
        "The next client gets status 503.",
    )
    handshake_timeout: float = setting(
        "PROXY_HANDSHAKE_TIMEOUT",
        seconds,
        "5",
        "seconds from the connection to the end of the HTTP request or WebSocket handshake",
    )
    auth_timeout: float = setting(
        "PROXY_AUTH_TIMEOUT",
        seconds,
        "10",
        "seconds from the open WebSocket to the client's auth message",
    )
    max_message: int = setting(
        "PROXY_MAX_MESSAGE",
        whole_number,
        "16384",
        "maximum size of a client's message, in bytes; one fragment per 256 of them",
        "Clients send only short messages.",
    )
    stall_timeout: float = setting(
        "PROXY_STALL_TIMEOUT",
        seconds,
        "30",
        "seconds in which a client must read its buffered data (at most 80 KiB, or one event of"
        " up to 1 MiB)",
        "If it does not, the proxy closes the connection, and the client can resume from its"
        " position.",
    )


UPSTREAM_AUTH = Setting(
    "PROXY_UPSTREAM_AUTH",
    choice(Dialect),
    "authenticate",
    "the login message to Alpaca: `authenticate`, as all SDKs send it, or `auth`, as Alpaca"
    " documents it",
)
BOOK = Setting(
    "PROXY_BOOK",
    flag,
    "1",
    "`0`: keep no [orders and positions](state.md) of the accounts, and ask Alpaca for neither",
)
STRATEGIES = Setting(
    "PROXY_STRATEGIES",
    parse_rule,
    "",
    "which part of a `client_order_id` names its [strategy](strategies.md): prefixes, such as"
    " `momentum,pairs`, or a regular expression with one group, such as `^bot_([a-z]+)_`",
    "The latter needs pip install 'tradeproxy[re2]'. The default is the text before the first"
    ' "-".',
    cell="the text before the first `-`",
)
CORE_DUMPS = Setting(
    "PROXY_CORE_DUMPS",
    flag,
    "0",
    "`1`: a crash may leave a core dump, which contains the keys",
    "The limit of the system applies.",
)
ALLOW_FOREIGN_ENV_FILE = Setting(
    ALLOW_FOREIGN,
    flag,
    "0",
    "`1`: accept a `.env` that another user owns or can change; only in the environment of the"
    " process",
    "Here it has no effect.",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All settings.

    accounts: sorted by their variables' names.
    listen: complete Twisted endpoint descriptions.
    listen_source: what set `listen`: PROXY_HOST (with a port), PROXY_LISTEN or --listen.
    tokens: empty if clients need no token.
    allowed_origins: in the canonical form of `hosts.canonicalize_origin`.
    allowed_hosts: in the canonical form of `hosts.canonicalize`, without ports.
    trusted_proxies: in the form of `access.canonicalize_proxy`.
    listen_names: the allowed hosts that are in PROXY_HOST.
    redis: the Redis with the log that nodes share, or None if this node has its own journal.
    trade_log: None if there is none.
    connect_proxy: the HTTP proxy on the way to Alpaca, or None.
    webhooks: sorted by their names.
    demo: each account has a simulator, at its own base URL.
    warnings: probable mistakes, one line each.
    """

    accounts: tuple[AccountSettings, ...]
    listen: tuple[str, ...] = field(
        metadata=made_of(addresses.HOST, addresses.PORT, addresses.LISTEN)
    )
    listen_source: str
    listen_names: tuple[str, ...]
    reuse_port: bool = field(metadata=made_of(addresses.REUSE_PORT))
    tokens: tuple[Secret, ...] = field(metadata=made_of(access.TOKENS))
    allowed_origins: tuple[str, ...] = field(metadata=made_of(access.ALLOWED_ORIGINS))
    allowed_hosts: tuple[str, ...] = field(metadata=made_of(access.ALLOWED_HOSTS))
    trusted_proxies: tuple[str, ...] = field(metadata=made_of(access.TRUSTED_PROXIES))
    rest: bool = field(metadata=made_of(access.REST))
    limits: Limits
    journal: storage.JournalSettings
    redis: storage.RedisSettings | None = field(
        metadata=made_of(storage.REDIS_URL, storage.REDIS_PASSWORD)
    )
    trade_log: trade_log.TradeLogSettings | None = field(
        metadata=made_of(trade_log.FOLDER, trade_log.FORMAT)
    )
    log: LogSettings
    recovery: RecoverySettings
    connect_proxy: ConnectProxy | None
    webhooks: tuple[WebhookSettings, ...]
    book: bool = field(metadata=made_of(BOOK))
    strategies: StrategyRule = field(metadata=made_of(STRATEGIES))
    core_dumps: bool = field(metadata=made_of(CORE_DUMPS))
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
    is_running: bool = False,
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
        is_running: whether the process runs already. Then nothing is opened that may block: a pipe
            is a problem, and the keys and certificates of TLS are not read.

    Raises SettingsError with every problem.
    """
    env = Environment.read(environ, directory, env_file, is_running=is_running)
    _warn_unknown(env)
    _warn_not_from_file(env, environ)
    listening = addresses.read_addresses(env, port, listen, ipv6_loopback)
    tokens = access.read_tokens(env)
    access.check_exposure(env, listening)
    dialect = UPSTREAM_AUTH.read(env)
    # The demo ignores the real accounts, so it cannot reach one.
    if demo:
        accounts = demo_accounts(listening.port + 1, dialect)
        if accounts[-1].base_url.port > 65535:
            env.findings.problem(
                f"{listening.port_source}: --demo also uses the next two ports; "
                "at most 65533 leaves room for them"
            )
    else:
        accounts = read_accounts(env, dialect)
    settings = Settings(
        accounts=accounts,
        listen=listening.descriptions,
        listen_source=listening.source,
        reuse_port=addresses.read_reuse_port(env, demo=demo),
        tokens=tokens,
        allowed_origins=env.read_list(access.ALLOWED_ORIGINS),
        allowed_hosts=(*env.read_list(access.ALLOWED_HOSTS), *listening.names),
        trusted_proxies=env.read_list(access.TRUSTED_PROXIES),
        listen_names=listening.names,
        limits=read_fields(Limits, env),
        journal=storage.read_journal(env, in_memory=demo),
        redis=storage.read_redis(env, in_memory=demo),
        trade_log=trade_log.read_trade_log(env, in_memory=demo),
        recovery=read_fields(RecoverySettings, env),
        log=read_fields(LogSettings, env),
        connect_proxy=None if demo else read_connect_proxy(environ, env.findings),
        rest=access.read_rest(env, listening),
        book=BOOK.read(env),
        strategies=STRATEGIES.read(env),
        webhooks=read_webhooks(env, [account.name for account in accounts], demo=demo),
        core_dumps=CORE_DUMPS.read(env),
        demo=demo,
        warnings=tuple(env.findings.warnings),
    )
    if env.findings.problems:
        warnings = (f"warning: {warning}" for warning in env.findings.warnings)
        raise SettingsError([*env.findings.problems, *warnings])
    return settings


SECTIONS: Mapping[str, tuple[Setting[Any], ...]] = {
    "Accounts": (UPSTREAM_AUTH,),
    "Where to listen, and who gets in": (*addresses.SETTINGS, *access.SETTINGS),
    "Limits on clients": list_settings(Limits),
    "The journal": list_settings(storage.JournalSettings),
    "Redis, instead of the journal": (storage.REDIS_URL, storage.REDIS_PASSWORD),
    "The trade log": (trade_log.FOLDER, trade_log.FORMAT),
    "Recovery": list_settings(RecoverySettings),
    "The log": list_settings(LogSettings),
    "Webhooks": list_settings(WebhookSettings),
    "The process": (BOOK, STRATEGIES, CORE_DUMPS, ALLOW_FOREIGN_ENV_FILE),
}
"""All settings but the keys and URLs of accounts, by the headings of docs/configuration.md."""

VARIABLES = tuple(
    name
    for settings in SECTIONS.values()
    for each in settings
    for name in each.names
    if not is_webhook_variable(name)
)
"""All PROXY_* variables but those of webhooks. An unknown one causes a warning."""

CLIENT_VARIABLES = ("PROXY_TOKEN", "PROXY_TOKEN_FILE")
"""Only `tradeproxy tail` and `status` read these; `check` compares the token."""


def _warn_unknown(env: Environment) -> None:
    for name in env:
        env.warn_case(name, (*VARIABLES, *CLIENT_VARIABLES).__contains__)
        if is_webhook_variable(name):
            continue  # `read_webhooks` reports an unknown one
        if name.startswith("PROXY_") and name not in (*VARIABLES, *CLIENT_VARIABLES):
            suggestion = env.findings.suggest(name, VARIABLES)
            env.findings.warning(f"{name}: unknown variable{suggestion}")


def _warn_not_from_file(env: Environment, environ: Mapping[str, str]) -> None:
    for name in (*URL_VARIABLES, *EXCEPTION_VARIABLES):
        if env.get(name) and not environ.get(name, "").strip():
            env.findings.warning(f"{name}: not used; only the environment can set it")
