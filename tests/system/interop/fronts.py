"""The reverse proxies in front of the proxy, with the configurations of docs/reverse-proxy.md."""

from __future__ import annotations

import shutil
import socket
from pathlib import Path
from typing import Any

from twisted.internet import reactor as chosen
from twisted.internet.task import deferLater

from tests.support.certificates import Authority
from tests.support.processes import PATIENCE, Command, spawn

reactor: Any = chosen

FRONTS = Path(__file__).with_name("configurations")

COMMANDS = {
    "nginx.conf": ("nginx", "-e", "stderr", "-g", "daemon off; pid nginx.pid;", "-p", ".", "-c"),
    "haproxy.cfg": ("haproxy", "-db", "-f"),
    "Caddyfile": ("caddy", "run", "--config"),
}

PORT = 443
POLL = 0.1
"""Seconds between two attempts to connect, since not every one of them reports its start."""


async def start_front(configuration: str, directory: Path) -> Command:
    """Start a reverse proxy, and return once it accepts connections.

    It has a certificate for localhost. `authority.pem` in the directory is the file to trust.

    Args:
        configuration: the name of a file in configurations/. It is used as it is.
        directory: the directory for its files; it is created.
    """
    directory.mkdir()
    identity = Authority(str(directory)).issue("localhost")
    combined = identity.certificate.read_bytes() + identity.key.read_bytes()
    (directory / "localhost.pem").write_bytes(combined)
    shutil.copy(FRONTS / configuration, directory)
    name, *arguments = COMMANDS[configuration]
    program = shutil.which(name)
    assert program is not None, name
    command = [str(directory) if each == "." else each for each in arguments]
    front = spawn([program, *command, configuration], str(directory), {})
    reactor.addSystemEventTrigger("before", "shutdown", front.end)
    for _ in range(int(PATIENCE / POLL)):
        if front.status is not None:
            break
        with socket.socket() as attempt:
            if attempt.connect_ex(("127.0.0.1", PORT)) == 0:
                return front
        await deferLater(reactor, POLL)
    raise AssertionError(f"{name} does not listen:\n{front.output}")
