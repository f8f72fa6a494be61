"""Shared by the measurements: builds the load, runs a server on one core, the load on another."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from benchmarks.workspace import BUILD, HERE, UPSTREAM_HOST, ServerConfig

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from benchmarks.servers import Server

ROOT = HERE.parent
LOAD = BUILD / "load"
LOAD_CORE, SERVER_CORE = 0, 1
START_TIMEOUT = 30.0
"""Seconds for a server to start, and to end."""

COMPILER = ("cc", "-O2", "-std=gnu11", "-Wall", "-Wextra")


class LabError(Exception):
    """A server or the load failed; the text has its output."""


@dataclass(frozen=True, slots=True)
class RunningServer:
    """A listening server. `listener` is its upstream's socket, which the load inherits."""

    server: Server
    config: ServerConfig
    pid: int
    listener: socket.socket

    def rss(self) -> int:
        """Return the resident memory of the server in KiB."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1])
        raise LabError(f"{self.server.name} has ended")


def prepare() -> None:
    """Build the programs, lock out other measurements, and end servers on SIGTERM.

    Two measurements at a time would measure each other. Exits if there is another one.
    """
    BUILD.mkdir(exist_ok=True)
    lock = os.open(BUILD / "lock", os.O_CREAT | os.O_RDWR)  # held until this process ends
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sys.exit("another measurement is running")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))
    _build()


def _build() -> None:
    """Compile programs that are older than their sources; the Go relay only if Go is installed."""
    load = [HERE / name for name in ("load.c", "clients.c", "upstream.c")]
    _compile(LOAD, load, "-lssl", "-lcrypto")
    _compile(BUILD / "limit", [HERE / "peers/limit.c"], "-lssl", "-lcrypto")
    gorilla = Path("/usr/share/gocode/src/github.com/gorilla/websocket")
    if shutil.which("go") and gorilla.is_dir():
        environ = {
            "GO111MODULE": "off",
            "GOPATH": "/usr/share/gocode",
            "GOCACHE": str(BUILD / "go"),
        }
        command = ["go", "build", "-o", str(BUILD / "gorilla"), "."]
        subprocess.run(command, cwd=HERE / "peers/gorilla", env=os.environ | environ, check=True)


def _compile(program: Path, sources: list[Path], *libraries: str) -> None:
    newest = max(path.stat().st_mtime for path in [*sources, *HERE.glob("*.h")])
    if not program.exists() or program.stat().st_mtime < newest:
        subprocess.run([*COMPILER, "-o", str(program), *map(str, sources), *libraries], check=True)


def free_port() -> int:
    """Return a port that is currently free."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


@contextmanager
def running(server: Server, **environ: str) -> Iterator[RunningServer]:
    """Run a server until the block ends; its upstream accepts connections but does not reply.

    Raises LabError with the end of the server's log if the server or the block fails.
    """
    with (
        TemporaryDirectory(prefix="benchmark-") as directory,
        socket.create_server(("127.0.0.1", 0)) as listener,
        (Path(directory) / "log").open("w+") as log,
    ):
        config = ServerConfig(free_port(), listener.getsockname()[1], Path(directory))
        process = subprocess.Popen(
            pinned(SERVER_CORE, server.command(config)),
            cwd=directory,
            env={
                "PATH": os.environ["PATH"],
                "HOME": directory,
                "PYTHONPATH": str(ROOT),
                **server.environ(config),
                **environ,
            },
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
        try:
            _await_port(process, config.port)
            yield RunningServer(server, config, process.pid, listener)
        except LabError as error:
            log.seek(0)
            raise LabError(f"{server.name}: {error}\n{log.read()[-2000:]}") from None
        finally:
            terminate(process)


def _await_port(process: subprocess.Popen[bytes], port: int) -> None:
    limit = time.monotonic() + START_TIMEOUT
    while process.poll() is None and time.monotonic() < limit:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise LabError(f"does not listen; exit status {process.poll()}")


def terminate(process: subprocess.Popen[bytes]) -> None:
    """Terminate a process; kill it after START_TIMEOUT seconds."""
    process.terminate()
    try:
        process.wait(START_TIMEOUT)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def pinned(core: int, command: Sequence[str]) -> list[str]:
    """Return a command that runs `command` on one core, if there are several."""
    if (os.cpu_count() or 1) < 2 or not shutil.which("taskset"):
        return list(command)
    return ["taskset", "-c", str(core), *command]


def load_command(
    target: RunningServer, clients: int, phases: Sequence[str], options: Sequence[str] = ()
) -> list[str]:
    """Return the command of the load; the process must inherit `target.listener`.

    Args:
        target: the server.
        clients: how many clients connect.
        phases: the phases of the load, such as "single:200"; see load.c.
        options: further options of the load.
    """
    tls = ["--tls"] if target.server.tls else []
    if target.server.upstream_tls:
        tls += ["--upstream-tls", str(target.config.directory / UPSTREAM_HOST)]
    return pinned(
        LOAD_CORE,
        [
            *(str(LOAD), "--port", str(target.config.port), "--path", target.server.path),
            *("--upstream", str(target.listener.fileno()), "--pid", str(target.pid)),
            *("--clients", str(clients), *tls, *options, *phases),
        ],
    )


def run_load(
    target: RunningServer,
    clients: int,
    phases: Sequence[str],
    *options: str,
    timeout: float = 900.0,
) -> dict[str, Any]:
    """Run the load and return its report; raise LabError if it fails.

    Args:
        target: the server.
        clients: how many clients connect.
        phases: the phases of the load, such as "single:200"; see load.c.
        options: further options of the load.
        timeout: seconds for the whole run.
    """
    command = load_command(target, clients, phases, options)
    try:
        done = subprocess.run(
            command,
            pass_fds=[target.listener.fileno()],
            capture_output=True,
            text=True,
            timeout=timeout,
        )
    except subprocess.TimeoutExpired:
        raise LabError(f"the load took more than {timeout:.0f} s") from None
    return parse_report(done.returncode, done.stdout, done.stderr)


def parse_report(status: int, output: str, errors: str) -> dict[str, Any]:
    """Parse the output of the load; raise LabError if its exit status is not 0."""
    if status:
        raise LabError(f"the load failed: {errors.strip()} {output.strip()}")
    report: dict[str, Any] = json.loads(output)
    return report


def phase(report: dict[str, Any], name: str) -> dict[str, Any]:
    """Return the report of the last phase with this name; earlier ones are warm-ups."""
    found: list[dict[str, Any]] = [each for each in report["phases"] if each["phase"] == name]
    return found[-1] if found else {}


def progress(text: str) -> None:
    """Print progress to standard error; the results go to standard output."""
    print(text, file=sys.stderr, flush=True)
