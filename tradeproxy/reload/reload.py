"""A reload: reads the settings again, and replaces those that a running proxy can change."""

from __future__ import annotations

from dataclasses import dataclass, fields, is_dataclass, replace
from typing import TYPE_CHECKING, Any

from twisted.logger import Logger

from tradeproxy.config.accounts import prefix_variables
from tradeproxy.config.setting import settings_in
from tradeproxy.wire.plural import plural_ending

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tradeproxy.config.logging import Level
    from tradeproxy.config.settings import Settings
    from tradeproxy.downstream.admission import Admission, Tokens
    from tradeproxy.downstream.clients import Clients
    from tradeproxy.upstream.keys import AccountKeys
    from tradeproxy.webhooks.service import Webhooks
    from tradeproxy.wire.credentials import Secret


def ignore_level(_: Level) -> None:
    """Do nothing: under twistd's own log, the level is not ours."""


@dataclass(frozen=True, slots=True)
class ReloadTargets:
    """The objects that hold settings which a reload replaces. No replacement of one can fail."""

    tokens: Tokens
    clients: Clients
    admission: Admission
    """The rules of Host and Origin for all pages."""
    rest_admission: Admission | None
    """Those of the REST proxy, which serves no page of another origin."""
    keys: Sequence[AccountKeys]
    set_log_level: Callable[[Level], None] = ignore_level
    webhooks: Webhooks | None = None


class Reload:
    """Replaces settings in one turn of the reactor, after all of them have been read and checked.

    `settings` are those that the proxy runs with.
    """

    _log = Logger()

    def __init__(
        self, settings: Settings, read: Callable[[], Settings | None], targets: ReloadTargets
    ) -> None:
        """Create the reload. `read` logs a problem with the settings, and returns None for it."""
        self.settings = settings
        self._read = read
        self._targets = targets

    def run(self) -> None:
        """Read the settings again, apply them, and log what has changed and what has not."""
        new = self._read()
        if new is None:
            return
        for warning in new.warnings:
            if warning not in self.settings.warnings:
                self._log.warn("{line}", line=warning)
        if variables := list_restart_variables(self.settings, new):
            self._log.warn("a restart is needed for {variables}", variables=", ".join(variables))
        changes, closed = self._apply(new)
        self._log.info(
            "the settings were read again: {changes}",
            changes=", ".join(changes) or "nothing has changed",
        )
        if closed:
            self._log.info(
                "closed {count} client{s} without a valid token",
                count=closed,
                s=plural_ending(closed),
            )

    def _apply(self, new: Settings) -> tuple[list[str], int]:
        """Apply the settings; return the names of what has changed, and how many clients closed."""
        old, targets = self.settings, self._targets
        tokens = _choose_tokens(old, new)
        # While the addresses stay, clients use their names.
        hosts = tuple(dict.fromkeys((*new.allowed_hosts, *old.listen_names)))
        changed = {
            "PROXY_TOKENS": tokens != old.tokens,
            "PROXY_ALLOWED_HOSTS": set(hosts) != set(old.allowed_hosts),
            "PROXY_ALLOWED_ORIGINS": new.allowed_origins != old.allowed_origins,
            "PROXY_LOG_LEVEL": new.log.level is not old.log.level
            and targets.set_log_level is not ignore_level,
        }
        if targets.webhooks is not None:
            changed["PROXY_WEBHOOK_…"] = targets.webhooks.replace(new.webhooks)
        new_keys = [keys for keys in targets.keys if keys.replace(new.accounts)]
        changed |= {f"the keys of {keys.settings.name}": True for keys in new_keys}
        self.settings = replace(
            old,
            accounts=tuple(keys.settings for keys in targets.keys),
            tokens=tokens,
            allowed_hosts=hosts,
            allowed_origins=new.allowed_origins,
            log=replace(old.log, level=new.log.level),
            webhooks=new.webhooks,
            warnings=new.warnings,
        )
        targets.admission.replace_origin_rules(hosts, new.allowed_origins)
        if targets.rest_admission is not None:
            targets.rest_admission.replace_origin_rules(hosts, ())
        targets.set_log_level(new.log.level)
        targets.tokens.replace(tokens)
        for keys in new_keys:
            keys.on_change()
        return [name for name, is_new in changed.items() if is_new], (
            targets.clients.close_unaccepted()
        )


def list_restart_variables(running: Settings, new: Settings) -> list[str]:
    """Return the names of variables that differ and that a running proxy cannot change."""
    found = list(_find_changes(running, new))
    if _choose_tokens(running, new) != new.tokens:
        found.append("PROXY_TOKENS")
    return [*found, *dict.fromkeys(_compare_accounts(running, new))]


def _choose_tokens(running: Settings, new: Settings) -> tuple[Secret, ...]:
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
