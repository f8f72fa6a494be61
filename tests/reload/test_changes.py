"""Tests for tradeproxy.reload.reload: each variable is reloaded, or named for a restart."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tradeproxy.config.env import ALLOW_FOREIGN
from tradeproxy.config.settings import SECTIONS, Settings, read_settings
from tradeproxy.reload.reload import list_restart_variables

PAIR = {"ALPACA_API_KEY": "key", "ALPACA_SECRET_KEY": "secret"}
OTHER = {
    "PROXY_AUTH_TIMEOUT": "7",
    "PROXY_BOOK": "0",
    "PROXY_CORE_DUMPS": "1",
    "PROXY_DATA_DIR": "/elsewhere",
    "PROXY_HANDSHAKE_TIMEOUT": "7",
    "PROXY_HOST": "127.0.0.9",
    "PROXY_JOURNAL_DAYS": "3",
    "PROXY_JOURNAL_EVENTS": "5000",
    "PROXY_JOURNAL_SYNC": "normal",
    "PROXY_LISTEN": "tcp:9000:interface=127.0.0.1",
    "PROXY_LOG_FORMAT": "text",
    "PROXY_MAX_CLIENTS": "7",
    "PROXY_MAX_MESSAGE": "7000",
    "PROXY_PORT": "9000",
    "PROXY_RECONCILE_INTERVAL": "7",
    "PROXY_RECOVERY": "off",
    "PROXY_RECOVERY_DEADLINE": "7",
    "PROXY_REDIS_PASSWORD": "hush",
    "PROXY_REDIS_URL": "redis://127.0.0.1/3",
    "PROXY_REST": "1",
    "PROXY_REUSE_PORT": "1",
    "PROXY_STALL_TIMEOUT": "7",
    "PROXY_STRATEGIES": "momentum,pairs",
    "PROXY_TRADE_LOG": "/trades",
    "PROXY_TRADE_LOG_FORMAT": "jsonl",
    "PROXY_TRUSTED_PROXIES": "10.0.0.1",
    "PROXY_UPSTREAM_AUTH": "auth",
    "ALPACA_DESK_OAUTH_TOKEN": "x",
    "ALPACA_URL": "https://other.example",
}
"""A value for each variable that needs a restart; it is not the default."""

NOT_READ_AGAIN = {"PROXY_ALLOW_ANONYMOUS", ALLOW_FOREIGN}
"""They change nothing of the settings: they allow others."""

PROXY_SETTINGS = [
    each for settings in SECTIONS.values() for each in settings if "<" not in each.name
]


def read(**variables: str) -> Settings:
    """Return the settings of one account and these variables."""
    return read_settings(PAIR | variables, directory=Path("/nowhere"), ipv6_loopback=True)


class RestartVariableTests(SynchronousTestCase):
    """What differs between the settings that run and those that were read."""

    def test_every_variable_is_reloaded_or_named(self) -> None:
        """One that is neither would be changed without effect and without a word."""
        need_restart = {each.name for each in PROXY_SETTINGS if not each.reload}
        self.assertEqual(need_restart - NOT_READ_AGAIN, {*OTHER} & need_restart)
        base = {
            "PROXY_TRADE_LOG_FORMAT": {"PROXY_TRADE_LOG": "/trades"},
            "PROXY_REDIS_PASSWORD": {"PROXY_REDIS_URL": "redis://127.0.0.1/3"},
        }
        for name, value in OTHER.items():
            before = base.get(name, {})
            text = ", ".join(
                list_restart_variables(read(**before), read(**before, **{name: value}))
            )
            self.assertIn(name, text)

    def test_equal_settings_need_no_restart(self) -> None:
        """All variables are set, and read twice: no value compares by identity."""
        unlike = {"PROXY_UPSTREAM_AUTH", "PROXY_REUSE_PORT"}  # not with ALPACA_DESK_OAUTH_TOKEN
        variables = {name: value for name, value in OTHER.items() if name not in unlike}
        self.assertEqual(list_restart_variables(read(**variables), read(**variables)), [])

    def test_reloaded_variables_need_no_restart(self) -> None:
        """The keys of an account neither."""
        variables = {
            "PROXY_ALLOWED_HOSTS": "desk.example",
            "PROXY_ALLOWED_ORIGINS": "https://desk.example",
            "PROXY_LOG_LEVEL": "debug",
            "PROXY_TOKENS": "a-token-of-16-characters",
        }
        self.assertEqual({each.name for each in PROXY_SETTINGS if each.reload}, {*variables})
        new = read(
            **variables,
            ALPACA_SECRET_KEY="other",
            PROXY_WEBHOOK_DESK_URL="https://receiver.example/",
        )
        self.assertEqual(list_restart_variables(read(), new), [])

    def test_account_that_is_removed_is_named(self) -> None:
        """By the variable of its key."""
        self.assertEqual(
            list_restart_variables(read(ALPACA_DESK_OAUTH_TOKEN="x"), read()),
            ["ALPACA_DESK_OAUTH_TOKEN"],
        )
