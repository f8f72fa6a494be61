"""Properties of all settings: no secret is shown, and each finding is one line."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tests.config.settings_case import PAIR, SettingsTestCase
from tests.support.properties import examples
from tradeproxy.config.settings import (
    VARIABLES,
    SettingsError,
)

SECRETS = [
    f"ALPACA_{name}{form}{suffix}"
    for name in ("", "LIVE_", "DESK_", "PAPER_", "bad-name_")
    for form in ("API_KEY", "SECRET_KEY", "OAUTH_TOKEN")
    for suffix in ("", "_FILE")
] + [
    f"PROXY_{name}{suffix}"
    for name in ("TOKENS", "REDIS_PASSWORD", "REDIS_URL")
    for suffix in ("", "_FILE")
]
MARK = "hush"
"""A part of every secret, and of nothing else."""

awkward = st.text("a \t\n\r\x00\x1b\x85\u2028\ud800é,=:\\'\"#$", max_size=4)
secrets = st.tuples(awkward, awkward).map(MARK.join)
urls = st.sampled_from(
    [
        "https://me:hush@h",
        "https://h?hush",
        "https://h\nhush",
        "http://h/#hush",
        "https://h",
        "redis://hush:hush@h",
    ]
)


class SettingsPropertyTests(SettingsTestCase):
    """Properties of all settings."""

    def lines_and_repr(self, variables: dict[str, str], demo: bool) -> tuple[list[str], str]:
        """Return the lines for the user, and all text that a log of the result could contain."""
        try:
            settings = self.read(variables, demo=demo)
        except SettingsError as error:
            return list(error.problems), f"{error!r} {error}"
        return list(settings.warnings), f"{settings!r}"

    @examples()
    @given(
        st.dictionaries(st.sampled_from(SECRETS), secrets),
        st.dictionaries(
            st.sampled_from(
                ["ALPACA_URL", "ALPACA_LIVE_URL", "PROXY_ALLOWED_ORIGINS", "PROXY_REDIS_URL"]
            ),
            urls,
        ),
        st.sampled_from(["", "auth"]),
        st.booleans(),
    )
    def test_secret_is_never_shown(
        self, secret_variables: dict[str, str], urls: dict[str, str], dialect: str, demo: bool
    ) -> None:
        """No problem, warning or repr contains a secret, valid or not."""
        variables = {**secret_variables, **urls, "PROXY_UPSTREAM_AUTH": dialect}
        lines, shown = self.lines_and_repr(variables, demo)
        self.assertNotIn(MARK, "".join(lines) + shown)

    @examples()
    @given(
        st.dictionaries(
            st.sampled_from([*VARIABLES, *SECRETS, "ALPACA_URL"])
            | awkward.map("PROXY_{}".format)
            | awkward.map("ALPACA_{}_API_KEY".format),
            awkward,
        ),
        st.booleans(),
    )
    def test_finding_is_one_printable_line(self, variables: dict[str, str], demo: bool) -> None:
        """It contains no control characters, whatever is in names and values."""
        for line in self.lines_and_repr(variables, demo)[0]:
            self.assertTrue(line.isprintable(), repr(line))

    @examples()
    @given(st.text("aA_=#'\"\\ \n$hush", max_size=40))
    def test_file_with_any_text_is_read_or_a_problem(self, text: str) -> None:
        """No text of a .env file raises another exception or appears in a problem."""
        path = self.directory / ".env"
        path.write_text(f"PROXY_TOKENS_FILE=x\n{text}")
        path.chmod(0o600)
        lines, _ = self.lines_and_repr(PAIR, demo=False)
        self.assertNotIn(MARK, "".join(lines))

    def test_key_in_wrong_variable_is_not_quoted(self) -> None:
        """PROXY_PORT with the secret key in it was quoted in the log, as the invalid value."""
        names = {name.replace("<NAME>", "DESK").replace("<name>", "DESK") for name in VARIABLES}
        hidden = 0
        for key in ("Zq3XvT9bLm2KcWd8/fYh7NpAs4J+Ue6Ei1Ot", "PKZQ3XVT9BLM2KCWD8RF"):
            for name in sorted(names | {"PROXY_WEBHOOK_DESK_FORMAT"}):
                for value in (key, f"{key},{key}"):
                    lines, _ = self.lines_and_repr({**PAIR, name: value}, demo=False)
                    found = [line for line in lines if key.lower() in line.lower()]
                    self.assertEqual(found, [], name)
                    hidden += any("..." in line for line in lines)
        self.assertGreater(hidden, 50)
