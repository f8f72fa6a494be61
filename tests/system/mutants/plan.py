"""What is mutated, and which tests can notice it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from random import Random

from tests.system.mutants.operators import Mutant, find_mutants
from tests.system.mutants.runner import Job

ROOMS = ("wire", "hub", "journal", "recovery", "upstream", "query", "downstream", "cluster")

DOCUMENTED = "docs.test_security"
"""The tests that compare the bounds in docs/security.md with the code. They count as tests of each
room: the document is where a room's bounds are specified, and a table per room would repeat it."""


def find_folder(package: str) -> Path:
    """Return the folder of an importable package."""
    spec = find_spec(package)
    assert spec is not None, package
    assert spec.origin is not None, package
    return Path(spec.origin).parent


class Project:
    """The package whose modules are mutated, and the package of its tests, with the same rooms."""

    def __init__(self, package: str, tests: str) -> None:
        self.package = package
        self._tests = tests
        self.folder = find_folder(package)
        self._folder_of_tests = find_folder(tests)
        documented = self._folder_of_tests / f"{DOCUMENTED.replace('.', '/')}.py"
        self._documented = [f"{tests}.{DOCUMENTED}"] if documented.exists() else []
        self.sources = {
            f"{room}/{path.name}": path.read_text(encoding="utf-8")
            for room in ROOMS
            for path in sorted((self.folder / room).glob("*.py"))
        }
        self.mutants = {file: find_mutants(file, source) for file, source in self.sources.items()}

    def list_test_modules(self, room: str) -> list[str]:
        """Return the names of a room's test modules, the one of the documented bounds last."""
        paths = sorted((self._folder_of_tests / room).glob("test_*.py"))
        modules = [f"{self._tests}.{room}.{path.stem}" for path in paths]
        return [*modules, *self._documented] if modules else []

    def list_rooms_of_tests(self) -> list[str]:
        """Return the rooms of the package that have tests, mutated or not."""
        folders = sorted(path for path in self.folder.iterdir() if path.is_dir())
        return [path.name for path in folders if self.list_test_modules(path.name)]

    def mirror(self, file: str) -> str:
        """Return the name of the test module that mirrors a file."""
        room, name = file.removesuffix(".py").split("/")
        return f"{self._tests}.{room}.test_{name}"

    def select(self, only: Sequence[str]) -> list[Mutant]:
        """Return the mutants of these rooms and files; of all if there are none."""
        return [
            mutant
            for file, mutants in self.mutants.items()
            if not only or file in only or file.split("/")[0] in only
            for mutant in mutants
        ]

    def measure_sizes(self) -> dict[str, int]:
        """Return the number of lines of each file."""
        return {file: source.count("\n") for file, source in self.sources.items()}

    def change(self, mutant: Mutant) -> tuple[str, str, str]:
        """Return name, path and text of the changed module."""
        name = f"{self.package}.{mutant.file.removesuffix('.py').replace('/', '.')}"
        path = self.folder / mutant.file
        return name, str(path), mutant.apply(self.sources[mutant.file])


def sample(
    mutants: Iterable[Mutant], sizes: Mapping[str, int], count: int, seed: int
) -> list[Mutant]:
    """Return random mutants: from each file as many as its size is of all sizes.

    A file with too few mutants leaves its part to the others.
    """
    random = Random(seed)
    left: dict[str, list[Mutant]] = {}
    for mutant in mutants:
        left.setdefault(mutant.file, []).append(mutant)
    for each in left.values():
        random.shuffle(each)
    chosen: list[Mutant] = []
    while left and len(chosen) < count:
        whole, wanted = sum(sizes[file] for file in left), count - len(chosen)
        # The sum of the parts grows to `wanted`; each whole number that it passes is one mutant.
        position = random.random()
        for file in list(left):
            position += wanted * sizes[file] / whole
            number, position = int(position), position % 1
            chosen += left[file][:number]
            del left[file][:number]
            if not left[file]:
                del left[file]
    return chosen[:count]


@dataclass(frozen=True, slots=True)
class Measurement:
    """One run of a room's tests without a change.

    seconds: the duration of each test, by its id.
    lines: the tests that ran a line, by file and line; "" stands for the imports.
    """

    seconds: dict[str, float]
    lines: dict[str, dict[int, list[str]]]

    @classmethod
    def read(cls, path: Path, folder: Path) -> Measurement:
        """Read what a measuring child wrote."""
        data = json.loads(path.read_text())
        lines = {
            str(Path(file).relative_to(folder)): {
                int(line): tests for line, tests in contexts.items()
            }
            for file, contexts in data["lines"].items()
        }
        return cls(data["seconds"], lines)

    @classmethod
    def merge(cls, measurements: Iterable[Measurement]) -> Measurement:
        """Return what several rooms' tests ran."""
        merged = cls({}, {})
        for each in measurements:
            merged.seconds.update(each.seconds)
            for file, lines in each.lines.items():
                for line, tests in lines.items():
                    merged.lines.setdefault(file, {}).setdefault(line, []).extend(tests)
        return merged

    def choose_tests(self, mutant: Mutant, mirror: str) -> list[str]:
        """Return the tests that can notice a mutant, the fastest of the mirroring module first.

        What runs at import can change anything, so all tests of the room are due, but first those
        that run another line of the file, and last those of the documented bounds.
        """
        room = f"{mirror.rpartition('.')[0]}."
        documented = f"{mirror.partition('.')[0]}.{DOCUMENTED}."
        lines = self.lines.get(mutant.file, {})
        chosen = {
            test for line in range(mutant.line, mutant.last + 1) for test in lines.get(line, ())
        }
        near = chosen
        if mutant.runs_at_import or "" in chosen:
            near = {test for tests in lines.values() for test in tests}
            due = (room, documented)
            chosen = near | {test for test in self.seconds if test.startswith(due)}
        chosen.discard("")
        return sorted(
            chosen,
            key=lambda test: (
                test not in near,
                not test.startswith(f"{mirror}."),
                not test.startswith(room),
                self.seconds[test],
            ),
        )

    def make_job(
        self, tests: Sequence[str], change: tuple[str, str, str] | None, key: object
    ) -> Job:
        """Return the job of running these tests."""
        modules = sorted({test.rsplit(".", 2)[0] for test in tests})
        seconds = sum(self.seconds[test] for test in tests)
        return Job(modules, tests, seconds, change, key=key)


def read_equivalents(path: Path) -> dict[str, str]:
    """Return the reason of each mutant that is listed as equivalent, by id.

    A line has an id and a reason; a line that begins with # is a comment.
    """
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    found = [re.fullmatch(r"([0-9a-f]{8}) (\S.*)", line) for line in lines if line[:1] not in "#"]
    assert all(found), f"{path.name}: each line has an id and a reason"
    return {match[1]: match[2] for match in found if match}
