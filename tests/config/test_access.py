"""Tests for tradeproxy.config.access: tokens, and the REST interface."""

from __future__ import annotations

from tests.config.settings_case import PAIR, TOKEN, SettingsTestCase
from tests.support.certificates import Authority
from tradeproxy.wire.credentials import Secret


class TokenSettingsTests(SettingsTestCase):
    """A list of tokens, in a variable or in a file."""

    def test_tokens_are_separated_by_commas(self) -> None:
        """White space around tokens is stripped, and empty tokens are ignored."""
        expected = (Secret(TOKEN), Secret("another-of-some-length"))
        tokens = f" {TOKEN},, another-of-some-length ,"
        self.assertEqual(self.read({**PAIR, "PROXY_TOKENS": tokens}).tokens, expected)
        (self.directory / "tokens").write_text(tokens)
        self.assertEqual(self.read({**PAIR, "PROXY_TOKENS_FILE": "tokens"}).tokens, expected)

    def test_tokens_invalid_is_a_problem(self) -> None:
        """A start without tokens would admit every client."""
        (self.directory / "two").write_text("one-token-a-line\nis-not-how-it-goes\n")
        malformed = "a token contains white space, or is not ASCII; separate tokens by commas"
        for variables, problem in [
            ({"PROXY_TOKENS": " , "}, "PROXY_TOKENS: contains no token"),
            ({"PROXY_TOKENS": "two words of length"}, f"PROXY_TOKENS: {malformed}"),
            ({"PROXY_TOKENS_FILE": "two"}, f"PROXY_TOKENS_FILE: {malformed}"),
            (
                {"PROXY_TOKENS_FILE": "none"},
                "PROXY_TOKENS_FILE: the file it names cannot be read (No such file or directory)",
            ),
        ]:
            self.assertEqual(self.problems({**variables, "PROXY_HOST": "0.0.0.0"}), [problem])

    def test_token_short_is_a_warning(self) -> None:
        """The token is still accepted."""
        settings = self.read({**PAIR, "PROXY_TOKENS": f"fifteen-letters,{TOKEN}"})
        expected = (
            "PROXY_TOKENS: a token of fewer than 16 characters can be guessed;"
            " a later version will refuse it",
        )
        self.assertEqual((settings.warnings, len(settings.tokens)), (expected, 2))


class RestSettingsTests(SettingsTestCase):
    """PROXY_REST: whether the proxy forwards Alpaca's REST interface."""

    def test_rest_is_off_by_default(self) -> None:
        """Blank, 0 and no mean off too."""
        for text, expected in {
            "": False,
            "0": False,
            "no": False,
            "1": True,
            "true": True,
            "yes": True,
        }.items():
            self.assertIs(self.read({**PAIR, "PROXY_REST": text}).rest, expected, text)

    def test_rest_with_tokens_is_a_problem(self) -> None:
        """The problem names both variables, also if a file contains the tokens."""
        (self.directory / "tokens").write_text(TOKEN)
        for name, value in (("PROXY_TOKENS", TOKEN), ("PROXY_TOKENS_FILE", "tokens")):
            [line] = self.problems({"PROXY_REST": "1", name: value})
            expected = (
                f"PROXY_REST: {name} is set too; the headers of a request cannot carry a token and"
            )
            self.assertTrue(line.startswith(expected), line)
            self.assertEqual(self.problems({"PROXY_REST": "0", name: value}), [])

    def test_rest_for_other_machines_without_tls_is_a_warning(self) -> None:
        """Clients send their keys, and only TLS encrypts them."""
        variables = {**PAIR, "PROXY_REST": "1", "PROXY_ALLOW_ANONYMOUS": "1"}
        [warning] = self.read({**variables, "PROXY_HOST": "0.0.0.0"}).warnings
        self.assertTrue(warning.startswith("PROXY_REST: other machines send their keys"), warning)
        identity = Authority(str(self.directory)).issue("localhost")
        over_tls = f"ssl:443:privateKey={identity.key}:certKey={identity.certificate}"
        for elsewhere in ({}, {"PROXY_LISTEN": over_tls}):
            self.assertEqual(self.read({**variables, **elsewhere}).warnings, ())
