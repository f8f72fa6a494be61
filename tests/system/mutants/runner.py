"""Runs a room's tests in a forked process, where one module of the package is changed in memory.

The parent imports the libraries once, but neither Twisted's reactor, whose epoll descriptor must
not be shared, nor a module of the package or a test. A child imports those, the changed module
among them, from a text in memory. So each mutant costs some tenths of a second and its tests.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import resource
import signal
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import spec_from_file_location
from multiprocessing.connection import wait
from multiprocessing.context import ForkProcess
from pathlib import Path
from shutil import rmtree
from time import monotonic
from types import CodeType
from typing import Any, NoReturn

LIBRARIES = (
    "autobahn.twisted.websocket",
    "coverage",
    "dotenv",
    "hiredis",
    "hypothesis.strategies",
    "prometheus_client",
    "treq",
    "twisted.internet.endpoints",
    "twisted.internet.ssl",
    "twisted.internet.testing",
    "twisted.trial.reporter",
    "twisted.trial.runner",
    "twisted.web.client",
    "twisted.web.server",
)
"""What the tests import. None of them imports the reactor; txredisapi does."""

SURVIVED, KILLED, BROKEN = 0, 1, 2
"""Exit statuses of a child. BROKEN: the changed text is no Python, or this program has a bug."""

TIMEOUT = -1
"""The outcome of a child that was killed at one of its limits."""

MEMORY = 2 << 30
"""Bytes of address space. A mutant may append to a list forever."""

PATIENCE = 5
"""Factor: a mutant's tests may take that many times as long as they did without a change."""


@dataclass(frozen=True, slots=True)
class Job:
    """Tests to run in one child.

    modules: the test modules to import.
    tests: the ids of the tests in their order; None for all of the modules.
    seconds: the time that these tests take without a change.
    changed: name, path and text of the changed module; None for a run without a change.
    measured: where to write durations and lines as JSON; None for no measurement.
    """

    modules: Sequence[str]
    tests: Sequence[str] | None
    seconds: float
    changed: tuple[str, str, str] | None = None
    measured: Path | None = None
    key: Any = field(default=None, compare=False)


def preload(package: str) -> None:
    """Import the libraries once for all children."""
    for name in LIBRARIES:
        with suppress(ImportError):
            importlib.import_module(name)
    ours = [name for name in sys.modules if name.startswith(f"{package}.")]
    assert not ours, f"children could not change {ours}"
    assert "twisted.internet.reactor" not in sys.modules, "children would share its descriptors"
    gc.collect()
    gc.freeze()


def run_jobs(
    jobs: Iterable[Job], processes: int, directory: Path
) -> Iterator[tuple[Job, int, str]]:
    """Run each job in a child, and yield it with its outcome and the child's output.

    processes: how many children run at a time.
    directory: each child works in a folder of its own in it, which is removed afterwards.
    """
    waiting = enumerate(jobs)
    running: dict[int, _Child] = {}
    try:
        while True:
            while len(running) < processes and (following := next(waiting, None)):
                child = _Child(following[1], directory / str(following[0]))
                running[child.process.sentinel] = child
            if not running:
                return
            pause = min(child.deadline for child in running.values()) - monotonic()
            wait(list(running), max(pause, 0))
            for sentinel, child in list(running.items()):
                if (outcome := child.poll()) is not None:
                    del running[sentinel]
                    yield child.job, outcome, child.end()
    finally:
        for child in running.values():
            child.end()


class _Child:
    """A forked process with its limits. Its tests' own processes are in its process group."""

    def __init__(self, job: Job, directory: Path) -> None:
        self.job = job
        self._directory = directory
        directory.mkdir()
        self.deadline = monotonic() + 20 + PATIENCE * job.seconds
        sys.stdout.flush()
        self.process = ForkProcess(target=_run_child, args=(job, directory))
        self.process.start()

    def poll(self) -> int | None:
        """Return the outcome, or None while the child runs."""
        if monotonic() >= self.deadline:
            self._kill()
            self.process.join()
            return TIMEOUT
        self.process.join(0)
        status = self.process.exitcode
        if status is None or status >= 0:
            return status
        return TIMEOUT if -status in (signal.SIGXCPU, signal.SIGKILL) else KILLED

    def end(self) -> str:
        """Kill what is left of the group, remove its files, and return the output."""
        self._kill()
        self.process.join()
        output = self._directory / "output"
        text = output.read_text(errors="replace") if output.exists() else ""
        rmtree(self._directory, ignore_errors=True)
        return text

    def _kill(self) -> None:
        assert self.process.pid is not None
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        if self.process.is_alive():
            self.process.kill()


