"""Tests for the programs in tests.system.mutants, on a package of one module."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

from twisted.trial.unittest import SynchronousTestCase, TestCase

from tests.system.mutants.operators import find_mutants
from tests.system.mutants.plan import Measurement, read_equivalents, sample

ROOT = Path(__file__).parents[3]

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


class PlanTests(SynchronousTestCase):
    """Which mutants are run, and with which tests."""

    def test_sample_takes_from_files_by_size(self) -> None:
        """A file with three times as many lines gives three times as many; a seed repeats it."""
        source = "".join(f"a.b = {number}\n" for number in range(40))
        mutants = [*find_mutants("hub/a.py", source), *find_mutants("hub/b.py", source)]
        sizes = {"hub/a.py": 300, "hub/b.py": 100}
        chosen = sample(mutants, sizes, 40, seed=1)
        self.assertEqual(sum(mutant.file == "hub/a.py" for mutant in chosen), 30)
        self.assertEqual(chosen, sample(mutants, sizes, 40, seed=1))
        self.assertNotEqual(chosen, sample(mutants, sizes, 40, seed=2))
        self.assertCountEqual(sample(mutants, sizes, 999, seed=1), mutants)

    def test_tests_of_a_mutant_run_its_line(self) -> None:
        """The mirroring module comes first, then the fastest; at import all tests are due."""
        at_import, in_function = find_mutants("hub/a.py", "A = b == c\ndef f(a):\n    a.b = a\n")
        fast, slow, other = (
            "t.hub.test_a.T.test_1",
            "t.hub.test_a.T.test_2",
            "t.hub.test_b.T.test_3",
        )
        far = "t.hub.test_b.T.test_4"
        seconds = {fast: 1.0, slow: 3.0, other: 0.5, far: 0.1}
        measured = Measurement(seconds, {"hub/a.py": {3: [other, slow, fast]}})
        self.assertEqual(measured.choose_tests(in_function, "t.hub.test_a"), [fast, slow, other])
        self.assertEqual(measured.choose_tests(at_import, "t.hub.test_a"), [fast, slow, other, far])

    def test_equivalents_need_a_reason(self) -> None:
        """An id alone does not say why no test can kill the mutant."""
        path = Path(self.mktemp())
        path.write_text("# comment\n0123abcd The reason.\n\n")
        self.assertEqual(read_equivalents(path), {"0123abcd": "The reason."})
        path.write_text("0123abcd\n")
        self.assertRaises(AssertionError, read_equivalents, path)
