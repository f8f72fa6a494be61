"""Tests for tradeproxy.config.accounts: base URLs, and the accounts in the environment."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tradeproxy.config.accounts import (
    LIVE,
    PAPER,
    AccountSettings,
    BaseUrl,
    demo_accounts,
    name_variables,
    read_accounts,
)
from tradeproxy.config.command import name_command
from tradeproxy.config.env import Environment
from tradeproxy.config.files import MAX_SIZE
from tradeproxy.wire.credentials import KeyPair, OAuthToken, Secret
from tradeproxy.wire.messages import Dialect

PAIR = {"ALPACA_API_KEY": "key", "ALPACA_SECRET_KEY": "secret"}


class BaseUrlTests(SynchronousTestCase):
    """A user's base URL becomes a stream URL and a REST URL."""

    def test_parse_valid_url_returns_stream_and_rest_urls(self) -> None:
        """TLS follows the scheme; default ports and trailing "/stream" and "/v2" are removed."""
        for text, stream, rest in [
            ("https://h", "wss://h/stream", "https://h"),
            ("wss://H.Example:443/", "wss://h.example/stream", "https://h.example"),
            ("https://h:444", "wss://h:444/stream", "https://h:444"),
            ("https://h/stream", "wss://h/stream", "https://h"),
            ("https://h/v2", "wss://h/stream", "https://h"),
            ("https://h/a/v2/stream/", "wss://h/a/stream", "https://h/a"),
            ("https://h/a//", "wss://h/a/stream", "https://h/a"),
            ("https://h/upstream", "wss://h/upstream/stream", "https://h/upstream"),
            (
                "https://[2001:DB8::1]:8443",
                "wss://[2001:db8::1]:8443/stream",
                "https://[2001:db8::1]:8443",
            ),
            ("http://127.0.0.1:80", "ws://127.0.0.1/stream", "http://127.0.0.1"),
            ("ws://localhost:8100", "ws://localhost:8100/stream", "http://localhost:8100"),
            ("ws://[::1]:8100", "ws://[::1]:8100/stream", "http://[::1]:8100"),
        ]:
            base = BaseUrl.parse(text)
            self.assertEqual((base.stream, base.rest), (stream, rest))

    def test_parse_invalid_url_raises_without_quoting_it(self) -> None:
        """Another scheme, no host, an invalid port and white space are errors."""
        for text in [
            "",
            "paper",
            "ftp://h",
            "https://",
            "https:///v2",
            "https://h:0",
            "https://h:99999",
            "https://h:port",
            "https://[::1",
            "https://[zz]",
            "https://a_b-.example",
            "https://127.1",
            "https://h/\nx",
            "https://h x",
        ]:
            error = self.assertRaises(ValueError, BaseUrl.parse, text)
            self.assertEqual(str(error), "not a URL such as https://paper-api.alpaca.markets", text)

    def test_parse_user_query_or_fragment_raises_without_quoting_it(self) -> None:
        """A user name may come with a password, so the error does not quote the URL."""
        for text in (
            "https://me:hush@h",
            "https://@h",
            "https://h?hush",
            "https://h/#hush",
            "https://h/?",
        ):
            error = self.assertRaises(ValueError, BaseUrl.parse, text)
            self.assertEqual(str(error), "a base URL has no user name, no query and no fragment")

    def test_parse_remote_host_without_tls_raises(self) -> None:
        """Without TLS, only this machine is allowed."""
        for text in ("http://api.alpaca.markets", "ws://192.0.2.1", "http://localhost.example"):
            error = self.assertRaises(ValueError, BaseUrl.parse, text)
            self.assertIn("would send the keys unencrypted", str(error))


