"""A client's program, as it runs: what its user's callback was given, line by line."""

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
from tests.system.interop.clients import Client, Runtime
from tests.system.interop.environments import Environment
from tests.system.interop.life import Happening

reactor: Any = chosen
DRIVERS = Path(__file__).with_name("drivers")

ADDRESS = "localhost:8099"
"""What the documentation has in the place of the real address."""

LINES = 40
"""Lines of other output that are kept, for the case that something is wrong."""


class SilenceError(Exception):
    """A driver did not print what was waited for; the text says what, and what it said last."""


class Driver(ProcessProtocol):
    """A running driver; `happenings` is what its callback was given, in order, `printed` the same lines."""

    def __init__(self) -> None:
        self.happenings: list[Happening] = []
        self.printed: list[dict[str, Any]] = []
        self.status: str | None = None
        self._other: deque[str] = deque(maxlen=LINES)
        self._rest = {1: b"", 2: b""}
        self._awaited: list[tuple[Callable[[], bool], str, Deferred[None]]] = []

    @property
    def other_output(self) -> str:
        """The last lines that were no events."""
        return "\n".join(self._other)

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        *lines, self._rest[childFD] = (self._rest[childFD] + data).split(b"\n")
        for line in lines:
            self._take(line.decode(errors="replace").rstrip())
        self._look()

    def processEnded(self, reason: Failure) -> None:
        self.status = str(reason.value)
        self._look()

    def prints(self, happening: Happening, patience: float) -> Deferred[None]:
        """Fire once it has printed this; fail with SilenceError if it does not, or ends."""
        return self.when(
            lambda: happening in self.happenings,
            f"{happening.event} of {happening.order}",
            patience,
        )

    def when(self, condition: Callable[[], bool], what: str, patience: float) -> Deferred[None]:
        """Fire once the condition holds, which is looked at when something is printed."""
        if condition():
            return succeed(None)
        if self.status is not None:
            return fail(self._silence(what))
        happened: Deferred[None] = Deferred()
        awaited = (condition, what, happened)
        self._awaited.append(awaited)

        def give_up(*_: Any) -> None:
            self._awaited.remove(awaited)
            raise self._silence(what)

        return happened.addTimeout(patience, reactor, onTimeoutCancel=give_up)

    async def stop(self) -> None:
        """End it by force: a driver runs until it is killed."""
        if self.status is None:
            assert self.transport is not None
            with suppress(error.ProcessExitedAlready):
                self.transport.signalProcess("KILL")
            await self.when(lambda: self.status is not None, "end", PATIENCE)

    def _take(self, line: str) -> None:
        printed: Any = None
        if line.startswith("{"):
            with suppress(ValueError):
                printed = json.loads(line)
        match printed:
            case {"event": str(event), "order": str(order)}:
                self.printed.append(printed)
                self.happenings.append(Happening(event, order))
            case _:
                self._other.append(line)

    def _look(self) -> None:
        for awaited in tuple(self._awaited):
            condition, what, happened = awaited
            if condition():
                self._awaited.remove(awaited)
                happened.callback(None)
            elif self.status is not None:
                self._awaited.remove(awaited)
                happened.errback(self._silence(what))

    def _silence(self, what: str) -> SilenceError:
        return SilenceError(
            f"no {what}" if self.status is None else f"no {what}: it has ended ({self.status})"
        )


def start(client: Client, environment: Environment, directory: Path, port: int) -> Driver:
    """Start a client's driver in this directory, which is below that of its environment."""
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
        env=variables(client, directory, port),
        path=str(directory),
        childFDs={0: "w", 1: "r", 2: "r"},
    )
    # Some never end by themselves, not even when nobody reads what they print.
    reactor.addSystemEventTrigger(
        "before", "shutdown", lambda: Deferred.fromCoroutine(driver.stop())
    )
    return driver


def variables(client: Client, directory: Path, port: int) -> Mapping[str, str]:
    """Return a driver's whole environment; nothing is handed down but PATH."""
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
