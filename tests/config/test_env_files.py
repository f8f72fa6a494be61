"""Tests for tradeproxy.config.env: the .env file, and what overrides it."""

from __future__ import annotations

from pathlib import Path

from tests.config.settings_case import PAIR, SettingsTestCase
from tradeproxy.config.env import MAX_FINDINGS, MAX_LINES, MAX_TEXT
from tradeproxy.config.files import MAX_SIZE
from tradeproxy.config.settings import (
    Limits,
    SettingsError,
)
from tradeproxy.wire.credentials import KeyPair, Secret


class EnvFileTests(SettingsTestCase):
    """The environment overrides the .env file."""

    def write(self, text: str, name: str = ".env", mode: int = 0o600) -> Path:
        """Write a file of settings."""
        path = self.directory / name
        path.write_text(text, encoding="utf-8")
        path.chmod(mode)
        return path

    def test_environment_overrides_file_unless_blank(self) -> None:
        """Containers pass on unset variables as blank."""
        self.write(
            "ALPACA_API_KEY=key\nALPACA_SECRET_KEY=secret\n"
            "PROXY_MAX_CLIENTS=1\nPROXY_MAX_MESSAGE=1\n"
        )
        settings = self.read({"PROXY_MAX_CLIENTS": "2", "PROXY_MAX_MESSAGE": ""})
        self.assertEqual(settings.limits, Limits(max_clients=2, max_message=1))

    def test_variable_set_twice_is_a_warning(self) -> None:
        """The last line counts, and a user may see only the first."""
        path = self.write(
            "ALPACA_API_KEY=key\nALPACA_SECRET_KEY=secret\nPROXY_PORT=81\nPROXY_PORT=82\n"
        )
        settings = self.read({})
        self.assertEqual(
            settings.warnings, (f"{path}: PROXY_PORT is set twice; the last one counts",)
        )
        self.assertIn(":82:", settings.listen[0])

    def test_account_missing_is_reported_with_other_problems(self) -> None:
        """Users can fix all problems at once."""
        with self.assertRaises(SettingsError) as caught:
            self.read({"PROXY_PORT": "x"})
        self.assertEqual(
            [problem.split(":")[0] for problem in caught.exception.problems],
            ["PROXY_PORT", "ALPACA_API_KEY, ALPACA_SECRET_KEY"],
        )

    def test_many_findings_are_counted(self) -> None:
        """A reload with a wrong file logged 29 MB, and stopped the proxy for 15 s."""
        unknown = "".join(f"PROXY_PROT{number}=1\n" for number in range(MAX_FINDINGS + 3))
        path = self.write("x\n" * (MAX_FINDINGS + 2) + unknown)
        with self.assertRaises(SettingsError) as caught:
            self.read(PAIR)
        lines = caught.exception.problems
        problems, warnings = lines[: MAX_FINDINGS + 1], lines[MAX_FINDINGS + 1 :]
        self.assertEqual(problems[-2], f"{path}: line {MAX_FINDINGS} is not NAME=value")
        self.assertEqual(problems[-1], "and 2 more")
        self.assertEqual(len(warnings), MAX_FINDINGS + 1)
        self.assertIn("did you mean PROXY_PORT?", warnings[-2])
        self.assertEqual(warnings[-1], "warning: and 3 more")

    def test_suggestions_are_limited(self) -> None:
        """One takes half a millisecond. What is unknown is named all the same."""
        warnings = {f"PROXY_PROT{number:02}": "1" for number in range(MAX_FINDINGS)}
        problems = self.problems({**warnings, "PROXY_WEBHOOK_A_URI": "x"})
        self.assertIn("PROXY_WEBHOOK_A_URI: unknown variable", problems)

    def test_file_with_too_many_lines_is_a_problem(self) -> None:
        """Each line takes some microseconds, also if it is right."""
        path = self.write("A=b\n" * (MAX_LINES + 1))
        expected = [f"{path}: has more than {MAX_LINES} lines"]
        self.assertEqual(self.problems({}), expected)

    def test_list_with_too_many_items_is_a_problem(self) -> None:
        """There is one line for all of them."""
        expected = [f"PROXY_ALLOWED_HOSTS: has more than {MAX_LINES} items"]
        hosts = ",".join("x" * (MAX_LINES + 1))
        self.assertEqual(self.problems({"PROXY_ALLOWED_HOSTS": hosts}), expected)

    def test_long_value_is_not_quoted(self) -> None:
        """To leave out each word of it that may be a key would take seconds."""
        problems = self.problems({"PROXY_PORT": "9" * (MAX_TEXT + 1), "PROXY_" + "X" * 99999: "1"})
        self.assertEqual(problems[0], "PROXY_PORT: is not valid, and very long")
        self.assertEqual(len(problems[1]), len("warning: ") + MAX_TEXT)

    def test_warnings_follow_the_problems(self) -> None:
        """A misspelt variable may be the cause of a problem."""
        problems = self.problems({"PROXY_PORT": "x", "PROXY_PROT": "81"})
        self.assertEqual(
            problems[-1],
            "warning: PROXY_PROT: unknown variable; did you mean PROXY_PORT?",
        )

    def test_line_in_shell_syntax_is_parsed(self) -> None:
        """A line may have `export`, quotes and a comment. "$" is an ordinary character."""
        self.write(
            "\ufeff# a comment\n\nexport ALPACA_API_KEY='k$HOME'  # quoted\n"
            'ALPACA_SECRET_KEY = "${s}"\r\nPROXY_MAX_CLIENTS=3 # three\n'
        )
        settings = self.read({})
        expected = (Secret("k$HOME"), Secret("${s}"))
        credentials = settings.accounts[0].credentials
        assert isinstance(credentials, KeyPair)
        self.assertEqual((credentials.key_id, credentials.secret_key), expected)
        self.assertEqual(settings.limits.max_clients, 3)

    def test_line_invalid_is_a_problem_with_its_number(self) -> None:
        """The problem does not quote the line, which may contain a part of a secret."""
        path = self.write(
            "PROXY_MAX_CLIENTS=1\n\n\nhush\nPROXY_HOST='127.0.0.1\n# fine\n=hush\nPROXY_PORT=2 ok\n"
        )
        expected = [
            f"{path}: line 4 is not NAME=value",
            f"{path}: line 5 has a value that begins with ' and does not end with it",
            f"{path}: line 7 is not NAME=value",
        ]
        self.assertEqual(self.problems({"PROXY_PORT": "3"}), expected)

    def test_quotes_of_a_value_are_explained(self) -> None:
        """A quote that is not closed can swallow the next lines, whose quote then ends it."""
        unclosed = 'has a value that begins with " and does not end with it'
        for text, explanation in (
            ('PROXY_HOST="127.0.0.1\n', unclosed),
            ('PROXY_HOST="127.0.0.1\nPROXY_MAX_CLIENTS="3"\n', unclosed),
            ('PROXY_HOST = "127.0.0.1" x\n', "has text after the quoted value"),
        ):
            path = self.write(text)
            self.assertIn(f"{path}: line 1 {explanation}", self.problems(dict(PAIR)))

    def test_name_in_lower_case_is_a_warning(self) -> None:
        """It has no effect, which nothing else would show. Other programs have other names."""
        names = {"proxy_port": "1", "Proxy_Token": "x", "http_proxy": "x", "alpaca_x": "x"}
        settings = self.read({**PAIR, **names, "alpaca_url": "x"})
        self.assertEqual(
            sorted(settings.warnings),
            [
                "Proxy_Token: not used; the variable is PROXY_TOKEN",
                "alpaca_url: not used; the variable is ALPACA_URL",
                "proxy_port: not used; the variable is PROXY_PORT",
            ],
        )

    def test_file_readable_by_others_is_a_warning(self) -> None:
        """Read permission counts, for the group or for others. See test_trust.py for writing."""
        for mode, warned in ((0o600, False), (0o640, True), (0o604, True)):
            path = self.write("", mode=mode)
            expected = (f"{path}: others can read it; run chmod 600 on it",) if warned else ()
            self.assertEqual(self.read(PAIR).warnings, expected)

    def test_file_missing_is_a_problem_only_for_the_option(self) -> None:
        """The problem names --env-file."""
        self.assertEqual(self.problems({}), [])
        expected = (
            f"--env-file {self.directory / 'x.env'}: cannot be read (No such file or directory)"
        )
        self.assertEqual(self.problems({}, env_file="x.env"), [expected])

    def test_env_file_option_replaces_dot_env(self) -> None:
        """Its path is relative to the directory."""
        self.write("PROXY_MAX_CLIENTS=1")
        self.write("PROXY_MAX_MESSAGE=1", name="x.env")
        self.assertEqual(self.read(PAIR, env_file="x.env").limits, Limits(max_message=1))

    def test_file_unreadable_is_one_problem(self) -> None:
        """A directory and binary data are unreadable, and so is a file without an end."""
        path = self.directory / ".env"
        path.mkdir()
        self.assertEqual(self.problems({}), [f"{path}: cannot be read (Is a directory)"])
        path.rmdir()
        path.write_bytes(b"\xff\xfe")
        self.assertEqual(self.problems({}), [f"{path}: cannot be read (it is not UTF-8 text)"])
        path.write_bytes(b"\n" * MAX_SIZE)
        self.assertNotIn("too large", str(self.problems({})))
        path.write_bytes(b"\n" * (MAX_SIZE + 1))
        self.assertEqual(self.problems({}), [f"{path}: cannot be read (File too large)"])
