"""Tests for tradeproxy.config.accounts: base URLs, and the accounts that an environment names."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tradeproxy.config.accounts import (
    LIVE,
    PAPER,
    AccountSettings,
    BaseUrl,
    demo_account,
    name_variables,
    read_accounts,
)
from tradeproxy.config.env import Environment
from tradeproxy.wire.credentials import KeyPair, OAuthToken, Secret
from tradeproxy.wire.messages import Dialect

PAIR = {"ALPACA_API_KEY": "key", "ALPACA_SECRET_KEY": "secret"}


class BaseUrlTests(SynchronousTestCase):
    """What a user writes becomes the two URLs that we call."""

    def test_the_urls_under_a_base(self) -> None:
        """The scheme stands for safety, default ports go, and what Alpaca's examples append is cut."""
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

    def test_what_is_not_a_url_is_refused(self) -> None:
        """Another scheme, no host, a port that is none, white space: each is told without quoting it."""
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

    def test_what_a_base_url_must_not_have_is_refused(self) -> None:
        """A user name may come with a password, so the URL is not repeated."""
        for text in (
            "https://me:hush@h",
            "https://@h",
            "https://h?hush",
            "https://h/#hush",
            "https://h/?",
        ):
            error = self.assertRaises(ValueError, BaseUrl.parse, text)
            self.assertEqual(str(error), "a base URL has no user name, no query and no fragment")

    def test_keys_do_not_travel_in_the_clear(self) -> None:
        """Without TLS only this machine will do."""
        for text in ("http://api.alpaca.markets", "ws://192.0.2.1", "http://localhost.example"):
            error = self.assertRaises(ValueError, BaseUrl.parse, text)
            self.assertIn("keys don't travel in the clear", str(error))


