"""A real redis-server on loopback, a process of its own, that can be killed, stopped and emptied."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from twisted.internet import reactor as chosen
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

    def __init__(self, *, appendonly: bool = False, password: str = "") -> None:
        self.port = free_port()
        self._place = TemporaryDirectory(prefix="redis-")  # a socket's path may have 107 bytes
        self._directory = self._place.name
        self.socket = f"{self._directory}/socket"
        self.password = password
        self._appendonly = appendonly
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
        if self._process is not None:
            self._process.end()


def _found(program: str) -> str:
    path = shutil.which(program)
    assert path is not None, f"there is no {program} here"
    return path
