"""Tests for .env.example: it is held against the settings that it shows."""

from __future__ import annotations

import re
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tradeproxy.config.accounts import LIVE, PAPER
from tradeproxy.config.settings import VARIABLES, Limits, Settings, read_settings
from tradeproxy.wire.messages import Dialect

EXAMPLE = Path(__file__).parents[2] / ".env.example"
NOTHING = Path("/nonexistent")

KEYS = {"ALPACA_API_KEY": "key", "ALPACA_SECRET_KEY": "secret"}
# Values for what is shown blank; what stays blank is the other form of something that is set.
SENSIBLE = {
    **KEYS,
    "ALPACA_LIVE_API_KEY": "live-key",
    "ALPACA_LIVE_SECRET_KEY": "live-secret",
    "ALPACA_DESK_API_KEY": "desk-key",
    "ALPACA_DESK_SECRET_KEY": "desk-secret",
    "PROXY_TOKENS": "a-token-of-some-length",
    "PROXY_ALLOWED_ORIGINS": "https://dashboard.example",
    "PROXY_ALLOWED_HOSTS": "proxy.example",
}


def assignments(text: str) -> dict[str, str]:
    """Return every variable of the text, commented out or not, with the value it shows."""
    return dict(re.findall(r"^(?:# )?([A-Z_]+)=(.*)$", text, re.MULTILINE))


def settings_of(environ: dict[str, str]) -> Settings:
    """Read settings with no .env about, where there is a ::1."""
    return read_settings(environ, directory=NOTHING, ipv6_loopback=True)


class EnvExampleTests(SynchronousTestCase):
    """.env.example says what the code does."""

    def setUp(self) -> None:
        self.text = EXAMPLE.read_text(encoding="utf-8")
        self.shown = assignments(self.text)

    def test_it_holds_every_variable_and_no_other(self) -> None:
        """The proxy's variables, the paper account's in every form, and how two more accounts are named."""
        forms = ["API_KEY", "SECRET_KEY", "OAUTH_TOKEN"]
        paper = {f"ALPACA_{form}{suffix}" for form in forms for suffix in ("", "_FILE")} | {
            "ALPACA_URL"
        }
        others = {
            f"ALPACA_{name}_{form}" for name in ("LIVE", "DESK") for form in (*forms[:2], "URL")
        }
        self.assertEqual(set(self.shown), {*VARIABLES, *paper, *others})

    def test_as_it_stands_it_sets_nothing(self) -> None:
        """Only the two keys are not commented out, and they are blank: they are all there is to fill in."""
        live_lines = [line for line in self.text.splitlines() if line and not line.startswith("#")]
        self.assertEqual(live_lines, ["ALPACA_API_KEY=", "ALPACA_SECRET_KEY="])

    def test_every_line_is_understood(self) -> None:
        """With every line uncommented, and what is blank filled in, no variable is unknown or wrong."""
        settings = settings_of({**self.shown, **SENSIBLE})
        self.assertEqual(settings.warnings, ())
        self.assertEqual([account.name for account in settings.accounts], ["paper", "desk", "live"])

    def test_redis_takes_the_place_of_the_files(self) -> None:
        """Its lines too; the password is in the URL, or in the line for it."""
        shown = {
            name: "" if name == "PROXY_JOURNAL_SYNC" else value
            for name, value in self.shown.items()
        }
        redis = {"PROXY_REDIS_URL": "rediss://redis.example", "PROXY_REDIS_PASSWORD": "hush"}
        settings = settings_of({**shown, **SENSIBLE, **redis})
        self.assertEqual(
            (settings.storage_label, settings.warnings),
            ("Redis at rediss://redis.example:6379/0", ()),
        )

    def test_the_defaults_shown_are_those_of_the_code(self) -> None:
        """To uncomment a line as it is changes nothing."""
        defaults = {name: value for name, value in self.shown.items() if name.startswith("PROXY_")}
        self.assertEqual(settings_of({**defaults, **KEYS}), settings_of(KEYS))
        self.assertEqual(settings_of(KEYS).limits, Limits())
        self.assertEqual(settings_of(KEYS).accounts[0].dialect, Dialect.AUTHENTICATE)

    def test_the_limits_shown_are_not_left_blank(self) -> None:
        """A blank line would pass as a default without showing one."""
        limits = [
            name for name in self.shown if re.search("MAX|TIMEOUT|BUFFER|PORT|HOST$|AUTH$", name)
        ]
        self.assertEqual([name for name in limits if not self.shown[name]], [])

    def test_the_urls_shown_are_those_of_the_code(self) -> None:
        """The base URLs are where the accounts are without a URL."""
        self.assertEqual(self.shown["ALPACA_URL"], PAPER.rest)
        self.assertEqual(self.shown["ALPACA_DESK_URL"], PAPER.rest)
        self.assertEqual(self.shown["ALPACA_LIVE_URL"], LIVE.rest)
