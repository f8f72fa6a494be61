"""A running driver, and the events that it prints, one JSON line each."""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from twisted.internet import error
from twisted.internet import reactor as chosen
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

from tests.support.processes import PATIENCE, SOURCES
from tests.system.interop.clients import InteropClient, Runtime
from tests.system.interop.environments import ClientEnvironment
from tests.system.interop.orders import OrderEvent

reactor: Any = chosen
DRIVERS = Path(__file__).with_name("drivers")

ADDRESS = "localhost:8099"
"""The address in the drivers, as in the documentation; it is replaced by the real one."""

LINES = 40
"""Lines of other output that are kept as evidence of a failure."""


class DriverTimeoutError(Exception):
    """A driver did not print the expected event in time, or ended."""


class Driver(ProcessProtocol):
    """A running driver. `events` are its events in order; `printed` are the same lines as JSON."""

    def __init__(self) -> None:
        self.events: list[OrderEvent] = []
        self.printed: list[dict[str, Any]] = []
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
        """Kill the driver; it does not end by itself."""
        if self.status is None:
            assert self.transport is not None
            with suppress(error.ProcessExitedAlready):
                self.transport.signalProcess("KILL")
            await self.when(lambda: self.status is not None, "end", PATIENCE)

    def _read_line(self, line: str) -> None:
        printed: Any = None
        if line.startswith("{"):
            with suppress(ValueError):
                printed = json.loads(line)
        match printed:
            case {"event": str(event), "order": str(order)}:
                self.printed.append(printed)
                self.events.append(OrderEvent(event, order))
            case _:
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


def start(
    client: InteropClient, environment: ClientEnvironment, directory: Path, port: int
) -> Driver:
    """Start a client's driver.

    Args:
        client: the client.
        environment: its program and packages.
        directory: where the driver is copied to; it must be below the environment's directory.
        port: the port of the proxy.
    """
    directory.mkdir(parents=True)
    files = [client.launcher] if client.launcher else []
    for name in (*files, client.driver, *client.files):
        text = (DRIVERS / name).read_text(encoding="utf-8")
        (directory / name).write_text(text.replace(ADDRESS, f"localhost:{port}"), encoding="utf-8")
    arguments = [environment.program, *files, client.driver, *client.arguments]
    driver = Driver()
    reactor.spawnProcess(
        driver,
        environment.program,
        arguments,
        env=build_environment(client, directory, port),
        path=str(directory),
        childFDs={0: "w", 1: "r", 2: "r"},
    )
    # Some drivers do not end even if their output is closed.
    reactor.addSystemEventTrigger(
        "before", "shutdown", lambda: Deferred.fromCoroutine(driver.stop())
    )
    return driver


def build_environment(client: InteropClient, directory: Path, port: int) -> Mapping[str, str]:
    """Return the complete environment of a driver; only PATH is inherited."""
    path = "/trade-updates-paper"
    common = {
        "PATH": os.environ["PATH"],
        "HOME": str(directory),
        "LANG": "C.UTF-8",
        "PYTHONUNBUFFERED": "1",
        "TRADEPROXY_URL": f"ws://localhost:{port}{path}",
        "TRADEPROXY_HTTP": f"http://localhost:{port}{path}",
        "KEY": "AKINTEROP",
        "SECRET": "interop-secret",
    }
    if client.runtime is Runtime.REPLAY:
        common["PYTHONPATH"] = str(SOURCES)
    return common | {
        name: value.replace(ADDRESS, f"localhost:{port}")
        for name, value in client.environment.items()
    }
