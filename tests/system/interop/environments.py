"""The environments of the clients: what each needs, installed once from PyPI or npm and kept."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from tests.support.processes import SOURCES
from tests.system.interop.clients import Client, Runtime

CACHE = SOURCES / ".interop"

PATIENCE = 240
"""Seconds that one installation may take."""

INSTALLED = "installed"
"""The file that says that all is there."""


class UnavailableError(Exception):
    """What a client needs cannot be had here; the text says what, in one line."""


@dataclass(frozen=True, slots=True)
class Environment:
    """`program` runs a driver that is in a directory below `directory`."""

    program: str
    directory: Path


def prepare(client: Client) -> Environment:
    """Return the client's environment, after installing what is not there yet."""
    match client.runtime:
        case Runtime.REPLAY:
            return Environment(sys.executable, _directory(client))
        case Runtime.PYTHON:
            directory = _directory(client)
            python = str(directory / "bin/python")
            _install(
                directory,
                [sys.executable, "-m", "venv", str(directory)],
                [
                    python,
                    "-m",
                    "pip",
                    "install",
                    "--quiet",
                    "--disable-pip-version-check",
                    *client.packages,
                ],
            )
            return Environment(python, directory)
        case Runtime.NODE | Runtime.BROWSER:
            node, npm = shutil.which("node"), shutil.which("npm")
            if node is None or npm is None:
                raise UnavailableError("there is no Node.js here")
            directory = _directory(client)
            quiet = ("--no-fund", "--no-audit", "--loglevel=error")
            _install(
                directory, [npm, "install", *quiet, "--prefix", str(directory), *client.packages]
            )
            return Environment(node, directory)


def _directory(client: Client) -> Path:
    """Return where it is: the same packages, the same place."""
    key = "\n".join([client.runtime.value, sys.version, *client.packages])
    return CACHE / f"{client.runtime.value}-{sha256(key.encode()).hexdigest()[:12]}"


def _install(directory: Path, *commands: list[str]) -> None:
    if (directory / INSTALLED).exists():
        return
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    for command in commands:
        try:
            done = subprocess.run(
                command,
                capture_output=True,
                text=True,
                timeout=PATIENCE,
                cwd=directory,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise UnavailableError(f"not installed within {PATIENCE} s") from None
        if done.returncode:
            raise UnavailableError(_reason(done.stderr or done.stdout))
    (directory / INSTALLED).touch()


def _reason(output: str) -> str:
    """Return the line that says why an installer gave up: its first error, else its last line."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if line.lower().startswith(("error:", "npm error"))]
    return (errors or lines or ["no reason given"])[0]
