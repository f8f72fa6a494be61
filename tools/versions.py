"""The suite on each supported Python, and with the lowest direct dependencies that setup.py allows.

Each run has an environment of its own in build/versions/, from uv, and its log beside it.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

ROOT = Path(__file__).parents[1]
DIRECTORY = ROOT / "build/versions"

VERSIONS = ("3.11", "3.12", "3.13", "3.14")
"""The Pythons that setup.py names as supported. The first one also gets the lowest dependencies."""

LOWEST = ("--upgrade", "--resolution", "lowest-direct")
"""Options of `uv pip install`. Without --upgrade, a setuptools that came with pip would stay."""

_SUMMARY = re.compile(r"^(?:PASSED|FAILED) \((.*)\)$", re.MULTILINE)
_SKIPPED = re.compile(r"^\[SKIPPED\]\n(.+)\n((?:\n|tests\..+\n)*)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Result:
    """What a run of trial reports."""

    passed: int
    failed: int
    skipped: Counter[str]
    """The number of tests by the reason for which they did not run."""

    def __str__(self) -> str:
        return f"{self.passed} passed, {self.failed} failed, {self.skipped.total()} skipped"


def find_python(version: str, places: Iterable[Path]) -> Path | None:
    """Return the first interpreter of this version that starts, such as for "3.13"."""
    for place in places:
        program = place / f"python{version}"
        # pyenv's programs exist for versions that are not selected, and fail.
        if program.exists() and _ask_version(program).startswith(f"{version}."):
            return program
    return None


def list_places(environ: dict[str, str]) -> list[Path]:
    """Return the directories in which interpreters may be: PATH, then those of pyenv and uv."""
    home = Path.home()
    pyenv = Path(environ.get("PYENV_ROOT", home / ".pyenv"))
    places = [Path(place) for place in environ.get("PATH", "").split(os.pathsep) if place]
    return [
        *places,
        *sorted(pyenv.glob("versions/*/bin"), reverse=True),
        *sorted((home / ".local/share/uv/python").glob("*/bin"), reverse=True),
    ]


def read_report(log: str) -> Result | None:
    """Read the end of trial's output; return None if it did not get that far."""
    summaries = _SUMMARY.findall(log)
    if not summaries:
        return None
    counts = {name: int(count) for name, count in re.findall(r"(\w+)=(\d+)", summaries[-1])}
    skipped: Counter[str] = Counter()
    for reason, names in _SKIPPED.findall(log):
        skipped[reason] += len(re.findall(r"^tests\.", names, re.MULTILINE))
    failed = sum(counts.get(kind, 0) for kind in ("failures", "errors", "unexpectedSuccesses"))
    return Result(counts.get("successes", 0), failed, skipped)


def run_suite(python: Path, name: str, jobs: int, options: tuple[str, ...]) -> str:
    """Install the project and its tests, run them, and return the log."""
    uv = str(Path(sys.executable).with_name("uv"))
    environment = DIRECTORY / name
    programs = environment / "bin"
    install = (uv, "pip", "install", "--quiet", "--python", str(programs / "python"), *options)
    trial = (str(programs / "trial"), "--temp-directory", str(DIRECTORY / f"{name}.trial"))
    with (DIRECTORY / f"{name}.log").open("w+", encoding="utf-8") as log:
        for command in (
            (uv, "venv", "--quiet", "--clear", "--seed", "--python", str(python), str(environment)),
            (*install, "--editable", ".[test]"),
            (*trial, "--jobs", str(jobs), "--reporter=text", "tests"),
        ):
            done = subprocess.run(
                command,
                cwd=ROOT,
                env={**os.environ, "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                check=False,
            )
            if done.returncode != 0:
                break
        log.seek(0)
        return log.read()


def main() -> int:
    """Make each run, print what came of it, and return 1 if a test failed."""
    runs: dict[str, tuple[str, tuple[str, ...]]] = {
        **{version: (version, ()) for version in VERSIONS},
        "lowest": (VERSIONS[0], LOWEST),
    }
    parser = argparse.ArgumentParser(prog="python -m tools.versions", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=runs, default=list(runs), metavar="RUN")
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="processes; default 2")
    arguments = parser.parse_args()
    DIRECTORY.mkdir(parents=True, exist_ok=True)
    failed = False
    for name in arguments.only:
        version, options = runs[name]
        python = find_python(version, list_places(dict(os.environ)))
        if python is None:
            print(f"{name}: not run: there is no python{version} in PATH, of pyenv or of uv")
            continue
        began = time.monotonic()
        result = read_report(run_suite(python, name, arguments.jobs, options))
        outcome = "did not finish" if result is None else str(result)
        full = _ask_version(python)
        print(f"{name}: Python {full}: {outcome} ({time.monotonic() - began:.0f} s)", flush=True)
        if result is None or result.failed:
            failed = True
            print(f"    see {(DIRECTORY / name).relative_to(ROOT)}.log")
        if result is not None:
            for reason, count in sorted(result.skipped.items()):
                print(f"    {count} skipped: {reason}")
    return failed


def _ask_version(python: Path) -> str:
    command = (str(python), "-c", "import platform; print(platform.python_version())")
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


if __name__ == "__main__":
    sys.exit(main())
