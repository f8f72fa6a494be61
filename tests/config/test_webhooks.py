"""Tests for tradeproxy.config.webhooks."""

from __future__ import annotations

import base64
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.support.webhooks import PAIR, URL, read_problems, read_webhooks_of, url_of, webhook_with
from tradeproxy.config.settings import read_settings
from tradeproxy.config.webhooks import (
    MAX_ITEMS,
    MAX_WEBHOOKS,
    SUFFIXES,
    WebhookFormat,
)
from tradeproxy.wire.credentials import Secret

KEY = "whsec_" + base64.b64encode(bytes(32)).decode()
DESK = "PROXY_WEBHOOK_DESK_"


class WebhookSettingsTests(SynchronousTestCase):
    """Valid settings."""

    def test_only_the_url_is_necessary(self) -> None:
        """The defaults are those of docs/configuration.md."""
        webhook = webhook_with()
        self.assertEqual(
            (webhook.name, webhook.format, webhook.after, webhook.secret, webhook.prefix),
            ("DESK", WebhookFormat.JSON, 60.0, None, ""),
        )
        self.assertEqual(
            webhook.events, {"fill", "partial_fill", "rejected", "expired", "trade_bust"}
        )
        self.assertTrue(webhook.is_for("paper"))
        self.assertEqual(url_of(webhook).origin, "https://receiver.example:443")

    def test_every_suffix_is_read(self) -> None:
        """Lists may have blanks, and lower and upper case."""
        webhook = webhook_with(
            EVENTS="Fill, upstream_down",
            AFTER="7",
            ACCOUNTS="PAPER",
            SYMBOLS="aapl, BTC/USD",
            PREFIX="bot-",
            FORMAT="json",
            SECRET=KEY,
            ALLOW_HTTP="1",
        )
        self.assertEqual(webhook.events, {"fill", "upstream_down"})
        self.assertEqual(webhook.accounts, {"paper"})
        self.assertEqual(webhook.symbols, {"AAPL", "BTCUSD"})
        self.assertEqual((webhook.after, webhook.prefix, webhook.allow_http), (7.0, "bot-", True))
        self.assertEqual(webhook.secret, Secret(KEY))

    def test_every_suffix_can_come_from_a_file(self) -> None:
        """As the secrets of Docker and systemd do."""
        directory = Path(self.mktemp())
        directory.mkdir()
        values = {
            "URL": URL,
            "EVENTS": "fill",
            "AFTER": "7",
            "ACCOUNTS": "paper",
            "SYMBOLS": "AAPL",
            "PREFIX": "bot-",
            "FORMAT": "json",
            "SECRET": KEY,
            "ALLOW_HTTP": "1",
        }
        self.assertEqual(set(values), set(SUFFIXES))
        for suffix, value in values.items():
            (directory / suffix).write_text(f"{value}\n")
        files = {f"{DESK}{name}_FILE": str((directory / name).resolve()) for name in values}
        [webhook] = read_settings(PAIR | files, directory=directory).webhooks
        self.assertEqual(webhook, webhook_with(**values))

    def test_url_is_in_no_text_of_the_settings(self) -> None:
        """A traceback or a debugger's line would have its token."""
        text = repr(webhook_with(SECRET=KEY))
        for part in ("hush", "receiver.example", KEY, KEY[6:]):
            self.assertNotIn(part, text)

    def test_http_is_for_this_machine(self) -> None:
        """With ALLOW_HTTP for private addresses too; a name is checked when it is resolved."""
        for url in ("http://localhost:9/x", "http://127.0.0.1/x", "http://[::1]:9/x"):
            webhook_with(URL=url)
        for url in ("http://10.0.0.1/x", "http://nas.example/x"):
            webhook_with(URL=url, ALLOW_HTTP="yes")

    def test_demo_has_no_webhook(self) -> None:
        """Its orders are made up, and somebody would get a message about them."""
        settings = read_settings(
            {f"{DESK}URL": URL}, directory=Path("/nowhere"), demo=True, port="8099"
        )
        self.assertEqual(settings.webhooks, ())
        self.assertEqual(
            settings.warnings, (f"{DESK}URL: not used by the demo, whose orders are not real",)
        )

    def test_webhooks_are_sorted(self) -> None:
        """So two readings of equal settings are equal."""
        names = [f"PROXY_WEBHOOK_{name}_URL" for name in ("B", "A", "C")]
        settings = read_settings(PAIR | dict.fromkeys(names, URL), directory=Path("/nowhere"))
        self.assertEqual([webhook.name for webhook in settings.webhooks], ["A", "B", "C"])