class ReadAccountsTests(SynchronousTestCase):
    """The pattern of the variables determines the accounts."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.directory.mkdir()

    def read(
        self, variables: dict[str, str], dialect: Dialect = Dialect.AUTHENTICATE
    ) -> tuple[AccountSettings, ...]:
        """Read the accounts and keep the findings."""
        env = Environment.read(variables, self.directory, None)
        accounts = read_accounts(env, dialect)
        self.findings = env.findings
        return accounts

    def assert_problems(self, variables: dict[str, str], *problems: str) -> None:
        """Assert that these are the problems, in this order."""
        self.read(variables)
        self.assertEqual(self.findings.problems, list(problems))

    def test_read_three_accounts_returns_them_sorted(self) -> None:
        """An unnamed account is paper, names are in lower case, and live has its own URL."""
        accounts = self.read(
            {
                **PAIR,
                "ALPACA_LIVE_API_KEY": "live-key",
                "ALPACA_LIVE_SECRET_KEY": "live-secret",
                "ALPACA_DESK_2_OAUTH_TOKEN": "token",
                "ALPACA_DESK_2_URL": "https://desk.example/v2",
                "ALPACA_LOG_LEVEL": "debug",
            }
        )
        desk = BaseUrl(secure=True, host="desk.example", port=443)
        dialect = Dialect.AUTHENTICATE
        paper_pair = KeyPair(Secret("key"), Secret("secret"))
        live_pair = KeyPair(Secret("live-key"), Secret("live-secret"))
        expected = (
            AccountSettings("paper", PAPER, paper_pair, dialect, "ALPACA_API_KEY"),
            AccountSettings(
                "desk_2", desk, OAuthToken(Secret("token")), dialect, "ALPACA_DESK_2_OAUTH_TOKEN"
            ),
            AccountSettings("live", LIVE, live_pair, dialect, "ALPACA_LIVE_API_KEY"),
        )
        self.assertEqual(accounts, expected)
        self.assertEqual((self.findings.problems, self.findings.warnings), ([], []))

    def test_read_secret_from_file_strips_it(self) -> None:
        """`key_variable` is then the variable that names the file."""
        (self.directory / "key").write_text("  key\n")
        [account] = self.read({"ALPACA_API_KEY_FILE": "key", "ALPACA_SECRET_KEY": "secret"})
        self.assertEqual(account.credentials, KeyPair(Secret("key"), Secret("secret")))
        self.assertEqual(account.key_variable, "ALPACA_API_KEY_FILE")

    def test_secret_file_unusable_is_a_problem_without_file_name(self) -> None:
        """The problem names the variable only: its value may be the secret itself."""
        (self.directory / "empty").write_text(" \n")
        (self.directory / "binary").write_bytes(b"\xff")
        (self.directory / "large").write_bytes(bytes(MAX_SIZE + 1))
        for file, reason in [
            ("absent", "the file it names cannot be read (No such file or directory)"),
            (".", "the file it names cannot be read (Is a directory)"),
            ("binary", "the file it names cannot be read (it is not UTF-8 text)"),
            ("large", "the file it names cannot be read (File too large)"),
            ("empty", "the file it names is empty"),
        ]:
            self.assert_problems(
                {"ALPACA_OAUTH_TOKEN_FILE": file}, f"ALPACA_OAUTH_TOKEN_FILE: {reason}"
            )

    def test_secret_in_quotes_is_a_warning_without_the_secret(self) -> None:
        """Alpaca refuses such a key without a reason. The warning fits every source of a value."""
        (self.directory / "key").write_text("'hush'\n")
        text = (
            ": begins and ends with a quote, which counts as a part of it; leave both out"
            " (a shell and .env remove one pair, docker run --env-file removes none)"
        )
        for variables, names in (
            ({**PAIR, "ALPACA_API_KEY": '"hush"'}, ("ALPACA_API_KEY",)),
            ({**PAIR, "ALPACA_SECRET_KEY": "'hush'"}, ("ALPACA_SECRET_KEY",)),
            ({"ALPACA_OAUTH_TOKEN_FILE": "key"}, ("ALPACA_OAUTH_TOKEN_FILE",)),
            ({"ALPACA_API_KEY": "\"hush'", "ALPACA_SECRET_KEY": "'"}, ()),
        ):
            self.read(variables)
            self.assertEqual(self.findings.warnings, [name + text for name in names])

    def test_secret_in_variable_and_file_is_a_problem(self) -> None:
        """Which of the two is right is not known."""
        self.assert_problems(
            {**PAIR, "ALPACA_SECRET_KEY_FILE": "file"},
            "ALPACA_SECRET_KEY: ALPACA_SECRET_KEY_FILE is set too; keep one of them",
        )

    def test_key_pair_incomplete_names_missing_variable(self) -> None:
        """The problem names the missing variable first, then the one that is set."""
        self.assert_problems(
            {
                "ALPACA_API_KEY": "key",
                "ALPACA_DESK_SECRET_KEY_FILE": "file",
                "ALPACA_LIVE_API_KEY": "key",
                "ALPACA_LIVE_SECRET_KEY": " ",
            },
            "ALPACA_SECRET_KEY is missing: ALPACA_API_KEY is set",
            "ALPACA_DESK_API_KEY is missing: ALPACA_DESK_SECRET_KEY_FILE is set",
            "ALPACA_LIVE_SECRET_KEY is missing: ALPACA_LIVE_API_KEY is set",
        )

    def test_key_pair_and_token_is_a_problem(self) -> None:
        """So is half a pair and a token."""
        for variables, pair in (
            (PAIR, "ALPACA_API_KEY"),
            ({"ALPACA_SECRET_KEY": "s"}, "ALPACA_SECRET_KEY"),
        ):
            self.assert_problems(
                {**variables, "ALPACA_OAUTH_TOKEN": "token"},
                f"ALPACA_OAUTH_TOKEN: {pair} is set too; an account has a key pair or a token",
            )

    def test_secret_with_invisible_or_non_ascii_character_is_a_problem(self) -> None:
        """The usual cause is two lines pasted as one. Each problem names its variable."""
        reason = "contains white space, or a character that is not visible ASCII"
        for bad in ("two words", "a\tb", "a\nb", "clé", "a\x7fb"):
            self.assert_problems(
                {"ALPACA_API_KEY": bad, "ALPACA_SECRET_KEY": bad, "ALPACA_LIVE_OAUTH_TOKEN": bad},
                f"ALPACA_API_KEY: {reason}",
                f"ALPACA_SECRET_KEY: {reason}",
                f"ALPACA_LIVE_OAUTH_TOKEN: {reason}",
            )

    def test_account_name_reserved_is_a_problem(self) -> None:
        """Other resources have these paths. For PAPER, the problem names the right variable."""
        self.assert_problems(
            {
                **PAIR,
                "ALPACA_HEALTHZ_API_KEY": "key",
                "ALPACA_METRICS_URL": "https://h",
                "ALPACA_PAPER_SECRET_KEY_FILE": "file",
                "ALPACA_READYZ_OAUTH_TOKEN": "token",
            },
            "ALPACA_HEALTHZ_API_KEY: the name HEALTHZ is reserved",
            "ALPACA_METRICS_URL: the name METRICS is reserved",
            "ALPACA_PAPER_SECRET_KEY_FILE: the name PAPER is reserved; use ALPACA_SECRET_KEY_FILE",
            "ALPACA_READYZ_OAUTH_TOKEN: the name READYZ is reserved",
        )

    def test_account_name_invalid_is_a_one_line_problem(self) -> None:
        """Lower case, dashes, an empty name and a long name are invalid."""
        for name, shown in [
            ("my-desk", "my-desk"),
            ("desk", "desk"),
            ("", ""),
            ("A\nB", "A\\nB"),
            ("A" * 65, "A" * 65),
        ]:
            self.assert_problems(
                {f"ALPACA_{name}_API_KEY": "key"},
                f"ALPACA_{shown}_API_KEY: the account's name must be [A-Z0-9_]+,"
                " at most 64 characters",
            )

    def test_url_invalid_is_a_problem(self) -> None:
        """The problem names the variable."""
        self.assert_problems(
            {**PAIR, "ALPACA_URL": "paper"},
            "ALPACA_URL: not a URL such as https://paper-api.alpaca.markets",
        )

    def test_url_without_keys_is_a_warning(self) -> None:
        """The URL has no effect. ALPACA_URL is exempt: it overrides a default."""
        self.read(
            {
                "ALPACA_URL": "https://h",
                "ALPACA_DESK_URL": "https://h",
                "ALPACA_LIVE_OAUTH_TOKEN": "t",
            }
        )
        expected = ["ALPACA_DESK_URL: not used, as ALPACA_DESK_API_KEY is not set"]
        self.assertEqual(self.findings.warnings, expected)

    def test_account_configured_twice_is_a_problem(self) -> None:
        """Alpaca would reject the second connection. The same key at another URL is allowed."""
        desk = {"ALPACA_DESK_API_KEY": "key", "ALPACA_DESK_SECRET_KEY": "secret"}
        self.assert_problems(
            {**PAIR, **desk, "ALPACA_DESK_URL": "wss://PAPER-API.alpaca.markets/stream"},
            "ALPACA_DESK_API_KEY: same account as ALPACA_API_KEY;"
            " Alpaca allows one connection per account",
        )
        self.assert_problems({**PAIR, **desk, "ALPACA_DESK_URL": "https://api.alpaca.markets"})

    def test_no_account_is_one_problem(self) -> None:
        """It lists the variables to set, and mentions the demo. A URL alone is no account."""
        for variables in ({}, {"ALPACA_URL": "https://h"}, {"ALPACA_API_KEY": " "}):
            self.assert_problems(
                variables,
                "ALPACA_API_KEY, ALPACA_SECRET_KEY: not set, and no other account is set;"
                f" set them in {self.directory / '.env'},"
                f" where `{name_command('init')}` writes them,"
                f" or try `{name_command('demo')}`, which needs no account",
            )

    def test_no_account_with_sdk_variable_names_its_equivalent(self) -> None:
        """Alpaca's SDKs read APCA_API_KEY_ID. The problem names the proxy's variable."""
        self.read({"APCA_API_KEY_ID": "hush"})
        [problem] = self.findings.problems
        self.assertTrue(
            problem.endswith("; APCA_API_KEY_ID is called ALPACA_API_KEY here"), problem
        )

    def test_name_of_the_sdk_is_no_account(self) -> None:
        """APCA_API_SECRET_KEY is a name of Alpaca's; with ALPACA_ it would be an account `api`."""
        for variable, meant in {
            "ALPACA_API_SECRET_KEY": "ALPACA_SECRET_KEY",
            "ALPACA_LIVE_API_SECRET_KEY": "ALPACA_LIVE_SECRET_KEY",
            "ALPACA_API_API_KEY": "ALPACA_API_KEY",
            "ALPACA_API_OAUTH_TOKEN_FILE": "ALPACA_OAUTH_TOKEN_FILE",
        }.items():
            accounts = self.read({**PAIR, variable: "x"})
            self.assertEqual([account.name for account in accounts], ["paper"])
            [problem] = self.findings.problems
            self.assertTrue(problem.startswith(f"{variable}: the name "), problem)
            self.assertTrue(problem.endswith(f" is reserved; did you mean {meant}?"), problem)

    def test_variable_misspelt_is_a_warning(self) -> None:
        """With a misspelt URL variable, the account would be at the default URL."""
        for variable, nearest in {
            "ALPACA_URI": "ALPACA_URL",
            "ALPACA_API_KEYS": "ALPACA_API_KEY",
            "ALPACA_LIVE_API_KY": "ALPACA_LIVE_API_KEY",
            "ALPACA_API_KEY_ID": "ALPACA_API_KEY",
            "ALPACA_API_SECRET": "ALPACA_SECRET_KEY",
        }.items():
            self.read({**PAIR, variable: "x"})
            expected = [f"{variable}: unknown variable; did you mean {nearest}?"]
            self.assertEqual(self.findings.warnings, expected)
        self.read({**PAIR, "ALPACA_PAPER": "true"})
        self.assertEqual(self.findings.warnings, [])

    def test_token_with_auth_dialect_is_a_problem(self) -> None:
        """Alpaca documents the `auth` message for a key pair only."""
        self.read({"ALPACA_OAUTH_TOKEN": "token"}, Dialect.AUTH)
        expected = (
            "PROXY_UPSTREAM_AUTH: 'auth' does not support ALPACA_OAUTH_TOKEN; use authenticate"
        )
        self.assertEqual(self.findings.problems, [expected])
        [account] = self.read(PAIR, Dialect.AUTH)
        self.assertEqual((account.dialect, self.findings.problems), (Dialect.AUTH, []))

    def test_demo_account_is_on_this_machine(self) -> None:
        """The demo cannot reach a real account."""
        accounts = demo_accounts(8100, Dialect.AUTH)
        self.assertEqual({account.dialect for account in accounts}, {Dialect.AUTH})
        self.assertEqual(
            {account.name: account.base_url.stream for account in accounts},
            {"paper": "ws://127.0.0.1:8100/stream", "live": "ws://127.0.0.1:8101/stream"},
        )

    def test_name_variables_returns_the_variables_of_an_account(self) -> None:
        """Messages about an unknown account quote them."""
        self.assertEqual(name_variables("paper"), "ALPACA_API_KEY and ALPACA_SECRET_KEY")
        self.assertEqual(name_variables("desk"), "ALPACA_DESK_API_KEY and ALPACA_DESK_SECRET_KEY")
