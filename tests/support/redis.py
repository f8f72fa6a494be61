"""A real redis-server on loopback, a process of its own, that can be killed, stopped, emptied and cut off."""

from __future__ import annotations

import os
import shutil
import signal
from contextlib import suppress
from enum import Enum, auto
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from twisted.internet import error
from twisted.internet import reactor as chosen
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, serverFromString
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.trial.unittest import SkipTest

from tests.support.processes import Command, free_port, spawn

reactor: Any = chosen
PROGRAM, COMMAND_LINE = "redis-server", "redis-cli"


def need_redis() -> None:
    """Skip the test where there is no Redis."""
    if missing := missing_redis():
        raise SkipTest(missing)


def missing_redis() -> str:
    """Return a line that says what is missing, or nothing."""
    missing = [program for program in (PROGRAM, COMMAND_LINE) if shutil.which(program) is None]
    return f"there is no {missing[0]} here; Debian's package redis-server has it" if missing else ""


class Redis:
    """A server at a port and at a UNIX socket, both its own for good; it ends with the reactor at last."""

    def __init__(
        self, directory: str, *, appendonly: bool = False, password: str = "", maxmemory: str = ""
    ) -> None:
        """`directory` must exist, and be nobody else's."""
        self.port = free_port()
        self._place = TemporaryDirectory(prefix="redis-")  # a socket's path may have 107 bytes
        self.socket = str(Path(self._place.name, "socket"))
        self.password = password
        self._directory = directory
        self._appendonly = appendonly
        self._maxmemory = maxmemory
        self._process: Command | None = None
        reactor.addSystemEventTrigger("during", "shutdown", self.end)

    @property
    def url(self) -> str:
        """What PROXY_REDIS_URL is to be; the password is in it."""
        return self.url_at(self.port)

    def url_at(self, port: int) -> str:
        """Return the URL by way of another port, such as a Cut's."""
        return f"redis://{self._login}127.0.0.1:{port}/0"

    @property
    def unix_url(self) -> str:
        """The URL of the UNIX socket."""
        return f"unix://{self._login}{self.socket}?db=0"

    @property
    def _login(self) -> str:
        return f":{self.password}@" if self.password else ""

    @property
    def pid(self) -> int:
        """Of the process that runs now."""
        assert self._process is not None, "it is not running"
        return self._process.pid

    async def start(self) -> None:
        """Start it; done when it takes connections."""
        settings = {
            "port": self.port,
            "bind": "127.0.0.1",
            "unixsocket": self.socket,
            "dir": self._directory,
            "save": '""',
            "appendonly": "yes" if self._appendonly else "no",
            "appendfsync": "everysec",
            "auto-aof-rewrite-percentage": 0,  # one file, which can be cut short
            "requirepass": self.password or '""',
            "maxmemory": self._maxmemory or 0,
            "daemonize": "no",
        }
        file = Path(self._directory, "redis.conf")  # in which no process list shows the password
        file.write_text("".join(f"{name} {value}\n" for name, value in settings.items()))
        self._process = spawn([_found(PROGRAM), str(file)], self._directory, {})
        await self._process.says("Ready to accept connections")

    async def kill(self) -> None:
        """Kill it with SIGKILL, stopped or not; done when it is gone. Harmless if it does not run."""
        process, self._process = self._process, None
        if process is not None:
            await process.stop("KILL")

    async def restart(self, *, keep_data: bool) -> None:
        """Kill it, and start it again: with all that its file has, or without."""
        await self.kill()
        if not keep_data:
            self.forget()
        await self.start()

    def forget(self) -> None:
        """Drop what the file has; while it does not run."""
        assert self._process is None, "it is running"
        shutil.rmtree(Path(self._directory, "appendonlydir"), ignore_errors=True)

    def written(self) -> int:
        """Return how many bytes the file has: a moment to which it can be rolled back."""
        return sum(file.stat().st_size for file in self._files())

    def roll_back(self, written: int) -> bytes:
        """Drop what was written since, as a power cut does, and return it; while it does not run."""
        assert self._process is None, "it is running"
        (file,) = self._files()
        dropped = file.read_bytes()[written:]
        os.truncate(file, written)
        return dropped

    def _files(self) -> list[Path]:
        return list(Path(self._directory, "appendonlydir").glob("*.incr.aof"))

    def pause(self) -> None:
        """Stop the process: connections stay, and nothing is answered."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on; harmless if it does."""
        os.kill(self.pid, signal.SIGCONT)

    async def cli(self, *arguments: str) -> str:
        """Give a command by redis-cli, and return what it prints; fails with that if it is an error."""
        login = {"REDISCLI_AUTH": self.password} if self.password else {}
        command = [_found(COMMAND_LINE), "-e", "-s", self.socket, *arguments]
        told = spawn(command, self._directory, login)
        status = await told.ended
        if status:
            raise AssertionError(f"redis-cli {arguments[0]}: {told.output}")
        return told.output.strip()

    def end(self) -> None:
        """Kill it, and do not wait for that: this process is ending too."""
        if self._process is not None and self._process.status is None:
            transport: Any = self._process.transport
            with suppress(error.ProcessExitedAlready):
                transport.signalProcess("KILL")


