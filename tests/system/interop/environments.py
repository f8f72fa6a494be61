"""The environments of the clients: packages from PyPI or npm, installed once and kept."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from tests.support.processes import SOURCES
from tests.system.interop.clients import InteropClient, Runtime

CACHE = SOURCES / ".interop"

PATIENCE = 240
"""Seconds for one installation."""

INSTALLED = "installed"
"""The name of the file that marks a complete installation."""


class UnavailableError(Exception):
    """A client cannot be installed here; the text has the reason in one line."""


@dataclass(frozen=True, slots=True)
class ClientEnvironment:
    """`program` runs drivers in directories below `directory`."""

    program: str
    directory: Path


def prepare(client: InteropClient) -> ClientEnvironment:
    """Return the client's environment, installed if necessary.

    Raises UnavailableError if a program is missing or an installation fails.
    """
    match client.runtime:
        case Runtime.REPLAY:
            return ClientEnvironment(sys.executable, _directory(client))
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
            return ClientEnvironment(python, directory)
        case Runtime.NODE | Runtime.BROWSER:
            node, npm = shutil.which("node"), shutil.which("npm")
            if node is None or npm is None:
                raise UnavailableError("Node.js is not installed")
            directory = _directory(client)
            quiet = ("--no-fund", "--no-audit", "--loglevel=error")
            _install(
                directory, [npm, "install", *quiet, "--prefix", str(directory), *client.packages]
            )
            return ClientEnvironment(node, directory)


def _directory(client: InteropClient) -> Path:
    """Return the directory, which depends only on the runtime and the packages."""
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
    """Return the first error of an installer's output, else its first line."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if line.lower().startswith(("error:", "npm error"))]
    return (errors or lines or ["no reason given"])[0]
