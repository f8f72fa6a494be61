"""Where the settings come from. The proxy reads them at the start, and again for a reload."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from twisted.logger import Logger

from tradeproxy.config.accounts import AccountSettings
from tradeproxy.config.settings import Settings, SettingsError, read_settings


@dataclass(frozen=True, slots=True)
class SettingsSource:
    """The arguments of `read_settings`, as they were at the start of the process."""

    _log: ClassVar = Logger()

    environ: Mapping[str, str] = field(repr=False)
    directory: Path
    env_file: str | None = None
    port: str | None = None
    listen: tuple[str, ...] = ()
    demo: bool = False

    def read(self, *, is_running: bool = False) -> Settings:
        """Read all settings. Raises SettingsError with every problem."""
        return read_settings(
            self.environ,
            directory=self.directory,
            env_file=self.env_file,
            port=self.port,
            listen=self.listen,
            demo=self.demo,
            is_running=is_running,
        )

    def read_again(self) -> Settings | None:
        """Read all settings while the proxy runs; log a problem, and return None for it.

        It opens nothing that may block the proxy. A pipe is a problem. The keys and certificates of
        TLS are not read: OpenSSL may ask for a passphrase on the terminal, and wait.
        """
        try:
            return self.read(is_running=True)
        except SettingsError as error:
            self._log.error(
                "the settings are not read again, and nothing changes: {problems}",
                problems="; ".join(
                    line for line in error.problems if not line.startswith("warning: ")
                ),
            )
        except Exception:
            self._log.failure("the settings could not be read again, and nothing changes")
        return None

    def read_accounts_again(self) -> tuple[AccountSettings, ...]:
        """Return the accounts of `read_again`; none after a problem."""
        settings = self.read_again()
        return () if settings is None else settings.accounts
