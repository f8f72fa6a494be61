"""A reload: reads the settings again, and replaces those that a running proxy can change."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from twisted.logger import Logger

from tradeproxy.config.changes import choose_tokens, list_restart_variables
from tradeproxy.wire.plural import plural_ending

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tradeproxy.config.logging import Level
    from tradeproxy.config.settings import Settings
    from tradeproxy.downstream.admission import Admission, Tokens
    from tradeproxy.downstream.clients import Clients
    from tradeproxy.upstream.keys import AccountKeys
    from tradeproxy.webhooks.service import Webhooks


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
        tokens = choose_tokens(old, new)
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
