"""The environment of a client under test: a simulated Alpaca and the real proxy."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from pathlib import Path
from random import Random
from typing import Any

from twisted.internet import reactor as chosen
from twisted.internet.endpoints import serverFromString

from tests.support.processes import Command, run
from tests.system.interop.orders import OrderScript
from tradeproxy.simulator.simulator import Simulator
from tradeproxy.simulator.web import ApiSite

reactor: Any = chosen

DEFAULT_PORT = 8099
"""The port in the drivers, as in the documentation."""

ESTABLISHED = "01"
"""The state of a connection in /proc/net/tcp."""


class InteropWorld:
    """A proxy that can be restarted with the same port and journal."""

    proxy: Command

    def __init__(
        self, directory: Path, port: int = DEFAULT_PORT, settings: Mapping[str, str] | None = None
    ) -> None:
        self.alpaca = Simulator(reactor, Random(0))
        self.script = OrderScript(self.alpaca)
        self.port = port
        self._settings = settings or {}
        self._directory = directory
        self._listening: Any = None

    async def start(self) -> None:
        """Start both, and return once the proxy streams."""
        endpoint = serverFromString(reactor, "tcp:0:interface=127.0.0.1")
        self._listening = await endpoint.listen(ApiSite(self.alpaca))
        await self.start_proxy()
        await self.alpaca.when_listening()

    async def start_proxy(self) -> None:
        """Start the proxy, and return once it listens."""
        self.proxy = run(
            *("twistd", "-n", "--pidfile=", "tradeproxy"),
            directory=str(self._directory),
            ALPACA_API_KEY="PKINTEROP",
            ALPACA_SECRET_KEY="secret-of-the-account",
            ALPACA_URL=f"http://127.0.0.1:{self._listening.getHost().port}",
            PROXY_PORT=str(self.port),
            **self._settings,
        )
        reactor.addSystemEventTrigger("before", "shutdown", self._terminate, self.proxy)
        await self.proxy.says("listening on")

    async def stop_proxy(self) -> None:
        """Stop the proxy like systemd; return once its connection to Alpaca is closed too."""
        await self.proxy.stop()
        await self.alpaca.when_gone()

    async def stop(self) -> None:
        """Stop both."""
        await self.proxy.stop()
        await self.alpaca.stop()
        await self._listening.stopListening()

    @staticmethod
    def _terminate(proxy: Command) -> None:
        """End the proxy when this process ends, for example by Ctrl+C."""
        if proxy.status is None:
            os.kill(proxy.pid, signal.SIGTERM)

    def connections(self) -> frozenset[str]:
        """Return the remote addresses of the clients' connections to the proxy."""
        local_port = f":{self.port:04X}"
        rows = [
            line.split()
            for table in ("tcp", "tcp6")
            for line in Path(f"/proc/self/net/{table}").read_text().splitlines()[1:]
        ]
        return frozenset(
            row[2] for row in rows if row[1].endswith(local_port) and row[3] == ESTABLISHED
        )
