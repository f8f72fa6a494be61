"""A running driver, and the events that it prints, one line each."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from twisted.internet import reactor as chosen
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

from tests.support.processes import PATIENCE
from tests.system.interop.clients import InteropClient
from tests.system.interop.environments import ClientEnvironment
from tests.system.interop.orders import OrderEvent

reactor: Any = chosen
DRIVERS = Path(__file__).with_name("drivers")

EVENT = re.compile(r"(?:\w+\.)?(\w+) ([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})\b(.*)")
"""The kind of an event, the order's id, and more; the kind may be an enum: `TradeEvent.FILL`."""

STATUSES = {"filled": "fill", "partially_filled": "partial_fill"}
"""The events after which an order has these statuses; for a client that prints orders."""

LINES = 40
"""Lines of other output that are kept as evidence of a failure."""


class DriverTimeoutError(Exception):
    """A driver did not print the expected event in time, or ended."""


class Driver(ProcessProtocol):
    """A running driver. `events` are its events in order; `more` is the text behind each."""

    def __init__(self) -> None:
        self.events: list[OrderEvent] = []
        self.more: list[str] = []
        self.status: str | None = None
        self._other_lines: deque[str] = deque(maxlen=LINES)
        self._rest = {1: b"", 2: b""}
        self._waiters: list[tuple[Callable[[], bool], str, Deferred[None]]] = []

    @property
    def other_output(self) -> str:
        """The last lines that are not events."""
        return "\n".join(self._other_lines)

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        *lines, self._rest[childFD] = (self._rest[childFD] + data).split(b"\n")
        for line in lines:
            self._read_line(line.decode(errors="replace").rstrip())
        self._check_waiters()

    def processEnded(self, reason: Failure) -> None:
        self.status = str(reason.value)
        self._check_waiters()

    def when_printed(self, event: OrderEvent, timeout: float) -> Deferred[None]:
        """Fire once the event is printed; fail with DriverTimeoutError after `timeout` seconds."""
        return self.when(
            lambda: event in self.events,
            f"{event.event} of {event.order}",
            timeout,
        )

    def when(self, condition: Callable[[], bool], what: str, timeout: float) -> Deferred[None]:
        """Fire once the condition holds; it is checked whenever a line is printed.

        Fails with DriverTimeoutError after `timeout` seconds, or if the driver ends.
        """
        if condition():
            return succeed(None)
        if self.status is not None:
            return fail(self._silence_error(what))
        fulfilled: Deferred[None] = Deferred()
        waiter = (condition, what, fulfilled)
        self._waiters.append(waiter)

        def give_up(*_: Any) -> None:
            self._waiters.remove(waiter)
            raise self._silence_error(what)

        return fulfilled.addTimeout(timeout, reactor, onTimeoutCancel=give_up)

    async def stop(self) -> None:
        """Kill the driver and its processes; they do not end by themselves."""
        if self.status is None:
            assert self.transport is not None
            for process in find_processes(self.transport.pid):
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
            await self.when(lambda: self.status is not None, "end", PATIENCE)

    def _read_line(self, line: str) -> None:
        if found := EVENT.fullmatch(line):
            kind, order, more = found.groups()
            self.events.append(OrderEvent(STATUSES.get(kind, kind.lower()), order))
            self.more.append(more.strip())
        else:
            self._other_lines.append(line)

    def _check_waiters(self) -> None:
        for waiter in tuple(self._waiters):
            condition, what, fulfilled = waiter
            if condition():
                self._waiters.remove(waiter)
                fulfilled.callback(None)
            elif self.status is not None:
                self._waiters.remove(waiter)
                fulfilled.errback(self._silence_error(what))

    def _silence_error(self, what: str) -> DriverTimeoutError:
        return DriverTimeoutError(
            f"no {what}" if self.status is None else f"no {what}: it has ended ({self.status})"
        )


def find_processes(process: int) -> list[int]:
    """Return a process and its descendants, such as those of a browser, by id."""
    parents: dict[int, int] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):
            parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
    found = [process]
    for each in found:
        found += [child for child, parent in parents.items() if parent == each]
    return found


def install(client: InteropClient, environment: ClientEnvironment, directory: Path) -> None:
    """Create `directory` with the client's driver and files, as they are, and build it."""
    directory.mkdir(parents=True)
    for name in (client.driver, *client.files):
        shutil.copy(DRIVERS / name, directory)
    if client.build:
        variables = build_environment(client, environment, directory)
        subprocess.run([*client.build, client.driver], cwd=directory, env=variables, check=True)


def start(client: InteropClient, environment: ClientEnvironment, directory: Path) -> Driver:
    """Start a client's driver.

    Args:
        client: the client.
        environment: its programs and packages.
        directory: where its files are; it must be below the environment's directory.
    """
    program = environment.find_program(client.command[0])
    driver = Driver()
    reactor.spawnProcess(
        driver,
        program,
        [program, *client.command[1:], client.driver],
        env=build_environment(client, environment, directory),
        path=str(directory),
        childFDs={0: "w", 1: "r", 2: "r"},
    )
    # Some drivers do not end even if their output is closed.
    reactor.addSystemEventTrigger(
        "before", "shutdown", lambda: Deferred.fromCoroutine(driver.stop())
    )
    return driver


def build_environment(
    client: InteropClient, environment: ClientEnvironment, directory: Path
) -> Mapping[str, str]:
    """Return the complete environment of a driver; only PATH is inherited."""
    return {
        "PATH": environment.path,
        "HOME": str(directory),
        "TMPDIR": str(directory),
        "LANG": "C.UTF-8",
        "PYTHONUNBUFFERED": "1",
        **client.environment,
    }
