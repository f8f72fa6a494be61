"""The journal disappears under a running proxy, with a real process."""

from __future__ import annotations

import json
import shutil
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from tests.integration.test_lost_journal import emit
from tests.support.frames import AUTH
from tests.support.processes import PATIENCE
from tests.support.sockets import SocketClient, SocketTestCase


class VanishedJournalTests(SocketTestCase):
    """Clients stay connected and lose nothing; the proxy reports what is wrong."""

    async def start(self) -> SocketClient:
        """Start a proxy with one event, and return a client that has it and `hello`."""
        self.alpaca = await self.simulate()
        self.data = Path(self.make_directory(), "data")
        self.running = await self.proxy(PROXY_DATA_DIR=str(self.data))
        await self.alpaca.when_listening()
        client = await self.connect("/trade-updates-paper?proxy_status=1", AUTH)
        await client.has(2)
        emit(self.alpaca, 0)
        while not self.events(client):
            await client.has(len(client.messages) + 1)
        return client

    def events(self, client: SocketClient) -> list[dict[str, Any]]:
        """Return the events of a client, with their cursors."""
        frames = [json.loads(message) for message in client.messages]
        return [each for each in frames if isinstance(each, dict) and "n" in each.get("data", {})]

    async def epoch_after(self, client: SocketClient, epoch: str) -> str:
        """Return the epoch of the next `hello` that has another one."""
        while True:
            for frame in map(json.loads, client.messages):
                if isinstance(frame, dict) and frame["data"].get("event") == "hello":
                    found: str = frame["data"]["cursor"].split(".")[1]
                    if found != epoch:
                        return found
            await client.has(len(client.messages) + 1)

    async def readyz(self) -> tuple[int, dict[str, Any]]:
        def ask() -> tuple[int, dict[str, Any]]:
            with closing(HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)) as connection:
                connection.request("GET", "/readyz")
                response = connection.getresponse()
                return response.status, json.load(response)

        answer: tuple[int, dict[str, Any]] = await deferToThread(ask)
        return answer

    async def test_directory_removed_continues_in_new_log(self) -> None:
        """The next start finds everything that came after."""
        client = await self.start()
        old = self.events(client)[0]["cursor"]
        shutil.rmtree(self.data)
        await self.running.says(f"{self.data}/paper.sqlite3 was removed, or is another file now")
        epoch = await self.epoch_after(client, old.split(".")[1])
        emit(self.alpaca, 1, 2)
        while len(self.events(client)) < 3:
            await client.has(len(client.messages) + 1)
        self.assertEqual([each["data"]["n"] for each in self.events(client)], [0, 1, 2])
        self.assertEqual(self.events(client)[-1]["cursor"].split(".")[1], epoch)
        self.assertEqual((await self.readyz())[0], 200)
        late = await self.connect(f"/trade-updates-paper?since_id={old}", AUTH)
        await late.gone()
        assert late.closed is not None
        self.assertEqual(late.closed[0], 4010)
        await self.running.stop()
        await self.proxy(PROXY_DATA_DIR=str(self.data))
        again = await self.connect("/trade-updates-paper?replay=9", AUTH)
        await again.has(4)
        # The database did not have event 0 yet, so that is in the new log too.
        self.assertEqual([each["data"]["n"] for each in self.events(again)], [0, 1, 2])

    async def test_directory_replaced_by_file_is_not_ready(self) -> None:
        """/readyz names the path, until the file is gone."""
        client = await self.start()
        shutil.rmtree(self.data)
        self.data.write_text("")
        await self.running.says("events are delivered without being on the disk")
        status, document = await self.readyz()
        self.assertEqual(status, 503)
        [reason] = document["reasons"]
        self.assertIn(f"the journal is not durable: {self.data}/paper.sqlite3: ", reason)
        emit(self.alpaca, 1)
        while len(self.events(client)) < 2:
            await client.has(len(client.messages) + 1)
        self.assertNotIn("cursor", self.events(client)[-1])
        self.data.unlink()
        await self.running.says("every event is on the disk again")
        self.assertEqual((await self.readyz())[0], 200)

    async def test_write_ahead_log_removed_loses_nothing(self) -> None:
        """Not even if the process is killed afterwards."""
        await self.start()
        log = self.data / "paper.sqlite3-wal"
        log.unlink()
        await self.running.says(f"{log} was removed, or is another file now")
        while not log.exists():
            await deferLater(reactor, 0.05)
        await self.running.stop("KILL")
        await self.proxy(PROXY_DATA_DIR=str(self.data))
        again = await self.connect("/trade-updates-paper?replay=9", AUTH)
        await again.has(2)
        self.assertEqual([each["data"]["n"] for each in self.events(again)], [0])
