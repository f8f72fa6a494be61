"""The trade log of a real proxy, on a real disk that is full for a while."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import treq
from twisted.internet import reactor
from twisted.internet.task import deferLater

from tests.support.disks import fill_disk, mount_disk
from tests.support.processes import PATIENCE
from tests.support.sockets import SocketTestCase


def data_of(n: int) -> dict[str, Any]:
    """Return the data of event `n`, of 23 September 2026."""
    return {
        "event_id": f"01KYA98DWAS5PA5B00000000{n:02d}",
        "event": "new",
        "at": "2026-09-23T14:00:00Z",
        "order": {"id": f"{n}"},
    }


def read_orders(directory: Path) -> list[str]:
    """Return the orders' ids in the file of that trade date."""
    try:
        with (directory / "paper-2026-09-23.csv").open(newline="") as file:
            return [row["order_id"] for row in csv.DictReader(file)]
    except FileNotFoundError:
        return []


class TradeLogProcessTests(SocketTestCase):
    """Twistd with PROXY_TRADE_LOG."""

    async def until_written(self, directory: Path, *orders: str) -> None:
        """Wait until the file has exactly these orders."""
        for _ in range(round(PATIENCE / 0.05)):
            if read_orders(directory) == list(orders):
                return
            await deferLater(reactor, 0.05)
        self.assertEqual(read_orders(directory), list(orders))

    async def test_full_disk_delays_no_client_and_is_caught_up(self) -> None:
        """Clients get the events meanwhile, /readyz stays 200 with a reason, and no row is lost."""
        disk = mount_disk(self, ",mode=700")
        alpaca = await self.simulate()
        proxy = await self.proxy(PROXY_TRADE_LOG=str(disk))
        await alpaca.when_listening()
        client = await self.subscribe()
        alpaca.emit(data_of(1))
        await client.has(1)
        await self.until_written(disk, "1")
        fill_disk(disk)
        for n in (2, 3):
            alpaca.emit(data_of(n) | {"reason": "y" * 4096})
        await client.has(3)
        await proxy.says("the trade log is not written")
        answer = await treq.get(f"http://127.0.0.1:{self.port}/readyz", persistent=False)
        document = json.loads(await answer.content())
        self.assertEqual((answer.code, document["ready"]), (200, True))
        self.assertEqual(
            document["reasons"], [f"paper: the trade log is not written: {disk}: disk full"]
        )
        (disk / "fill").unlink()
        await proxy.says("the trade log is written again")
        self.assertEqual(read_orders(disk), ["1", "2", "3"])

    async def test_stop_and_kill_leave_every_row_once(self) -> None:
        """A clean stop writes what is left; after a kill, the next start does."""
        alpaca = await self.simulate()
        directory = Path(self.make_directory())
        for n, (signal, status) in enumerate((("TERM", -15), ("KILL", -9)), 1):
            proxy = await self.proxy(PROXY_TRADE_LOG=str(directory))
            await alpaca.when_listening()
            client = await self.subscribe()
            alpaca.emit(data_of(n))
            await client.has(1)
            self.assertEqual(await proxy.stop(signal), status)
            if signal == "TERM":
                self.assertEqual(read_orders(directory), ["1"])
            await alpaca.when_gone()
        await self.proxy(PROXY_TRADE_LOG=str(directory))
        await self.until_written(directory, "1", "2")
