"""The product's own commands, run as processes."""

from __future__ import annotations

import os
import socket
import sysconfig
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from random import randrange
from typing import Any

from twisted.internet import error, reactor
from twisted.internet.defer import Deferred, succeed
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

SCRIPTS = Path(sysconfig.get_path("scripts"))
SOURCES = Path(__file__).parents[2]
EXITS = Path(__file__).parent / "exits"
"""Under coverage, its sitecustomize.py has each process write its data before it kills itself."""
PATIENCE = 20.0
"""Seconds. A test fails if a process has not written the expected text by this time."""


def free_port(following: int = 0) -> int:
    """Return a port that is free now. The `following` ports after it are free too.

    It is below the ports that Linux and macOS give to outgoing connections. With one of those, a
    proxy that starts again may find that a connection of another test has its port.
    """
    while True:
        port = randrange(10_000, 32_768 - following)
        try:
            for other in range(port, port + following + 1):
                socket.create_server(("127.0.0.1", other)).close()
        except OSError:
            continue
        return port


def free_ports(count: int) -> list[int]:
    """Return `count` different ports that are free now."""
    ports: set[int] = set()
    while len(ports) < count:
        ports.add(free_port())
    return list(ports)


class Command(ProcessProtocol):
    """A running command. `output` is the text of its standard output and standard error."""

    def __init__(self) -> None:
        self.output = ""
        self.ended: Deferred[int] = Deferred()
        self.status: int | None = None
        self._awaited: list[tuple[str, Deferred[None]]] = []

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        self.output += data.decode(errors="replace")
        for text, said in [awaited for awaited in self._awaited if awaited[0] in self.output]:
            self._awaited.remove((text, said))
            said.callback(None)

    def processEnded(self, reason: Failure) -> None:
        ended: Any = reason.value
        self.status = -ended.signal if ended.signal else ended.exitCode
        awaited, self._awaited = self._awaited, []
        for text, said in awaited:
            said.errback(AssertionError(f"ended without writing {text!r}:\n{self.output}"))
        self.ended.callback(self.status)

    def says(self, text: str) -> Deferred[None]:
        """Fire once the command has written `text`."""
        if text in self.output:
            return succeed(None)
        said: Deferred[None] = Deferred()
        self._awaited.append((text, said))
        return said.addTimeout(PATIENCE, reactor, onTimeoutCancel=lambda *_: self._fail(text))

    def _fail(self, text: str) -> None:
        raise AssertionError(f"did not write {text!r} in time:\n{self.output}")

    @property
    def pid(self) -> int:
        assert self.transport is not None
        pid: int = self.transport.pid
        return pid

    async def finish(self) -> None:
        """Stop the command with SIGTERM. Kill it after `PATIENCE` seconds."""
        assert self.transport is not None
        force = reactor.callLater(PATIENCE, self.transport.signalProcess, "KILL")
        await self.stop()
        if force.active():
            force.cancel()

    def end(self) -> None:
        """Kill the command without waiting, because this process exits too."""
        if self.status is None:
            self.send("KILL")

    def send(self, signal: str) -> None:
        """Send a signal, unless the command has ended."""
        assert self.transport is not None
        with suppress(error.ProcessExitedAlready):
            self.transport.signalProcess(signal)

    async def stop(self, signal: str = "TERM") -> int:
        """Send a signal and return the exit status: negative if the signal killed the process."""
        if self.status is None:
            self.send(signal)
            await self.ended
        assert self.status is not None
        return self.status


def run(*arguments: str, directory: str, **environment: str) -> Command:
    """Run a script of this Python environment with only these variables and the basic ones."""
    return spawn(arguments, directory, environment)


def spawn(
    arguments: Sequence[str],
    directory: str,
    environment: Mapping[str, str],
    inherited: int | None = None,
) -> Command:
    """Run a script of this Python environment, or a program by its absolute path.

    arguments: the script or program, then its arguments.
    directory: the working directory, and the value of HOME.
    environment: variables that are added to the basic ones.
    inherited: a file descriptor of this process that the program gets as number 3.
    """
    command = Command()
    executable = str(SCRIPTS / arguments[0])
    coverage = {name: value for name, value in os.environ.items() if name.startswith("COVERAGE")}
    basic = {
        "PATH": os.environ["PATH"],
        "HOME": directory,
        "PYTHONPATH": f"{SOURCES}:{EXITS}" if coverage else str(SOURCES),
        "PYTHONUNBUFFERED": "1",
        **coverage,
    }
    files: dict[int, int | str] = {0: "w", 1: "r", 2: "r"} | (
        {} if inherited is None else {3: inherited}
    )
    reactor.spawnProcess(
        command,
        executable,
        [executable, *arguments[1:]],
        env=basic | dict(environment),
        path=directory,
        childFDs=files,
    )
    return command
