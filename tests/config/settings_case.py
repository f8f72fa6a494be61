"""A base class for tests that read settings."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tradeproxy.config.settings import Settings, SettingsError, read_settings

PAIR = {"ALPACA_API_KEY": "key", "ALPACA_SECRET_KEY": "secret"}
TOKEN = "a-token-of-some-length"


class SettingsTestCase(SynchronousTestCase):
    """Each test reads settings in its own directory, on a machine with ::1."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.directory.mkdir()

    def read(
        self,
        variables: dict[str, str],
        *,
        env_file: str | None = None,
        port: str | None = None,
        listen: tuple[str, ...] = (),
        demo: bool = False,
    ) -> Settings:
        """Return the settings for these variables and options."""
        return read_settings(
            variables,
            directory=self.directory,
            env_file=env_file,
            port=port,
            listen=listen,
            demo=demo,
            ipv6_loopback=True,
        )

    def problems(
        self,
        variables: dict[str, str],
        *,
        env_file: str | None = None,
        port: str | None = None,
        listen: tuple[str, ...] = (),
        demo: bool = False,
    ) -> list[str]:
        """Return the problems of these variables and options. By default there is an account."""
        try:
            self.read({**PAIR, **variables}, env_file=env_file, port=port, listen=listen, demo=demo)
        except SettingsError as error:
            return list(error.problems)
        return []
