"""Every test is in a target of the Makefile."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

ROOT = Path(__file__).parents[1]


def name_module(path: Path) -> str:
    """Return the dotted name of a file."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def list_run(target: str) -> set[str]:
    """Return the packages and modules that a target passes to trial."""
    output = subprocess.run(["make", "--dry-run", target], cwd=ROOT, capture_output=True, text=True)
    [command] = re.findall(r"^.*/trial .*$", output.stdout, re.MULTILINE)
    return set(re.findall(r"(?<= )tests[.\w]*", command))


def is_in(name: str, run: set[str]) -> bool:
    """Tell whether trial runs a module that was passed to it, or whose package was."""
    return any(f"{name}.".startswith(f"{each}.") for each in run)


class TargetTests(SynchronousTestCase):
    """What trial finds, and what a target has to name."""

    def test_each_module_is_in_make_test_or_make_integration(self) -> None:
        """In one of both, and `make coverage`, which `.ci/run` calls, runs both."""
        self.assertEqual(list_run("coverage"), {"tests"})
        targets = [list_run("test"), list_run("integration")]
        for path in (ROOT / "tests").rglob("test_*.py"):
            name = name_module(path)
            self.assertEqual([is_in(name, run) for run in targets].count(True), 1, name)

    def test_each_folder_of_tests_is_a_package(self) -> None:
        """Trial looks into no other folder, and reports nothing."""
        folders = {path.parent for path in (ROOT / "tests").rglob("test_*.py")}
        self.assertEqual([each for each in folders if not (each / "__init__.py").exists()], [])

    def test_each_other_module_with_tests_has_a_target(self) -> None:
        """Those that trial does not find by itself; a base class is in a `_case` module."""
        makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
        missing = [
            name_module(path)
            for path in (ROOT / "tests").rglob("*.py")
            if not path.stem.startswith("test_")
            and not path.stem.endswith("_case")
            and re.search(r"^    (?:async )?def test_", path.read_text(encoding="utf-8"), re.M)
            and not re.search(rf"\b{re.escape(name_module(path))}\b", makefile)
        ]
        self.assertEqual(missing, [])
