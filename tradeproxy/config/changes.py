"""Which variables differ between two readings of the settings and need a restart."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tradeproxy.config.accounts import prefix_variables

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tradeproxy.config.settings import Settings
    from tradeproxy.wire.credentials import Secret

RELOADED = (
    "PROXY_ALLOWED_HOSTS",
    "PROXY_ALLOWED_ORIGINS",
    "PROXY_LOG_LEVEL",
    "PROXY_TOKENS",
)
"""The variables that a reload replaces, besides the keys of the accounts and the webhooks."""

_NEED_RESTART: tuple[tuple[str, Callable[[Settings], object]], ...] = (
    ("PROXY_HOST, PROXY_PORT or PROXY_LISTEN", lambda settings: settings.listen),
    ("PROXY_REUSE_PORT", lambda settings: settings.reuse_port),
    ("PROXY_TRUSTED_PROXIES", lambda settings: settings.trusted_proxies),
    ("PROXY_REST", lambda settings: settings.rest),
    ("PROXY_MAX_CLIENTS", lambda settings: settings.limits.max_clients),
    ("PROXY_HANDSHAKE_TIMEOUT", lambda settings: settings.limits.handshake_timeout),
    ("PROXY_AUTH_TIMEOUT", lambda settings: settings.limits.auth_timeout),
    ("PROXY_MAX_MESSAGE", lambda settings: settings.limits.max_message),
    ("PROXY_STALL_TIMEOUT", lambda settings: settings.limits.stall_timeout),
    ("PROXY_DATA_DIR", lambda settings: settings.journal.directory),
    ("PROXY_JOURNAL_SYNC", lambda settings: settings.journal.full_sync),
    ("PROXY_JOURNAL_DAYS", lambda settings: settings.journal.max_age),
    ("PROXY_JOURNAL_EVENTS", lambda settings: settings.journal.max_events),
    ("PROXY_REDIS_URL or PROXY_REDIS_PASSWORD", lambda settings: settings.redis),
    ("PROXY_TRADE_LOG or PROXY_TRADE_LOG_FORMAT", lambda settings: settings.trade_log),
    ("PROXY_LOG_FORMAT", lambda settings: settings.log.format),
    ("PROXY_RECOVERY", lambda settings: settings.recovery.mode),
    ("PROXY_RECOVERY_DEADLINE", lambda settings: settings.recovery.deadline),
    ("PROXY_RECONCILE_INTERVAL", lambda settings: settings.recovery.reconcile_interval),
    ("PROXY_BOOK", lambda settings: settings.book),
    ("PROXY_CORE_DUMPS", lambda settings: settings.core_dumps),
)


def list_restart_variables(running: Settings, new: Settings) -> list[str]:
    """Return the names of variables that differ and that a running proxy cannot change."""
    found = [name for name, read in _NEED_RESTART if read(running) != read(new)]
    if choose_tokens(running, new) != new.tokens:
        found.append("PROXY_TOKENS")
    return [*found, *dict.fromkeys(_compare_accounts(running, new))]


def choose_tokens(running: Settings, new: Settings) -> tuple[Secret, ...]:
    """Return the tokens that a running proxy can have.

    They may change, but not cease: the proxy could become open to other machines. With the REST
    proxy on they may not begin: it would forward a token in `Authorization` to Alpaca.
    """
    return running.tokens if running.rest or not new.tokens else new.tokens


def _compare_accounts(running: Settings, new: Settings) -> Iterator[str]:
    ours = {account.name: account for account in running.accounts}
    theirs = {account.name: account for account in new.accounts}
    for name in sorted(ours.keys() | theirs.keys()):
        if name not in theirs:
            yield ours[name].key_variable
        elif name not in ours:
            yield theirs[name].key_variable
        elif ours[name].base_url != theirs[name].base_url:
            yield f"{prefix_variables(name)}URL"
        elif ours[name].dialect is not theirs[name].dialect:
            yield "PROXY_UPSTREAM_AUTH"
