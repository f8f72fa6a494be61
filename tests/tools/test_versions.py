"""Tests for tools/versions.py: which interpreters it finds, and what it reads from trial."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.support.processes import SOURCES
from tools.versions import VERSIONS, Result, find_python, list_places, read_report

REPORT = """
................S.F
===============================================================================
[SKIPPED]
libfaketime is not installed

tests.integration.test_machine_clock.MachineClockTests.test_a
tests.integration.test_machine_clock.MachineClockTests.test_b
===============================================================================
[SKIPPED]
this machine has no ::1

tests.config.test_endpoints.EndpointTests.test_c
===============================================================================
[FAIL]
Traceback (most recent call last):
PASSED (successes=1)

tests.wire.test_event.EventTests.test_d
-------------------------------------------------------------------------------
Ran 20 tests in 1.000s

FAILED (skips=3, failures=1, errors=2, successes=14)
"""


class FindPythonTests(SynchronousTestCase):
    """find_python."""

    def setUp(self) -> None:
        self.places = [Path(self.mktemp()) for _ in range(3)]
        for place in self.places:
            place.mkdir()

    def add(self, place: Path, script: str) -> None:
        (place / "python3.13").write_text(f"#!/bin/sh\n{script}\n")
        (place / "python3.13").chmod(0o755)

    def test_first_interpreter_of_the_version_is_found(self) -> None:
        """One that cannot start or is another version is passed over."""
        for place, script in zip(
            self.places, ("exit 127", "echo 3.1.3", "echo 3.13.2"), strict=True
        ):
            self.add(place, script)
        self.assertEqual(find_python("3.13", self.places), self.places[2] / "python3.13")

    def test_missing_version_is_none(self) -> None:
        """The run is left out."""
        self.assertIsNone(find_python("3.13", self.places))

    def test_pyenv_and_path_are_searched(self) -> None:
        """Versions that pyenv has installed need not be selected in it."""
        root = self.places[0]
        (root / "versions/3.13.2/bin").mkdir(parents=True)
        places = list_places({"PATH": "/first:/second", "PYENV_ROOT": str(root)})
        self.assertEqual(places[:2], [Path("/first"), Path("/second")])
        self.assertIn(root / "versions/3.13.2/bin", places)


class CommandTests(SynchronousTestCase):
    """The command."""

    def test_missing_version_is_skipped_with_a_line(self) -> None:
        """The line names what is missing, and it is no failure."""
        newest = VERSIONS[-1]
        done = subprocess.run(
            [sys.executable, "-m", "tools.versions", "--only", newest],
            cwd=SOURCES,
            env={"HOME": self.mktemp(), "PATH": ""},
            capture_output=True,
            text=True,
            check=True,
        )
        self.assertEqual(
            done.stdout,
            f"{newest}: not run: there is no python{newest} in PATH, of pyenv or of uv\n",
        )


class ReadReportTests(SynchronousTestCase):
    """read_report."""

    def test_counts_and_reasons_are_those_of_the_last_summary(self) -> None:
        """Skipped tests are counted by their reason."""
        skipped = Counter({"libfaketime is not installed": 2, "this machine has no ::1": 1})
        self.assertEqual(read_report(REPORT), Result(14, 3, skipped))
        self.assertEqual(str(read_report(REPORT)), "14 passed, 3 failed, 3 skipped")

    def test_unfinished_run_is_none(self) -> None:
        """An installation that failed, or a run that was ended, has no summary."""
        self.assertIsNone(read_report("error: no version of twisted matches"))


class SupportedVersionsTests(SynchronousTestCase):
    """The versions that are promised."""

    def test_image_uses_the_version_that_ci_runs(self) -> None:
        """CI runs the oldest supported one, as do mypy and ruff."""
        dockerfile = (SOURCES / "deploy/Dockerfile").read_text(encoding="utf-8")
        images = [line.split()[1] for line in dockerfile.splitlines() if line.startswith("FROM ")]
        self.assertEqual(set(images), {f"python:{VERSIONS[0]}-slim"})
        setup = (SOURCES / "setup.py").read_text(encoding="utf-8")
        self.assertIn(f'python_requires=">={VERSIONS[0]}"', setup)
        minors = ", ".join(version.partition(".")[2] for version in VERSIONS)
        self.assertIn(f"for minor in ({minors})", setup)
        tools = (SOURCES / "pyproject.toml").read_text(encoding="utf-8")
        self.assertIn(f'python_version = "{VERSIONS[0]}"', tools)
        readme = (SOURCES / "README.md").read_text(encoding="utf-8")
        self.assertIn(f"Python {VERSIONS[0]} to {VERSIONS[-1]}", readme)
