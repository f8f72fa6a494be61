"""What the measurements share: the programs are built, a server is run on one core, the load on the other."""

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

from benchmarks.workspace import BUILD, HERE, Place

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from benchmarks.servers import Server

ROOT = HERE.parent
LOAD = BUILD / "load"
LOAD_CORE, SERVER_CORE = 0, 1
PATIENCE = 30.0
"""Seconds for a server to listen, and for one to end."""

COMPILER = ("cc", "-O2", "-std=gnu11", "-Wall", "-Wextra")


class LabError(Exception):
    """A server or the load failed; the text says what it said."""


@dataclass(frozen=True, slots=True)
class Running:
    """A server that listens. `listener` is the socket of the upstream that it dials, for the load to take."""

    server: Server
    place: Place
    pid: int
    listener: socket.socket

    def rss(self) -> int:
        """Return its resident memory in KiB."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1])
        raise LabError(f"{self.server.name} has ended")


def prepare() -> None:
    """Build the programs; see to it that this is the only measurement, and that its servers end with it.

    Of two at a time, each would measure the other one too.
    """
    BUILD.mkdir(exist_ok=True)
    lock = os.open(BUILD / "lock", os.O_CREAT | os.O_RDWR)  # held until this process ends
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sys.exit("another measurement is under way")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))
    _build()


def _build() -> None:
    """Compile what is older than its sources; the relay in Go only where there is Go."""
    load = [HERE / name for name in ("load.c", "clients.c", "upstream.c")]
    _compile(LOAD, load, "-lssl", "-lcrypto")
    _compile(BUILD / "limit", [HERE / "peers/limit.c"], "-lcrypto")
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
    """Return a port that is free now."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


@contextmanager
def running(server: Server, **environ: str) -> Iterator[Running]:
    """Run a server with an upstream that nobody answers for yet, until the block ends."""
    with (
        TemporaryDirectory(prefix="benchmark-") as directory,
        socket.create_server(("127.0.0.1", 0)) as listener,
        (Path(directory) / "log").open("w+") as log,
    ):
        place = Place(free_port(), listener.getsockname()[1], Path(directory))
        process = subprocess.Popen(
            pinned(SERVER_CORE, server.command(place)),
            cwd=directory,
            env={
                "PATH": os.environ["PATH"],
                "HOME": directory,
                "PYTHONPATH": str(ROOT),
                **server.environ(place),
                **environ,
            },
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
        try:
            _await_port(process, place.port)
            yield Running(server, place, process.pid, listener)
        except LabError as error:
            log.seek(0)
            raise LabError(f"{server.name}: {error}\n{log.read()[-2000:]}") from None
        finally:
            end(process)


def _await_port(process: subprocess.Popen[bytes], port: int) -> None:
    limit = time.monotonic() + PATIENCE
    while process.poll() is None and time.monotonic() < limit:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise LabError(f"does not listen; exit status {process.poll()}")


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process, by force if it takes too long."""
    process.terminate()
    try:
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def pinned(core: int, command: Sequence[str]) -> list[str]:
    """Return the command that runs `command` on one core, where there are two."""
    if (os.cpu_count() or 1) < 2 or not shutil.which("taskset"):
        return list(command)
    return ["taskset", "-c", str(core), *command]


def load_command(
    target: Running, clients: int, phases: Sequence[str], options: Sequence[str] = ()
) -> list[str]:
    """Return the command of the load against a server; it needs the file descriptor of `target.listener`."""
    tls = ["--tls"] if target.server.tls else []
    return pinned(
        LOAD_CORE,
        [
            *(str(LOAD), "--port", str(target.place.port), "--path", target.server.path),
            *("--upstream", str(target.listener.fileno()), "--pid", str(target.pid)),
            *("--clients", str(clients), *tls, *options, *phases),
        ],
    )


def run_load(
    target: Running, clients: int, phases: Sequence[str], *options: str, timeout: float = 900.0
) -> dict[str, Any]:
    """Run the load to its end, and return what it reports; raises LabError where not all went well."""
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


def parse_report(status: int, output: str, trouble: str) -> dict[str, Any]:
    """Read what the load printed; raises LabError where not all went well."""
    if status:
        raise LabError(f"the load failed: {trouble.strip()} {output.strip()}")
    report: dict[str, Any] = json.loads(output)
    return report


def phase(report: dict[str, Any], name: str) -> dict[str, Any]:
    """Return what a report says of a phase, the last one of that name: those before were to warm up."""
    found: list[dict[str, Any]] = [each for each in report["phases"] if each["phase"] == name]
    return found[-1] if found else {}


def progress(text: str) -> None:
    """Tell the user, beside the result on standard output."""
    print(text, file=sys.stderr, flush=True)
