"""Tests for tradeproxy.config.trade_log."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tradeproxy.config.settings import Settings, SettingsError, read_settings
from tradeproxy.config.trade_log import TradeLogFormat, TradeLogSettings

KEYS = {"ALPACA_API_KEY": "key", "ALPACA_SECRET_KEY": "secret", "HOME": "/home/user"}


def read(*, demo: bool = False, **variables: str) -> Settings:
    """Return the settings of one account and these variables."""
    return read_settings(
        KEYS | variables, directory=Path("/nowhere"), ipv6_loopback=True, demo=demo
    )


class TradeLogSettingsTests(SynchronousTestCase):
    """The folder and the format."""

    def test_default_is_no_trade_log(self) -> None:
        """It costs disk space for as long as it is on."""
        self.assertIsNone(read().trade_log)

    def test_folder_is_relative_to_the_env_file(self) -> None:
        """As PROXY_DATA_DIR is; a tilde is the home directory."""
        for text, expected in (
            ("trades", "/nowhere/trades"),
            ("~/trades", "/home/user/trades"),
            ("/srv/trades", "/srv/trades"),
        ):
            settings = read(PROXY_TRADE_LOG=text).trade_log
            self.assertEqual(settings, TradeLogSettings(Path(expected), TradeLogFormat.CSV))

    def test_format_is_csv_or_jsonl(self) -> None:
        """Another one is a problem that names the variable."""
        settings = read(PROXY_TRADE_LOG="/a", PROXY_TRADE_LOG_FORMAT="jsonl").trade_log
        self.assertEqual(settings, TradeLogSettings(Path("/a"), TradeLogFormat.JSONL))
        error = self.assertRaises(SettingsError, read, PROXY_TRADE_LOG_FORMAT="parquet")
        self.assertEqual(
            error.problems, ("PROXY_TRADE_LOG_FORMAT: 'parquet' is neither csv nor jsonl",)
        )

    def test_unused_variable_is_a_warning(self) -> None:
        """The demo has no journal either."""
        [warning] = read(PROXY_TRADE_LOG_FORMAT="jsonl").warnings
        self.assertEqual(warning, "PROXY_TRADE_LOG_FORMAT: not used without PROXY_TRADE_LOG")
        settings = read(demo=True, PROXY_TRADE_LOG="/a")
        self.assertIsNone(settings.trade_log)
        self.assertTrue(
            any("PROXY_TRADE_LOG: not used by the demo" in w for w in settings.warnings)
        )
