"""Which variables differ between two readings of the settings and need a restart."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any

from tradeproxy.config.accounts import prefix_variables
from tradeproxy.config.setting import settings_in
from tradeproxy.config.settings import Settings
from tradeproxy.wire.credentials import Secret


def list_restart_variables(running: Settings, new: Settings) -> list[str]:
    """Return the names of variables that differ and that a running proxy cannot change."""
    found = list(_find_changes(running, new))
    if choose_tokens(running, new) != new.tokens:
        found.append("PROXY_TOKENS")
    return [*found, *dict.fromkeys(_compare_accounts(running, new))]


def choose_tokens(running: Settings, new: Settings) -> tuple[Secret, ...]:
    """Return the tokens that a running proxy can have.

    They may change, but not cease: the proxy could become open to other machines. With the REST
    proxy on they may not begin: it would forward a token in `Authorization` to Alpaca.
    """
    return running.tokens if running.rest or not new.tokens else new.tokens


def _find_changes(running: Any, new: Any) -> Iterator[str]:
    for part in fields(running):
        ours, theirs = getattr(running, part.name), getattr(new, part.name)
        settings = settings_in(part)
        if is_dataclass(ours) and type(ours) is type(theirs) and not settings:
            yield from _find_changes(ours, theirs)
        elif ours != theirs and not all(each.reload for each in settings):
            *names, last = (each.name for each in settings)
            yield f"{', '.join(names)} or {last}" if names else last


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
