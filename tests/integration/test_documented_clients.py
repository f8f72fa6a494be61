"""Programs in docs/clients.md against a real proxy process. `make interop` runs all of them."""

from __future__ import annotations

import json
import sys
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from twisted.internet import reactor as chosen
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from tests.support.processes import PATIENCE, free_port
from tests.support.sockets import SocketTestCase
from tests.support.tcp_relay import RelayMode, TcpRelay
from tests.system.interop.clients import InteropClient
from tests.system.interop.driver import install, start
from tests.system.interop.environments import ClientEnvironment
from tests.system.interop.groups import table
from tests.system.interop.world import DEFAULT_PORT, InteropWorld

reactor: Any = chosen

POLL = 0.05
"""Seconds between two looks at the number of clients, which nothing announces."""


class FirstEventTests(SocketTestCase):
    """A client that loses its connection before its first event, and reconnects later."""

    async def setUp(self) -> None:  # type: ignore[override]  # trial awaits it
        self.directory = self.make_directory()
        self.world = InteropWorld(Path(self.directory), free_port())
        await self.world.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(self.world.stop()))
        self.port = self.world.port
        self.relay = TcpRelay(self.port)
        await self.relay.start()
        self.addCleanup(lambda: Deferred.fromCoroutine(self.relay.stop()))

    async def test_websockets_program_misses_no_event(self) -> None:
        """It had no position then, began with new events, and missed those of the outage."""
        await self.check("websockets 17.4")

    async def test_websocket_client_program_misses_no_event(self) -> None:
        """The same holds for a client that reconnects by itself."""
        await self.check("websocket-client 1.9.2")

    async def check(self, name: str) -> None:
        """Run the program of the client; emit its first events while it is not connected."""
        [client] = [each for each in table() if each.name == name]
        driver = self.start(client)
        self.addCleanup(lambda: Deferred.fromCoroutine(driver.stop()))
        while await deferToThread(self.count_clients) < 1:
            await deferLater(reactor, POLL)
        await self.world.stop_proxy()
        await self.relay.set_mode(RelayMode.REFUSED)
        missed = self.world.script.orders(2)
        await self.world.start_proxy()
        await self.world.alpaca.when_listening()
        observer = await self.subscribe("/trade-updates-paper?replay=9")
        await observer.has(2)
        await self.relay.set_mode(RelayMode.OPEN)
        await driver.when_printed(missed[-1], PATIENCE)
        self.assertEqual(driver.events, missed)

    def start(self, client: InteropClient) -> Any:
        """Start the program with the tests' own Python, and with the port of the relay."""
        directory = Path(self.directory, "driver")
        environment = ClientEnvironment(Path(sys.prefix))
        install(client, environment, directory)
        program = directory / client.driver
        text = program.read_text(encoding="utf-8")
        program.write_text(text.replace(f":{DEFAULT_PORT}", f":{self.relay.port}"), "utf-8")
        return start(client, environment, directory)

    def count_clients(self) -> int:
        """Return the number of clients that get events; runs in a thread."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)
        with closing(connection):
            connection.request("GET", "/readyz")
            return int(json.load(connection.getresponse())["accounts"]["paper"]["clients"])