def _found(program: str) -> str:
    path = shutil.which(program)
    assert path is not None, f"there is no {program} here"
    return path


class Way(Enum):
    """How what comes to a Cut goes on."""

    OPEN = auto()
    REFUSED = auto()
    """Connections are reset, and there are no new ones."""
    SILENT = auto()
    """Connections stay, and new ones are taken; nothing passes until it is open again, then all of it."""
    DEAF = auto()
    """What is asked arrives, and no answer comes back until the way is open again."""


class Cut:
    """A port that leads to another port, until it is cut."""

    def __init__(self, target: int) -> None:
        self.port = 0
        self.way = Way.OPEN
        self._target = target
        self._listening: Any = None
        self._pairs: set[_Pair] = set()

    async def start(self) -> None:
        """Listen; `port` is where, for good."""
        endpoint = serverFromString(reactor, f"tcp:{self.port}:interface=127.0.0.1")
        self._listening = await endpoint.listen(Factory.forProtocol(partial(_Near, self)))
        self.port = self._listening.getHost().port

    async def stop(self) -> None:
        """End every connection, and listen no more."""
        listening, self._listening = self._listening, None
        if listening is not None:
            await listening.stopListening()
        for pair in tuple(self._pairs):
            pair.end()

    async def cut(self, way: Way) -> None:
        """Let what comes go another way from now on."""
        self.way = way
        if way is Way.REFUSED:
            await self.stop()
        elif self._listening is None:
            await self.start()
        for pair in tuple(self._pairs):
            pair.go(way)

    async def mend(self) -> None:
        """Let everything pass again."""
        await self.cut(Way.OPEN)

    def opened(self, near: Any) -> _Pair:
        """Take a connection, which leads on once the way is open."""
        pair = _Pair(near, self._target, self._pairs.discard)
        self._pairs.add(pair)
        pair.go(self.way)
        return pair


class _Pair:
    """A connection, and the one that it leads on to."""

    def __init__(self, near: _Near, target: int, on_end: Any) -> None:
        self._near: Any = near
        self._far: Any = None
        self._target = target
        self._connecting: Deferred[Any] | None = None
        self._way = Way.OPEN
        self._held = b""
        self._ended = False
        self._on_end = on_end

    def go(self, way: Way) -> None:
        self._way = way
        if self._far is None and self._connecting is None and way is not Way.SILENT:
            endpoint = HostnameEndpoint(reactor, "127.0.0.1", self._target, timeout=5)
            self._connecting = endpoint.connect(Factory.forProtocol(partial(_Far, self)))
            self._connecting.addErrback(lambda _: self.end())
        self._set_pace()

    def asked(self, data: bytes) -> None:
        if self._far is None:
            self._held += data
        else:
            self._far.transport.write(data)

    def answered(self, data: bytes) -> None:
        self._near.transport.write(data)

    def reached(self, far: _Far) -> None:
        if self._ended:
            far.abort()
            return
        self._far = far
        far.write(self._held)
        self._held = b""
        self._set_pace()

    def _set_pace(self) -> None:
        for end, passes in (
            (self._near, self._way is not Way.SILENT),
            (self._far, self._way is Way.OPEN),
        ):
            if end is not None:
                end.transport.resumeProducing() if passes else end.transport.pauseProducing()

    def end(self) -> None:
        """Reset both."""
        if self._ended:
            return
        self._ended = True
        self._on_end(self)
        for end in (self._near, self._far):
            if end is not None:
                end.abort()


class _End(Protocol):
    transport: Any

    def write(self, data: bytes) -> None:
        self.transport.write(data)

    def abort(self) -> None:
        if self.transport is not None:
            self.transport.abortConnection()


class _Near(_End):
    def __init__(self, cut: Cut) -> None:
        self._cut = cut
        self._pair: _Pair | None = None

    def connectionMade(self) -> None:
        self._pair = self._cut.opened(self)

    def dataReceived(self, data: bytes) -> None:
        assert self._pair is not None
        self._pair.asked(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._pair is not None:
            self._pair.end()


class _Far(_End):
    def __init__(self, pair: _Pair) -> None:
        self._pair = pair

    def connectionMade(self) -> None:
        self._pair.reached(self)

    def dataReceived(self, data: bytes) -> None:
        self._pair.answered(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._pair.end()
