"""The programs that only some machines have."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SkipTest

from tests.support.processes import SOURCES

DEPLOY = SOURCES / "deploy"

PATIENCE = 240
"""Seconds that a program may take; one of them installs packages."""


def need(program: str, package: str) -> str:
    """Return where a program is, or skip the test with a line that says where it would come from."""
    beside = Path(sys.executable).with_name(program)  # what pip installs is not always on the PATH
    found = str(beside) if beside.exists() else shutil.which(program)
    if found is None:
        raise SkipTest(f"there is no {program} here; {package} has it")
    return found


def run(*command: str, directory: Path | None = None) -> tuple[int, str]:
    """Run a program to its end, and return its status and all that it wrote."""
    done = subprocess.run(
        command, cwd=directory, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    return done.returncode, done.stdout + done.stderr
