"""One account's keys while the proxy runs: a reload or a refused login may replace them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from tradeproxy.config.accounts import AccountSettings
from tradeproxy.runtime.account_log import AccountLogger
from tradeproxy.wire.credentials import Credentials


class AccountKeys:
    """The settings of one account, whose credentials can be replaced.

    Every login and every request uses the newest ones. An open stream is left alone.
    """

    on_change: Callable[[], None] = staticmethod(lambda: None)
    """Called after a reload has replaced them. Set by UpstreamService."""

    def __init__(
        self,
        settings: AccountSettings,
        read: Callable[[], Iterable[AccountSettings]] = tuple,
    ) -> None:
        """Create the keys of an account; `read` reads the settings of all accounts again."""
        self.settings = settings
        self._log = AccountLogger(self, settings.name)
        self._read = read

    @property
    def credentials(self) -> Credentials:
        """The credentials for the next login or request."""
        return self.settings.credentials

    def replace(self, accounts: Iterable[AccountSettings]) -> bool:
        """Take the account's credentials from new settings; return whether they have changed.

        Credentials for another URL or login message are not taken: these need a restart.
        """
        ours = self.settings
        for each in accounts:
            if (each.name, each.base_url, each.dialect) == (ours.name, ours.base_url, ours.dialect):
                self.settings = replace(
                    ours, credentials=each.credentials, key_variable=each.key_variable
                )
        return self.settings.credentials != ours.credentials

    def have_replaced(self, refused: Credentials) -> bool:
        """Read the settings again; return whether there are other credentials than `refused`.

        A reload may have replaced them while Alpaca had not yet answered.
        """
        if self.replace(self._read()):
            self._log.info("the keys were replaced, as Alpaca refused the old ones")
        return self.credentials != refused
