"""Changes the package in hundreds of places, one at a time; exits with 1 if too few are noticed.

python -m tests.system.mutants [--seed N] [--count N] [--only ROOM|FILE] [--jobs N]
    [--beside]
python -m tests.system.mutants --list [--only ROOM|FILE]
python -m tests.system.mutants --id ID

A room's tests notice a change by failing: the mutant is killed. One that survives names a
behaviour that no test of the room has. The tests of the bounds in docs/security.md count as tests
of each room, see plan.py. equivalents.txt lists mutants that behave as the original does: they are
not run, except with --equivalents, which finds entries that are wrong. --beside uses the tests of
all rooms, but not tests/integration.

No library fits. mutmut 3 runs pytest and mutates functions only. Cosmic Ray changes the source
files and runs a command for each mutant, with all of its imports. Neither runs trial's tests in a
warm process.
"""

from __future__ import annotations

import os
import signal
import sys
from argparse import ArgumentParser
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic

from tests.system.mutants.operators import OPERATORS, Mutant
from tests.system.mutants.plan import ROOMS, Measurement, Project, read_equivalents, sample
from tests.system.mutants.runner import BROKEN, KILLED, SURVIVED, TIMEOUT, Job, preload, run_jobs

LISTED = Path(__file__).with_name("equivalents.txt")
MOST_LISTED = 0.05
LEAST_KILLED = 0.97
NAMES = {KILLED: "killed", SURVIVED: "survived", TIMEOUT: "timeout"}


def main() -> None:
    """Read the command line, run, and exit with the verdict."""
    parser = ArgumentParser(prog="mutants", description="Test the tests by mutating the package.")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--only", metavar="ROOM|FILE", nargs="+", default=[])
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--list", action="store_true", help="print all mutants, and run none")
    parser.add_argument("--id", help="run one mutant, and print its tests' output")
    parser.add_argument("--equivalents", action="store_true", help="run those that are listed")
    parser.add_argument("--beside", action="store_true", help="use the tests of all rooms")
    parser.add_argument("--package", default="tradeproxy")
    parser.add_argument("--tests", default="tests")
    arguments = parser.parse_args()
    project = Project(arguments.package, arguments.tests)
    known = {mutant.id: mutant for mutant in project.select(())}
    selected = project.select(arguments.only)
    if arguments.list:
        print(*selected, sep="\n")
        return
    if not selected or arguments.id not in (None, *known):
        parser.error("there is no such mutant")
    listed = read_equivalents(LISTED) if arguments.package == "tradeproxy" else {}
    for each in listed.keys() - known.keys():
        print(f"{LISTED.name}: there is no mutant {each} any more")
    selected = [
        mutant for mutant in selected if (mutant.id in listed) == bool(arguments.equivalents)
    ]
    preload(project.package)
    # An exception ends the children and removes their files; the default action would not.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    with TemporaryDirectory(prefix="mutants-") as directory:
        os.environ["HYPOTHESIS_STORAGE_DIRECTORY"] = f"{directory}/hypothesis"
        run = Run(project, Path(directory), arguments.jobs, arguments.beside)
        if arguments.id:
            sys.exit(run.run_one(known[arguments.id]))
        outcomes = run.run(
            sample(selected, project.measure_sizes(), arguments.count, arguments.seed)
        )
        if arguments.equivalents:
            killed = [mutant for mutant, outcome in outcomes.items() if outcome != SURVIVED]
            for mutant in killed:
                print(f"not equivalent: {mutant}")
            sys.exit(int(bool(killed)))
        sys.exit(report(outcomes, run.seconds, len(listed) / len(known)))


