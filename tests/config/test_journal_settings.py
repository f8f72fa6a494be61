"""Tests for tradeproxy.config.storage: where the journals are kept, how safely, and for how long."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tradeproxy.config.env import Environment, Findings
from tradeproxy.config.storage import DAY, JournalSettings, read_journal

HERE = Path("/here")


def read(
    variables: dict[str, str] | None = None, in_memory: bool = False
) -> tuple[JournalSettings, Findings]:
    """Read the settings of these variables, and what is wrong with them."""
    findings = Findings()
    environment = Environment({"HOME": "/home/me", **(variables or {})}, HERE, findings)
    return read_journal(environment, in_memory=in_memory), findings


class DirectoryTests(SynchronousTestCase):
    """The directory is the user's, systemd's, or that of the XDG specification."""

    def test_the_first_that_is_set_counts(self) -> None:
        """What the user says, then systemd, then the desktop, then the usual place at home."""
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

    def test_every_account_has_its_file(self) -> None:
        """It is named after the account."""
        settings, _ = read()
        self.assertEqual(
            settings.path("desk"), Path("/home/me/.local/state/tradeproxy/desk.sqlite3")
        )

    def test_the_source_is_what_to_change(self) -> None:
        """Messages about the directory name the variable that gave it."""
        self.assertEqual(read({"STATE_DIRECTORY": "/var/lib/one"})[0].source, "STATE_DIRECTORY")
        self.assertEqual(read()[0].source, "PROXY_DATA_DIR")

    def test_the_demo_keeps_nothing(self) -> None:
        """Its paper account is not the user's, whose journal it must not touch."""
        settings, findings = read({"PROXY_DATA_DIR": "/data"}, in_memory=True)
        self.assertEqual((settings.directory, settings.path("paper")), (None, None))
        self.assertIn("PROXY_DATA_DIR", findings.warnings[0])

    def test_with_redis_there_are_no_files(self) -> None:
        """What is set for files is told to be of no use; where systemd has a directory, nobody set that."""
        redis = {"PROXY_REDIS_URL": "redis://localhost"}
        settings, findings = read({**redis, "STATE_DIRECTORY": "/var/lib/one"})
        self.assertEqual((settings.directory, findings), (None, Findings()))
        settings, findings = read(
            {**redis, "PROXY_DATA_DIR": "/data", "PROXY_JOURNAL_SYNC": "normal"}
        )
        self.assertEqual((settings.directory, findings.problems), (None, []))
        told = [warning.split(":")[0] for warning in findings.warnings]
        self.assertEqual(told, ["PROXY_DATA_DIR", "PROXY_JOURNAL_SYNC"])


class KeepingTests(SynchronousTestCase):
    """How safely events are written, and how long they are kept."""

    def test_what_is_given_counts(self) -> None:
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

    def test_each_bad_value_is_a_line_that_names_its_variable(self) -> None:
        """The default takes its place meanwhile."""
        bad = {
            "PROXY_JOURNAL_SYNC": "off",
            "PROXY_JOURNAL_DAYS": "0",
            "PROXY_JOURNAL_EVENTS": "many",
        }
        settings, findings = read(bad)
        self.assertEqual(settings, read()[0])
        self.assertEqual([problem.split(":")[0] for problem in findings.problems], list(bad))
