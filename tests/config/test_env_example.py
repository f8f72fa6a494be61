"""Tests for .env.example: it matches the settings in the code."""

from __future__ import annotations

import re
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tradeproxy.config.accounts import LIVE, PAPER
from tradeproxy.config.settings import Limits, Settings, read_settings
from tradeproxy.wire.messages import Dialect

EXAMPLE = Path(__file__).parents[2] / ".env.example"
NO_DIRECTORY = Path("/nonexistent")

KEYS = {"ALPACA_API_KEY": "key", "ALPACA_SECRET_KEY": "secret"}
# Values for variables that are blank in the example. The remaining blank variables are alternative
# forms of these.
FILLED_IN = {
    **KEYS,
    "ALPACA_LIVE_API_KEY": "live-key",
    "ALPACA_LIVE_SECRET_KEY": "live-secret",
    "ALPACA_DESK_API_KEY": "desk-key",
    "ALPACA_DESK_SECRET_KEY": "desk-secret",
    "PROXY_TOKENS": "a-token-of-some-length",
    "PROXY_ALLOWED_ORIGINS": "https://dashboard.example",
    "PROXY_ALLOWED_HOSTS": "proxy.example",
    "PROXY_WEBHOOK_DESK_URL": "https://receiver.example/",
}


def assignments(text: str) -> dict[str, str]:
    """Return every variable of the text with its value, commented out or not."""
    return dict(re.findall(r"^(?:# )?([A-Z_]+)=(.*)$", text, re.MULTILINE))


def settings_for(environ: dict[str, str]) -> Settings:
    """Return the settings without a .env file, on a machine with ::1."""
    return read_settings(environ, directory=NO_DIRECTORY, ipv6_loopback=True)


class EnvExampleTests(SynchronousTestCase):
    """.env.example agrees with the code."""

    def setUp(self) -> None:
        self.text = EXAMPLE.read_text(encoding="utf-8")
        self.shown = assignments(self.text)

    def test_example_lists_exactly_the_variables_of_accounts(self) -> None:
        """It lists all forms for paper, and some for two more accounts."""
        forms = ["API_KEY", "SECRET_KEY", "OAUTH_TOKEN"]
        paper = {f"ALPACA_{form}{suffix}" for form in forms for suffix in ("", "_FILE")} | {
            "ALPACA_URL"
        }
        others = {
            f"ALPACA_{name}_{form}" for name in ("LIVE", "DESK") for form in (*forms[:2], "URL")
        }
        shown = {name for name in self.shown if name.startswith("ALPACA_")}
        self.assertEqual(shown, {*paper, *others})

    def test_short_token_is_described_as_it_is_treated(self) -> None:
        """The texts demanded 16 characters, and a shorter token was accepted with a warning."""
        settings = settings_for({**KEYS, "PROXY_TOKENS": "short"})
        [warning] = settings.warnings
        self.assertIn("a token of fewer than 16 characters can be guessed", warning)
        page = EXAMPLE.with_name("docs") / "configuration.md"
        for text in (self.text, page.read_text(encoding="utf-8")):
            words = " ".join(text.replace("\n# ", " ").split())
            self.assertIn("accepted with a warning", words)
            self.assertNotIn("of 16 characters or more", words)

    def test_example_unchanged_sets_nothing(self) -> None:
        """Only the two keys are not commented out, and they are blank."""
        live_lines = [line for line in self.text.splitlines() if line and not line.startswith("#")]
        self.assertEqual(live_lines, ["ALPACA_API_KEY=", "ALPACA_SECRET_KEY="])

    def test_example_uncommented_and_filled_in_is_valid(self) -> None:
        """No variable is unknown or invalid."""
        settings = settings_for({**self.shown, **FILLED_IN})
        self.assertEqual(settings.warnings, ())
        self.assertEqual([account.name for account in settings.accounts], ["paper", "desk", "live"])

    def test_example_with_redis_is_valid(self) -> None:
        """The lines for Redis replace those for the journal files."""
        shown = {
            name: "" if name == "PROXY_JOURNAL_SYNC" else value
            for name, value in self.shown.items()
        }
        redis = {"PROXY_REDIS_URL": "rediss://redis.example", "PROXY_REDIS_PASSWORD": "hush"}
        settings = settings_for({**shown, **FILLED_IN, **redis})
        self.assertEqual(
            (settings.storage_label, settings.warnings),
            ("Redis at rediss://redis.example:6379/0", ()),
        )

    def test_default_values_match_the_code(self) -> None:
        """A line that is only uncommented changes nothing."""
        defaults = {
            name: value
            for name, value in self.shown.items()
            if name.startswith("PROXY_") and not name.startswith("PROXY_WEBHOOK_")
        }
        self.assertEqual(settings_for({**defaults, **KEYS}), settings_for(KEYS))
        self.assertEqual(settings_for(KEYS).limits, Limits())
        self.assertEqual(settings_for(KEYS).accounts[0].dialect, Dialect.AUTHENTICATE)

    def test_default_values_of_a_webhook_match_the_code(self) -> None:
        """A line that is only uncommented changes nothing."""
        shown = {name: value for name, value in self.shown.items() if "_WEBHOOK_" in name}
        url = {"PROXY_WEBHOOK_DESK_URL": "https://receiver.example/"}
        self.assertEqual(settings_for({**KEYS, **shown, **url}), settings_for({**KEYS, **url}))

    def test_limits_are_not_blank(self) -> None:
        """A blank value would equal the default without showing it."""
        limits = [
            name for name in self.shown if re.search("MAX|TIMEOUT|BUFFER|PORT|HOST$|AUTH$", name)
        ]
        self.assertEqual([name for name in limits if not self.shown[name]], [])

    def test_urls_match_the_code(self) -> None:
        """The example shows the default base URLs."""
        self.assertEqual(self.shown["ALPACA_URL"], PAPER.rest)
        self.assertEqual(self.shown["ALPACA_DESK_URL"], PAPER.rest)
        self.assertEqual(self.shown["ALPACA_LIVE_URL"], LIVE.rest)