class Run:
    """Measures each room once, then runs mutants and prints those that survive."""

    def __init__(
        self, project: Project, directory: Path, processes: int, beside: bool = False
    ) -> None:
        """Set up a run.

        directory: for the files of the run.
        processes: how many run at a time.
        beside: whether tests of other rooms count too.
        """
        self._project = project
        self._directory = directory
        self._processes = processes
        self._beside = beside
        self._began = monotonic()

    @property
    def seconds(self) -> float:
        """The time since the beginning."""
        return monotonic() - self._began

    def run_one(self, mutant: Mutant) -> int:
        """Run a mutant with all tests of its room; return 1 if it survives."""
        print(mutant)
        modules = self._project.list_test_modules(mutant.file.split("/")[0])
        mirror = self._project.mirror(mutant.file)
        modules.sort(key=lambda name: name != mirror)
        job = Job(modules, None, 60, self._project.change(mutant))
        [(_, outcome, output)] = run_jobs([job], 1, self._directory)
        print(output, NAMES.get(outcome, "broken"), sep="\n")
        return int(outcome not in (KILLED, TIMEOUT))

    def run(self, mutants: Sequence[Mutant]) -> dict[Mutant, int]:
        """Return the outcome of each mutant. Raises SystemExit if an unchanged room fails."""
        rooms = {mutant.file.split("/")[0] for mutant in mutants}
        if self._beside:
            rooms.update(self._project.list_rooms_of_tests())
        measured = {room: self._directory / f"{room}.json" for room in sorted(rooms)}
        jobs = [
            Job(self._project.list_test_modules(room), None, 60, None, path, self._project.package)
            for room, path in measured.items()
        ]
        self._run_unchanged(jobs, "measure")
        found = {
            room: Measurement.read(path, self._project.folder) for room, path in measured.items()
        }
        # The order of the tests is another one for mutants, and they must not depend on it.
        self._run_unchanged(
            [
                each.make_job(sorted(each.seconds, key=each.seconds.__getitem__), None, None)
                for each in found.values()
            ],
            "control",
        )
        return self._run_mutants(mutants, found)

    def _run_unchanged(self, jobs: Sequence[Job], name: str) -> None:
        folder = self._directory / name
        folder.mkdir()
        for job, outcome, output in run_jobs(jobs, self._processes, folder):
            if outcome != SURVIVED:
                print(output)
                sys.exit(f"tests fail without a change: {', '.join(job.modules)}")

    def _run_mutants(
        self, mutants: Sequence[Mutant], found: dict[str, Measurement]
    ) -> dict[Mutant, int]:
        print(f"{len(mutants)} mutants, {self.seconds:.0f} s of preparation", flush=True)
        everything = Measurement.merge(found.values()) if self._beside else None
        outcomes: dict[Mutant, int] = {}
        jobs = []
        for mutant in mutants:
            measured = everything or found[mutant.file.split("/")[0]]
            if tests := measured.choose_tests(mutant, self._project.mirror(mutant.file)):
                jobs.append(measured.make_job(tests, self._project.change(mutant), mutant))
            else:
                outcomes[mutant] = SURVIVED
                print(f"{mutant} (no test runs this line)")
        folder = self._directory / "mutants"
        folder.mkdir()
        for job, outcome, output in run_jobs(jobs, self._processes, folder):
            if outcome == BROKEN:
                sys.exit(f"{job.key}\n{output}")
            outcomes[job.key] = outcome
            if outcome == SURVIVED:
                print(job.key, flush=True)
        return outcomes


def report(outcomes: dict[Mutant, int], seconds: float, share_listed: float) -> int:
    """Print the counts of each room and operator, and return the exit status."""
    counts: Counter[tuple[str, str]] = Counter()
    for mutant, outcome in outcomes.items():
        for room in (mutant.file.split("/")[0], mutant.operator, "all"):
            counts[room, NAMES[outcome]] += 1
    print("".join(f"{cell:>12}" for cell in ("", *NAMES.values(), "percent")))
    for room in (*ROOMS, *OPERATORS, "all"):
        row = [counts[room, name] for name in NAMES.values()]
        if any(row):
            print("".join(f"{cell:>12}" for cell in (room, *row, f"{share(counts, room):.1%}")))
    print(f"{seconds:.0f} s; {share_listed:.1%} of all mutants are listed as equivalent")
    return int(share(counts, "all") < LEAST_KILLED or share_listed > MOST_LISTED)


def share(counts: Counter[tuple[str, str]], room: str) -> float:
    """Return the share of mutants that were killed, by a timeout too."""
    survived = counts[room, NAMES[SURVIVED]]
    return 1 - survived / sum(counts[room, name] for name in NAMES.values())


if __name__ == "__main__":
    main()
