"""Programs that are not installed on every machine."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SkipTest

from tests.support.processes import SOURCES

DEPLOY = SOURCES / "deploy"

PATIENCE = 240
"""Seconds for one program; one of them installs packages."""


def need(program: str, package: str) -> str:
    """Return the path of a program, or skip the test and name its package."""
    # Programs that pip installs are not always on the PATH.
    in_venv = Path(sys.executable).with_name(program)
    found = str(in_venv) if in_venv.exists() else shutil.which(program)
    if found is None:
        raise SkipTest(f"{program} is not installed; {package} has it")
    return found


def run(*command: str, directory: Path | None = None) -> tuple[int, str]:
    """Run a program, and return its exit status and its output."""
    done = subprocess.run(
        command, cwd=directory, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    return done.returncode, done.stdout + done.stderr