class ProblemTests(SynchronousTestCase):
    """A wrong value is one line that names the variable, and does not have the URL."""

    def assert_problem(self, line: str, **suffixes: str) -> None:
        """Assert that these suffixes cause exactly this line, behind the variable's beginning."""
        given = {"URL": URL, **suffixes}
        problems = read_problems(**{f"{DESK}{name}": value for name, value in given.items()})
        self.assertEqual(problems, (f"{DESK}{line}",))
        self.assertNotIn("hush", problems[0])

    def test_wrong_urls(self) -> None:
        """A row for each."""
        not_a_url = "URL: not a URL such as https://receiver.example/path"
        for url, line in (
            ("receiver.example/hush", not_a_url),
            ("ftp://receiver.example/hush", not_a_url),
            ("https:///hush", not_a_url),
            ("https://x.example:0/hush", not_a_url),
            ("https://x.example:99999/hush", not_a_url),
            ("https://x.example/hu sh", not_a_url),
            ("https://u:hush@x.example/", "URL: a user or a password in the URL is not supported"),
            ("https://@x.example/hush", "URL: a user or a password in the URL is not supported"),
            (
                "https://x.example/hush#x",
                "URL: the URL has a fragment (#), which is not sent; write %23 for a #",
            ),
            ("http://x.example/hush", "URL: http is for this machine only; use https"),
            (
                "http://10.0.0.1/hush",
                "URL: refused: the address is another machine: use https",
            ),
            ("https://169.254.169.254/hush", "URL: refused: the address is link-local"),
            (
                "https://[::ffff:a9fe:a9fe]/hush",
                "URL: refused: the address contains an address that is link-local",
            ),
            (
                "https://[fd00:ec2::254]/hush",
                "URL: refused: the address is of a cloud's metadata service",
            ),
        ):
            self.assert_problem(line, URL=url)

    def test_wrong_values(self) -> None:
        """A row for each."""
        bad_key = "SECRET: is not whsec_ and the base64 of 24 to 64 bytes"
        for suffix, value, line in (
            ("EVENTS", "fil", "EVENTS: there is no event 'fil'; the nearest is fill"),
            ("EVENTS", ",", f"EVENTS: is not a list of 1 to {MAX_ITEMS} items,"),
            ("AFTER", "soon", "AFTER: 'soon' is not a number of seconds (more than 0)"),
            ("ACCOUNTS", "live", "ACCOUNTS: there is no account 'live'; the accounts are: paper"),
            ("SYMBOLS", "A B", "SYMBOLS: 'A B' is no symbol, such as AAPL or BTC/USD"),
            ("PREFIX", "\u00e9", "PREFIX: is not 1 to 128 printable ASCII characters"),
            ("ALLOW_HTTP", "2", "ALLOW_HTTP: '2' is neither yes (1, true) nor no (0, false)"),
            ("SECRET", "hush", bad_key),
            ("SECRET", "whsec_" + base64.b64encode(bytes(23)).decode(), bad_key),
        ):
            found = read_problems(**{f"{DESK}URL": URL, f"{DESK}{suffix}": value})
            self.assertEqual(len(found), 1)
            self.assertTrue(found[0].startswith(f"{DESK}{line}"), found)
        self.assert_problem(
            "FORMAT: 'xml' is not one of json, discord, slack, telegram, ntfy, apprise",
            FORMAT="xml",
        )

    def test_url_in_a_wrong_variable_is_not_quoted(self) -> None:
        """A line is easily pasted into the wrong place, and a problem goes to a log."""
        for suffix in ("EVENTS", "AFTER", "ACCOUNTS", "SYMBOLS", "FORMAT", "ALLOW_HTTP", "SECRET"):
            line = f"{suffix}: is a URL, which belongs into another variable"
            self.assert_problem(line, **{suffix: URL})

    def test_unknown_kind_that_is_similar_to_none_is_accepted(self) -> None:
        """Alpaca may add some."""
        self.assertEqual(webhook_with(EVENTS="margin_call").events, {"margin_call"})

    def test_only_json_is_signed(self) -> None:
        """The other receivers would not check it."""
        self.assert_problem(
            "SECRET: only messages of the format json are signed", FORMAT="slack", SECRET=KEY
        )

    def test_telegram_needs_a_chat(self) -> None:
        """Its URL without one gets 400 for every message."""
        line = (
            "URL: for telegram, the URL is"
            " https://api.telegram.org/bot<token>/sendMessage?chat_id=<id>"
        )
        for url in ("https://api.telegram.org/bothush/sendMessage", URL):
            self.assert_problem(line, FORMAT="telegram", URL=url)
        webhook_with(FORMAT="telegram", URL="https://api.telegram.org/bot1/sendMessage?chat_id=7")

    def test_unknown_suffix_names_the_nearest(self) -> None:
        """It was meant to do something."""
        for suffix, nearest in (("EVENT", "EVENTS"), ("ULR", "URL"), ("ALOW_HTTP", "ALLOW_HTTP")):
            self.assert_problem(
                f"{suffix}: unknown variable; did you mean {DESK}{nearest}?", **{suffix: "x"}
            )

    def test_name_is_necessary(self) -> None:
        """A URL without a name would be ignored."""
        for name in ("PROXY_WEBHOOK_URL", "PROXY_WEBHOOK_desk_URL", "PROXY_WEBHOOK_A-B_URL"):
            [problem] = read_problems(**{name: URL})
            self.assertTrue(problem.startswith(f"{name}: is not PROXY_WEBHOOK_<NAME>_<SUFFIX>"))

    def test_url_is_necessary(self) -> None:
        """Every other suffix would have no effect."""
        self.assertEqual(read_problems(**{f"{DESK}EVENTS": "fill"}), (f"{DESK}URL is missing",))

    def test_number_of_webhooks_is_limited(self) -> None:
        """Each reads every account's log."""
        many = {f"PROXY_WEBHOOK_N{n}_URL": URL for n in range(MAX_WEBHOOKS + 1)}
        [problem] = read_problems(**many)
        self.assertTrue(problem.endswith(f"more than {MAX_WEBHOOKS} webhooks"))
        self.assertEqual(read_webhooks_of(), ())
