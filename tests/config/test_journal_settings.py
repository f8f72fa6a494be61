"""Tests for tradeproxy.config.storage: the settings of the journals."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tradeproxy.config.env import Environment, Findings
from tradeproxy.config.storage import DAY, JournalSettings, read_journal

HERE = Path("/here")


def read(
    variables: dict[str, str] | None = None, in_memory: bool = False
) -> tuple[JournalSettings, Findings]:
    """Return the journal settings for these variables, and the findings."""
    findings = Findings()
    environment = Environment({"HOME": "/home/me", **(variables or {})}, HERE, findings)
    return read_journal(environment, in_memory=in_memory), findings


class JournalDirectoryTests(SynchronousTestCase):
    """The directory comes from the user, from systemd or from the XDG specification."""

    def test_directory_in_quotes_is_a_warning(self) -> None:
        """`docker run --env-file` keeps quotes. The journal would be in a directory named so."""
        _, findings = read({"PROXY_DATA_DIR": '"/data"'})
        [warning] = findings.warnings
        self.assertTrue(warning.startswith("PROXY_DATA_DIR: begins and ends with a quote"), warning)

    def test_directory_first_set_variable_wins(self) -> None:
        """The order: PROXY_DATA_DIR, STATE_DIRECTORY, XDG_STATE_HOME, the default in HOME."""
        table: list[tuple[dict[str, str], str]] = [
            ({}, "/home/me/.local/state/tradeproxy"),
            ({"XDG_STATE_HOME": "/xdg"}, "/xdg/tradeproxy"),
            ({"XDG_STATE_HOME": "relative"}, "/home/me/.local/state/tradeproxy"),
            (
                {"XDG_STATE_HOME": "/xdg", "STATE_DIRECTORY": "/var/lib/one:/var/lib/two"},
                "/var/lib/one",
            ),
            ({"STATE_DIRECTORY": "/var/lib/one", "PROXY_DATA_DIR": "/data"}, "/data"),
            ({"PROXY_DATA_DIR": "data"}, "/here/data"),
            ({"PROXY_DATA_DIR": "~/data"}, "/home/me/data"),
            ({"PROXY_DATA_DIR": "~other"}, "/here/~other"),
        ]
        for variables, directory in table:
            settings, findings = read(variables)
            self.assertEqual(
                (settings.directory, findings), (Path(directory), Findings()), variables
            )

    def test_path_is_named_after_the_account(self) -> None:
        """Each account has a journal file of its own."""
        settings, _ = read()
        self.assertEqual(
            settings.path("desk"), Path("/home/me/.local/state/tradeproxy/desk.sqlite3")
        )

    def test_source_is_the_variable_that_sets_the_directory(self) -> None:
        """Messages about the directory name this variable."""
        self.assertEqual(read({"STATE_DIRECTORY": "/var/lib/one"})[0].source, "STATE_DIRECTORY")
        self.assertEqual(read()[0].source, "PROXY_DATA_DIR")

    def test_demo_has_no_directory(self) -> None:
        """The demo's account is also called paper. It must not write to the user's journal."""
        settings, findings = read({"PROXY_DATA_DIR": "/data"}, in_memory=True)
        self.assertEqual((settings.directory, settings.path("paper")), (None, None))
        self.assertIn("PROXY_DATA_DIR", findings.warnings[0])

    def test_redis_replaces_directory_and_warns_of_unused_variables(self) -> None:
        """STATE_DIRECTORY causes no warning, because systemd sets it."""
        redis = {"PROXY_REDIS_URL": "redis://localhost"}
        settings, findings = read({**redis, "STATE_DIRECTORY": "/var/lib/one"})
        self.assertEqual((settings.directory, findings), (None, Findings()))
        settings, findings = read(
            {**redis, "PROXY_DATA_DIR": "/data", "PROXY_JOURNAL_SYNC": "normal"}
        )
        self.assertEqual((settings.directory, findings.problems), (None, []))
        unused = [warning.split(":")[0] for warning in findings.warnings]
        self.assertEqual(unused, ["PROXY_DATA_DIR", "PROXY_JOURNAL_SYNC"])


class JournalRetentionTests(SynchronousTestCase):
    """The settings for durability and retention."""

    def test_valid_values_override_defaults(self) -> None:
        """Days become seconds."""
        settings, _ = read(
            {
                "PROXY_JOURNAL_SYNC": "normal",
                "PROXY_JOURNAL_DAYS": "0.5",
                "PROXY_JOURNAL_EVENTS": "10",
            }
        )
        self.assertEqual(
            (settings.full_sync, settings.max_age, settings.max_events), (False, DAY / 2, 10)
        )

    def test_invalid_values_are_problems_and_defaults_apply(self) -> None:
        """Each problem names its variable."""
        invalid = {
            "PROXY_JOURNAL_SYNC": "off",
            "PROXY_JOURNAL_DAYS": "0",
            "PROXY_JOURNAL_EVENTS": "many",
        }
        settings, findings = read(invalid)
        self.assertEqual(settings, read()[0])
        self.assertEqual([problem.split(":")[0] for problem in findings.problems], list(invalid))
