"""Tests of what `make audit` makes of pip-audit's report."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.system.audit import list_checked, list_weaknesses

# As pip-audit 2.10 writes it.
REPORT: list[dict[str, Any]] = [
    {"name": "treq", "version": "26.7.0", "vulns": []},
    {
        "name": "pyopenssl",
        "version": "25.3.0",
        "vulns": [{"id": "PYSEC-1", "fix_versions": ["26.0.0"], "aliases": [], "description": ""}],
    },
    {"name": "tradeproxy", "skip_reason": "Dependency not found on PyPI"},
]


class AuditTests(SynchronousTestCase):
    """A report with every kind of entry."""

    def test_weakness_is_one_line(self) -> None:
        """It names the library, the weakness, and the version without it."""
        self.assertEqual(list_weaknesses(REPORT), ["pyopenssl 25.3.0: PYSEC-1, fixed in 26.0.0"])

    def test_skipped_library_does_not_count_as_checked(self) -> None:
        """Without its database, pip-audit skips everything and reports success."""
        self.assertEqual([each["name"] for each in list_checked(REPORT)], ["treq", "pyopenssl"])
        self.assertEqual(list_checked(REPORT[2:]), [])
