"""Tests for tests.system.mutants.plan; tests/integration/test_mutants.py runs the program."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.system.mutants.operators import find_mutants
from tests.system.mutants.plan import Measurement, Project, read_equivalents, sample


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

    def test_documented_bounds_count_for_every_room(self) -> None:
        """docs/security.md specifies them; its tests compare it with the code, and run last."""
        project = Project("tradeproxy", "tests")
        for room in ("wire", "hub"):
            modules = project.list_test_modules(room)
            self.assertEqual(modules[-1], "tests.docs.test_security")
            self.assertTrue(modules[0].startswith(f"tests.{room}."))
        self.assertEqual(project.list_test_modules("no_room"), [])
        limit, in_function = find_mutants("hub/a.py", "def f():\n    a.b = c\nMAX_A = 7\n")[::-2]
        bounds, own = "t.docs.test_security.T.test_1", "t.hub.test_b.T.test_2"
        measured = Measurement({bounds: 0.1, own: 0.5}, {"hub/a.py": {2: [own]}})
        self.assertEqual(measured.choose_tests(limit, "t.hub.test_a"), [own, bounds])
        self.assertEqual(measured.choose_tests(in_function, "t.hub.test_a"), [own])

    def test_equivalents_need_a_reason(self) -> None:
        """An id alone does not say why no test can kill the mutant."""
        path = Path(self.mktemp())
        path.write_text("# comment\n0123abcd The reason.\n\n")
        self.assertEqual(read_equivalents(path), {"0123abcd": "The reason."})
        path.write_text("0123abcd\n")
        self.assertRaises(AssertionError, read_equivalents, path)
