"""The environments of the clients: packages from PyPI or npm, installed once and kept."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from tests.support.processes import SOURCES
from tests.system.interop.clients import InteropClient

CACHE = SOURCES / ".interop"

PATIENCE = 600
"""Seconds for one installation."""

INSTALLED = "installed"
"""The name of the file that marks a complete installation."""

PIP = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check")
NPM = ("install", "--no-fund", "--no-audit", "--loglevel=error")


class UnavailableError(Exception):
    """A client cannot be installed here; the text has the reason in one line."""


@dataclass(frozen=True, slots=True)
class ClientEnvironment:
    """Drivers run in directories below `directory`."""

    directory: Path

    @property
    def path(self) -> str:
        """PATH, with the installed programs first."""
        own = (self.directory / "bin", self.directory / "node_modules/.bin")
        return os.pathsep.join([*map(str, own), os.environ["PATH"]])

    def find_program(self, name: str) -> str:
        """Return the absolute path of a program; `./name` is one that is built, and is returned.

        Raises UnavailableError if there is none.
        """
        if name.startswith("./"):
            return name
        if (found := shutil.which(name, path=self.path)) is None:
            raise UnavailableError(f"the program {name} is not installed")
        return found


def prepare(client: InteropClient) -> ClientEnvironment:
    """Return the client's environment, installed if necessary.

    Raises UnavailableError if a program is missing or an installation fails.
    """
    if client.skipped:
        raise UnavailableError(client.skipped)
    if missing := [name for name in client.debian if not _is_installed(name)]:
        raise UnavailableError(f"apt-get install {' '.join(missing)}")
    key = "\n".join([sys.version, *client.pip, *client.pip_alone, "", *client.npm])
    environment = ClientEnvironment(CACHE / sha256(key.encode()).hexdigest()[:12])
    directory = environment.directory
    commands: list[list[str]] = []
    if client.pip:
        commands += [[sys.executable, "-m", "venv", str(directory)]]
        commands += [[str(directory / "bin/python"), *PIP, *client.pip]]
    if client.pip_alone:
        python = str(directory / "bin/python")
        commands += [[python, *PIP, "--no-deps", *client.pip_alone]]
    if client.npm:
        npm = environment.find_program("npm")
        commands += [[npm, *NPM, "--prefix", str(directory), *client.npm]]
    _install(directory, *commands)
    for command in filter(None, (client.build, client.command)):
        environment.find_program(command[0])
    return environment


def _is_installed(package: str) -> bool:
    """Return whether a Debian package is installed; other systems have none."""
    if shutil.which("dpkg-query") is None:
        return False
    query = ["dpkg-query", "--show", "--showformat=${db:Status-Status}", package]
    return subprocess.run(query, capture_output=True, check=False).stdout == b"installed"


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