class ReadAccountsTests(SynchronousTestCase):
    """Accounts are found by the pattern of their variables."""

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
        """Each problem is told, in this order, and no other."""
        self.read(variables)
        self.assertEqual(self.findings.problems, list(problems))

    def test_the_pattern_names_the_account(self) -> None:
        """No name is paper; the name is lower-cased; live has its own address; a token stands for a pair."""
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

    def test_a_secret_may_be_in_a_file(self) -> None:
        """The file's text counts without the white space around it, and the variable set is what is named."""
        (self.directory / "key").write_text("  key\n")
        [account] = self.read({"ALPACA_API_KEY_FILE": "key", "ALPACA_SECRET_KEY": "secret"})
        self.assertEqual(account.credentials, KeyPair(Secret("key"), Secret("secret")))
        self.assertEqual(account.key_variable, "ALPACA_API_KEY_FILE")

    def test_a_file_that_gives_no_secret_is_a_problem(self) -> None:
        """The variable is named; the file is not, as what stands there may be the secret itself."""
        (self.directory / "empty").write_text(" \n")
        (self.directory / "binary").write_bytes(b"\xff")
        for file, reason in [
            ("absent", "the file it names cannot be read (No such file or directory)"),
            (".", "the file it names cannot be read (Is a directory)"),
            ("binary", "the file it names cannot be read (it is not UTF-8 text)"),
            ("empty", "the file it names is empty"),
        ]:
            self.assert_problems(
                {"ALPACA_OAUTH_TOKEN_FILE": file}, f"ALPACA_OAUTH_TOKEN_FILE: {reason}"
            )

    def test_a_secret_given_twice_is_a_problem(self) -> None:
        """We cannot tell which one is meant."""
        self.assert_problems(
            {**PAIR, "ALPACA_SECRET_KEY_FILE": "file"},
            "ALPACA_SECRET_KEY: ALPACA_SECRET_KEY_FILE is set too; keep one of them",
        )

    def test_half_a_pair_is_a_problem(self) -> None:
        """The missing half is named first, then the half that is there."""
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

    def test_a_pair_and_a_token_is_a_problem(self) -> None:
        """Even half a pair beside the token."""
        for variables, pair in (
            (PAIR, "ALPACA_API_KEY"),
            ({"ALPACA_SECRET_KEY": "s"}, "ALPACA_SECRET_KEY"),
        ):
            self.assert_problems(
                {**variables, "ALPACA_OAUTH_TOKEN": "token"},
                f"ALPACA_OAUTH_TOKEN: {pair} is set too; an account has a key pair or a token",
            )

    def test_a_secret_with_characters_that_no_key_has_is_a_problem(self) -> None:
        """Mostly two lines pasted as one; the variable is named, of either half."""
        for bad in ("two words", "a\tb", "a\nb", "clé", "a\x7fb"):
            self.assert_problems(
                {"ALPACA_API_KEY": bad, "ALPACA_SECRET_KEY": bad, "ALPACA_LIVE_OAUTH_TOKEN": bad},
                "ALPACA_API_KEY: holds white space, or a character that no key has",
                "ALPACA_SECRET_KEY: holds white space, or a character that no key has",
                "ALPACA_LIVE_OAUTH_TOKEN: holds white space, or a character that no key has",
            )

    def test_a_name_that_is_taken_is_a_problem(self) -> None:
        """Their paths mean something else; paper has variables of its own, which are named."""
        self.assert_problems(
            {
                **PAIR,
                "ALPACA_HEALTHZ_API_KEY": "key",
                "ALPACA_METRICS_URL": "https://h",
                "ALPACA_PAPER_SECRET_KEY_FILE": "file",
                "ALPACA_READYZ_OAUTH_TOKEN": "token",
            },
            "ALPACA_HEALTHZ_API_KEY: the name HEALTHZ is taken",
            "ALPACA_METRICS_URL: the name METRICS is taken",
            "ALPACA_PAPER_SECRET_KEY_FILE: the name PAPER is taken; use ALPACA_SECRET_KEY_FILE",
            "ALPACA_READYZ_OAUTH_TOKEN: the name READYZ is taken",
        )

    def test_a_name_that_is_none_is_a_problem(self) -> None:
        """Lower case, dashes, nothing, or more than a path takes; the line stays one line."""
        for name, shown in [
            ("my-desk", "my-desk"),
            ("desk", "desk"),
            ("", ""),
            ("A\nB", "A\\nB"),
            ("A" * 65, "A" * 65),
        ]:
            self.assert_problems(
                {f"ALPACA_{name}_API_KEY": "key"},
                f"ALPACA_{shown}_API_KEY: the account's name must be [A-Z0-9_]+, of 64 characters at most",
            )

    def test_a_bad_url_is_a_problem(self) -> None:
        """By its variable."""
        self.assert_problems(
            {**PAIR, "ALPACA_URL": "paper"},
            "ALPACA_URL: not a URL such as https://paper-api.alpaca.markets",
        )

    def test_a_url_without_keys_is_warned_of(self) -> None:
        """It has no effect; the paper account's may stand, as it may override the default for later."""
        self.read(
            {
                "ALPACA_URL": "https://h",
                "ALPACA_DESK_URL": "https://h",
                "ALPACA_LIVE_OAUTH_TOKEN": "t",
            }
        )
        expected = ["ALPACA_DESK_URL: not used, as ALPACA_DESK_API_KEY is not set"]
        self.assertEqual(self.findings.warnings, expected)

    def test_one_account_under_two_names_is_a_problem(self) -> None:
        """The second connection would be refused; the same key elsewhere is another account."""
        desk = {"ALPACA_DESK_API_KEY": "key", "ALPACA_DESK_SECRET_KEY": "secret"}
        self.assert_problems(
            {**PAIR, **desk, "ALPACA_DESK_URL": "wss://PAPER-API.alpaca.markets/stream"},
            "ALPACA_DESK_API_KEY: the account of ALPACA_API_KEY again;"
            " Alpaca allows one connection an account",
        )
        self.assert_problems({**PAIR, **desk, "ALPACA_DESK_URL": "https://api.alpaca.markets"})

    def test_no_account_at_all_is_one_problem(self) -> None:
        """It says what to set, and what needs nothing set; a URL alone is no account."""
        for variables in ({}, {"ALPACA_URL": "https://h"}, {"ALPACA_API_KEY": " "}):
            self.assert_problems(
                variables,
                "ALPACA_API_KEY, ALPACA_SECRET_KEY: not set, and no other account is either;"
                f" set them in {self.directory / '.env'}, or try `tradeproxy demo`, which needs none",
            )

    def test_alpacas_own_names_are_recognised(self) -> None:
        """SDKs read APCA_API_KEY_ID; who has that set is told what it is called here."""
        self.read({"APCA_API_KEY_ID": "hush"})
        [problem] = self.findings.problems
        self.assertTrue(
            problem.endswith("; APCA_API_KEY_ID has the name ALPACA_API_KEY here"), problem
        )

    def test_a_name_that_is_nearly_one_is_warned_of(self) -> None:
        """With a misspelt URL an account would be looked for at the default one."""
        for variable, nearest in {
            "ALPACA_URI": "ALPACA_URL",
            "ALPACA_API_KEYS": "ALPACA_API_KEY",
            "ALPACA_LIVE_API_KY": "ALPACA_LIVE_API_KEY",
        }.items():
            self.read({**PAIR, variable: "x"})
            expected = [f"{variable}: there is no such variable; the nearest is {nearest}"]
            self.assertEqual(self.findings.warnings, expected)
        self.read({**PAIR, "ALPACA_PAPER": "true"})
        self.assertEqual(self.findings.warnings, [])

    def test_a_token_has_no_form_in_the_auth_dialect(self) -> None:
        """Alpaca documents it for a key pair only."""
        self.read({"ALPACA_OAUTH_TOKEN": "token"}, Dialect.AUTH)
        expected = (
            "PROXY_UPSTREAM_AUTH: 'auth' has no form for ALPACA_OAUTH_TOKEN; use authenticate"
        )
        self.assertEqual(self.findings.problems, [expected])
        [account] = self.read(PAIR, Dialect.AUTH)
        self.assertEqual((account.dialect, self.findings.problems), (Dialect.AUTH, []))

    def test_the_demos_account_is_on_this_machine(self) -> None:
        """Nothing of it could reach a real account."""
        account = demo_account(8100, Dialect.AUTH)
        self.assertEqual((account.name, account.dialect), ("paper", Dialect.AUTH))
        self.assertEqual(account.base_url.stream, "ws://127.0.0.1:8100/stream")

    def test_the_variables_of_an_account_can_be_told(self) -> None:
        """Those of a name that is asked for and not there; set, they make it known."""
        self.assertEqual(name_variables("paper"), "ALPACA_API_KEY and ALPACA_SECRET_KEY")
        self.assertEqual(name_variables("desk"), "ALPACA_DESK_API_KEY and ALPACA_DESK_SECRET_KEY")