def _run_child(job: Job, directory: Path) -> NoReturn:
    """Run a job's tests in this process, which ends with the outcome as its exit status."""
    status = BROKEN
    try:
        os.setpgid(0, 0)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        _redirect(directory)
        _limit(job.seconds)
        if job.changed is not None:
            _install(*job.changed)
        status = KILLED
        if job.measured is not None:
            passed = _measure(job, directory, job.measured)
        else:
            passed = _run_tests(job, directory, lambda _: None, lambda _: None)
        status = SURVIVED if passed else KILLED
    except BaseException as error:  # a mutant may raise anything, even at its import
        print(f"{type(error).__name__}: {error}")
    finally:
        sys.stdout.flush()
        os._exit(status)


def _redirect(directory: Path) -> None:
    descriptor = os.open(directory / "output", os.O_WRONLY | os.O_CREAT)
    for standard in (1, 2):
        os.dup2(descriptor, standard)
    os.close(descriptor)
    sys.stdout = sys.stderr = open(1, "w", errors="replace", closefd=False)  # noqa: SIM115
    # What the tests leave behind goes away with the folder.
    os.environ["TMPDIR"] = tempfile.tempdir = str(directory)
    os.chdir(directory)


def _limit(seconds: float) -> None:
    processor = int(4 + PATIENCE * seconds)  # the imports need half a second
    resource.setrlimit(resource.RLIMIT_CPU, (processor, processor + 5))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _install(name: str, path: str, text: str) -> None:
    """Make the import of one module run another text. Raises SyntaxError."""
    sys.meta_path.insert(0, _Finder(name, path, compile(text, path, "exec", dont_inherit=True)))


class _Finder(MetaPathFinder):
    def __init__(self, name: str, path: str, code: CodeType) -> None:
        self._name = name
        self._loader = _Loader(name, path, code)

    def find_spec(self, fullname: str, path: object, target: object = None) -> ModuleSpec | None:
        if fullname != self._name:
            return None
        return spec_from_file_location(fullname, self._loader.path, loader=self._loader)


class _Loader(SourceFileLoader):
    def __init__(self, name: str, path: str, code: CodeType) -> None:
        super().__init__(name, path)
        self._code = code

    def get_code(self, fullname: str) -> CodeType:
        return self._code


def _run_tests(
    job: Job, directory: Path, started: Callable[[str], None], stopped: Callable[[str], None]
) -> bool:
    """Run the tests up to the first that fails, and return whether all passed.

    started, stopped: called with the id of each test.
    """
    from twisted.trial.reporter import VerboseTextReporter
    from twisted.trial.runner import TestLoader, TrialRunner

    class Announcing(VerboseTextReporter):
        def startTest(self, method: Any) -> None:
            super().startTest(method)
            started(method.id())

        def stopTest(self, method: Any) -> None:
            stopped(method.id())
            super().stopTest(method)

    loader = TestLoader()
    found = {test.id(): test for name in job.modules for test in _flatten(loader.loadByName(name))}
    tests = found.values() if job.tests is None else [found[name] for name in job.tests]
    runner = TrialRunner(
        Announcing,
        exitFirst=True,
        stream=sys.stdout,
        workingDirectory=str(directory / "trial"),
    )
    result: Any = runner.run(loader.suiteFactory(tests))
    return bool(result.wasSuccessful()) and result.testsRun == len(tests)


def _flatten(test: Any) -> Iterator[Any]:
    """Yield the test cases of a suite of suites."""
    try:
        members = iter(test)
    except TypeError:
        yield test
        return
    for member in members:
        yield from _flatten(member)


def _measure(job: Job, directory: Path, result: Path) -> bool:
    """Write which test runs which lines, and how long it takes."""
    import coverage

    measuring = coverage.Coverage(data_file=None, config_file=False, source_pkgs=[job.key])
    measuring.set_option("run:core", "ctrace")  # the only one that can change its context
    began: dict[str, float] = {}
    seconds: dict[str, float] = {}

    def start(test: str) -> None:
        began[test] = monotonic()
        measuring.switch_context(test)

    def stop(test: str) -> None:
        seconds[test] = monotonic() - began[test]
        measuring.switch_context("")

    measuring.start()
    passed = _run_tests(job, directory, start, stop)
    measuring.stop()
    data = measuring.get_data()
    lines = {file: data.contexts_by_lineno(file) for file in data.measured_files()}
    result.write_text(json.dumps({"seconds": seconds, "lines": lines}))
    return passed
