"""The program of `make mutants`, on a package of one module."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

from twisted.trial.unittest import TestCase

from tests.system.mutants.operators import find_mutants

ROOT = Path(__file__).parents[2]

MODULE = """
    LIMIT = 4

    def is_small(number):
        return number < LIMIT

    def count_up(number):
        while number < LIMIT:
            number = number + 1
        return number

    def never_called(items):
        items.clear()
"""

TESTS = """
    from twisted.internet import reactor
    from twisted.internet.task import deferLater
    from twisted.trial.unittest import TestCase

    from sample.wire.numbers import count_up, is_small

    class NumbersTests(TestCase):
        async def test_is_small_below_limit(self):
            await deferLater(reactor, 0)
            self.assertTrue(is_small(0))
            self.assertFalse(is_small(5))

        def test_count_up_ends_at_limit(self):
            self.assertEqual(count_up(3), 4)
"""


class ProgramTests(TestCase):
    """The program runs as `make mutants` runs it, in a process of its own."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp()).absolute()
        for name, source in (
            ("sample/__init__.py", ""),
            ("sample/wire/__init__.py", ""),
            ("sample/wire/numbers.py", MODULE),
            ("sample_tests/__init__.py", ""),
            ("sample_tests/wire/__init__.py", ""),
            ("sample_tests/wire/test_numbers.py", TESTS),
        ):
            path = self.directory / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(dedent(source))

    def run_program(self, *arguments: str) -> tuple[int, str]:
        """Return exit status and output."""
        temporary = self.directory / "temporary"
        temporary.mkdir(exist_ok=True)
        program = [sys.executable, "-m", "tests.system.mutants"]
        done = subprocess.run(
            [*program, "--package", "sample", "--tests", "sample_tests", "--jobs", "1", *arguments],
            cwd=self.directory,
            env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "TMPDIR": str(temporary)},
            capture_output=True,
            text=True,
            check=False,
        )
        self.assertEqual(list(temporary.iterdir()), [], "it leaves no files")
        return done.returncode, done.stdout + done.stderr

    def test_run_reports_survivors_and_fails(self) -> None:
        """The tests notice a negated condition and an endless loop, but neither 3 < 4 nor 4 < 4."""
        status, output = self.run_program()
        survivors = re.findall(
            r"^[0-9a-f]{8} wire/numbers\.py:\d+ (\w+: .*)$", output, re.MULTILINE
        )
        self.assertEqual(
            sorted(survivors),
            [
                "boundary: `return number < LIMIT` -> `return number <= LIMIT`",
                "delete: `items.clear()` -> `pass` (no test runs this line)",
            ],
            output,
        )
        self.assertRegex(output, r"\n +all +8 +2 +1 +81\.8%\n")
        self.assertEqual(status, 1)

    def test_run_of_one_mutant_shows_its_tests(self) -> None:
        """The exit status is 0 if it is killed, and 1 if it survives."""
        mutants = {each.after: each.id for each in find_mutants("wire/numbers.py", dedent(MODULE))}
        for after, status, word in (
            ("return number >= LIMIT", 0, "killed"),
            ("return number <= LIMIT", 1, "survived"),
        ):
            found, output = self.run_program("--id", mutants[after])
            self.assertEqual(found, status, output)
            self.assertTrue(output.endswith(f"{word}\n"), output)
            self.assertIn("test_is_small_below_limit", output)

    def test_run_with_failing_tests_stops(self) -> None:
        """Tests that fail without a change would kill every mutant."""
        path = self.directory / "sample_tests/wire/test_numbers.py"
        path.write_text(path.read_text().replace("count_up(3), 4", "count_up(3), 5"))
        status, output = self.run_program()
        self.assertEqual(status, 1)
        self.assertIn("tests fail without a change: sample_tests.wire.test_numbers", output)
