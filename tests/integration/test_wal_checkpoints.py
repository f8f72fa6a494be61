"""A real proxy moves SQLite's write-ahead log into the database, in a thread."""

from __future__ import annotations

import os
from pathlib import Path

from twisted.internet import reactor
from twisted.internet.task import deferLater

from tests.support.processes import PATIENCE
from tests.support.sockets import SocketTestCase

EVENTS = 3_000
"""More than are due for a checkpoint, and too few for one in COMMIT."""


def list_threads(pid: int) -> set[str]:
    """Return the ids of the threads of a process."""
    return set(os.listdir(f"/proc/{pid}/task"))


class WalCheckpointTests(SocketTestCase):
    """Twistd, with a journal on the disk."""

    async def test_running_proxy_makes_checkpoint_in_thread(self) -> None:
        """Only tests ran it elsewhere. A clean stop waits for it, and merges the rest."""
        directory = Path(self.make_directory())
        alpaca = await self.simulate()
        proxy = await self.proxy(PROXY_DATA_DIR=str(directory), PROXY_BOOK="0")
        await alpaca.when_listening()
        client = await self.subscribe()
        threads = list_threads(proxy.pid)
        database = directory / "paper.sqlite3"
        size = database.stat().st_size
        for n in range(EVENTS):
            alpaca.emit({"event_id": f"01KYA98DWAS5PA5B0000{n:06d}", "order": {"id": f"{n}"}})
        await client.has(EVENTS)
        for _ in range(round(PATIENCE / 0.05)):
            if database.stat().st_size > size + 100 * EVENTS:
                break
            await deferLater(reactor, 0.05)
        self.assertGreater(database.stat().st_size, size + 100 * EVENTS)
        # Others may have ended since: one that resolved a name does.
        self.assertTrue(list_threads(proxy.pid) - threads)
        os.kill(proxy.pid, 15)
        await proxy.ended
        self.assertEqual(list(directory.glob("*-wal")), [])
