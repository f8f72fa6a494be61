"""Marked secrets, a search for them in output, and commands that run with full logging."""

from __future__ import annotations

import re
import sys
from base64 import b64encode
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import clientFromString
from twisted.internet.interfaces import IProtocolFactory
from twisted.internet.protocol import Factory

from tests.support.listening import listen
from tests.support.processes import PATIENCE, Command, free_port
from tests.support.proxy import RawClient
from tests.support.sockets import SocketTestCase
from tradeproxy.simulator.faults import Fault, FaultKind

MARK = "hushhush"
"""A text that occurs in every secret and nowhere else."""

KEY, SECRET, TOKEN = f"{MARK}-our-key", f"{MARK}-our-secret", f"{MARK}-our-oauth-token"
PASSWORD = f"{MARK}-one-of-proxy-tokens"
THEIRS = f"{MARK}-what-a-client-sends"

CLOSED_PORT = 1
"""A port of this machine on which no process listens."""

DEBUG = """
import txaio
txaio.use_twisted()
txaio.set_global_log_level("trace")
txaio.make_logger().debug("Autobahn debugs")
from autobahn.websocket.protocol import WebSocketProtocol
WebSocketProtocol.logFrames = WebSocketProtocol.logOctets = True
"""
"""Makes Autobahn log every octet, frame and header."""

TWISTD = "from twisted.scripts.twistd import run; run()"


def disclosures(text: str) -> list[str]:
    """Return the lines that contain a secret in plain text, hexadecimal or base64."""
    codings = {MARK, MARK.encode().hex()} | {_base64_anywhere(shift) for shift in range(3)}
    return [
        line for line in text.splitlines() if any(c in line or c in line.lower() for c in codings)
    ]


def _base64_anywhere(shift: int) -> str:
    # Only the characters that do not depend on the bytes before and after the mark.
    coded = b64encode(b"\0" * shift + MARK.encode()).decode()
    return coded[(0, 2, 3)[shift] : (shift + len(MARK)) * 8 // 6]


def accounts_at(**ports: int) -> dict[str, str]:
    """Return the variables of accounts with our key: an account name and port for each."""
    environment: dict[str, str] = {}
    for name, port in ports.items():
        environment |= {f"ALPACA_{name}_API_KEY": KEY, f"ALPACA_{name}_SECRET_KEY": SECRET}
        environment[f"ALPACA_{name}_URL"] = f"http://127.0.0.1:{port}"
    return environment


def request(
    *lines: str, start: str = "GET /trade-updates-paper HTTP/1.1", upgrade: bool = True
) -> bytes:
    """Return an HTTP request with the header `lines`; by default it asks for a WebSocket."""
    head = [start, "Host: localhost"]
    if upgrade:
        head += ["Upgrade: websocket", "Connection: Upgrade"]
        head += ["Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="]
    return "\r\n".join([*head, *lines, "", ""]).encode("latin-1")


class RawSocketClient(RawClient):
    """Sends bytes. `answered` fires after a full HTTP response or when the connection closes."""

    def __init__(self, data: bytes) -> None:
        super().__init__()
        self._data = data
        self.answered: Deferred[None] = Deferred()
        self.ended: Deferred[None] = Deferred()

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.write(self._data)

    def dataReceived(self, data: bytes) -> None:
        super().dataReceived(data)
        head, end, body = self.received.partition(b"\r\n\r\n")
        length = re.search(rb"content-length: ([0-9]+)", head.lower())
        if end and len(body) >= int(length[1] if length else 0) and not self.answered.called:
            self.answered.callback(None)

    def connectionLost(self, reason: Any = None) -> None:
        super().connectionLost(reason)
        if not self.answered.called:
            self.answered.callback(None)
        self.ended.callback(None)


class DisclosureTestCase(SocketTestCase):
    """Runs commands with full logging, and the servers that they connect to."""

    def debugged(self, code: str, *arguments: str, **environment: str) -> Command:
        """Run Python code after `DEBUG`, which makes Autobahn log everything."""
        return self.command(sys.executable, "-c", f"{DEBUG}{code}", *arguments, **environment)

    def start(self, *options: str, code: str = TWISTD, **environment: str) -> Command:
        """Start the proxy on a free port, and set `self.port` to it."""
        self.port = free_port()
        own = {"PROXY_PORT": str(self.port), "PROXY_HOST": "127.0.0.1", "PROXY_TOKENS": PASSWORD}
        return self.debugged(code, *options, "tradeproxy", **(own | environment))

    async def serve(self, factory: IProtocolFactory) -> int:
        """Listen, and return the port."""
        return await listen(self, factory)

    async def serve_fault(self, fault: FaultKind) -> int:
        """Start a simulated Alpaca with a fault for the whole test, and return its port."""
        alpaca = await self.simulate()
        alpaca.inject(Fault(fault, seconds=PATIENCE))
        port: int = self.alpaca_port
        return port

    async def visit(self, data: bytes) -> RawClient:
        """Send bytes to the proxy. Return when it has answered or closed the connection."""
        client = RawSocketClient(data)
        endpoint = clientFromString(reactor, f"tcp:127.0.0.1:{self.port}")
        await endpoint.connect(Factory.forProtocol(lambda: client))
        await client.answered
        assert client.transport is not None
        client.transport.loseConnection()
        await client.ended
        return client

    async def assert_silent(self, command: Command, *lines: str) -> None:
        """Stop the command, and assert that its output has these lines and no secret.

        /readyz and the process list must not show a secret either.
        """
        readiness = await self.visit(request(start="GET /readyz HTTP/1.1", upgrade=False))
        self.assertIn('"accounts"', readiness.body)
        self.assertEqual(disclosures(readiness.received.decode()), [])
        self.assertEqual(disclosures(Path(f"/proc/{command.pid}/cmdline").read_text()), [])
        await command.stop()
        self.assert_said(command, "Autobahn debugs", *lines)

    def assert_said(self, command: Command, *lines: str) -> None:
        """Assert that the output has these lines, no secret and no traceback."""
        for line in lines:
            self.assertIn(line, command.output)
        self.assertEqual(disclosures(command.output), [])
        self.assertNotIn("Traceback", command.output)
