"""A journal that is damaged or removed while the proxy is stopped, with real processes."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.task import deferLater

from tests.support.frames import AUTH
from tests.support.processes import Command
from tests.support.sockets import SocketTestCase
from tradeproxy.simulator.simulator import Simulator
from tradeproxy.wire.event import format_time


def emit(alpaca: Simulator, *numbers: int) -> None:
    """Emit events now."""
    for number in numbers:
        alpaca.emit(
            {
                "event": "new",
                "event_id": f"event {number}",
                "at": format_time(round(time.time() * 1_000_000)),
                "n": number,
                "order": {"id": f"order {number}", "status": "new", "filled_qty": "0"},
            }
        )


class LostJournalTests(SocketTestCase):
    """Twenty events come during the downtime. All arrive, marked."""

    async def start(self) -> Command:
        proxy = await self.proxy(PROXY_DATA_DIR=str(self.data))
        await self.alpaca.when_listening()
        return proxy

    async def check(self, damage: Callable[[], object], signal: str = "TERM") -> Command:
        """Run a proxy, stop it, damage its files, and return the next one."""
        self.alpaca = await self.simulate()
        self.data = Path(self.make_directory())
        self.path = self.data / "paper.sqlite3"
        proxy = await self.start()
        client = await self.subscribe()
        emit(self.alpaca, *range(5))
        await client.has(5)
        await self.when_exists(self.path.with_suffix(".bookmark"))
        await proxy.stop(signal)
        await client.gone()
        await self.alpaca.when_gone()
        damage()
        emit(self.alpaca, *range(5, 25))
        return await self.start()

    async def when_exists(self, path: Path) -> None:
        while not path.exists():
            await deferLater(reactor, 0.05)

    async def read(self, count: int) -> list[tuple[int, str | None]]:
        """Return the numbers and the marks of the log's first events."""
        client = await self.connect("/trade-updates-paper?replay=1000", AUTH)
        await client.has(1 + count)
        frames: list[dict[str, Any]] = [json.loads(frame) for frame in client.messages[1:]]
        return [(frame["data"]["n"], frame.get("recovered")) for frame in frames]

    async def assert_all_arrive(self) -> None:
        expected = [(number, "events") for number in range(5, 25)]
        self.assertEqual(await self.read(20), expected)

    def overwrite(self, end: int) -> None:
        with self.path.open("r+b") as file:
            file.write(b"\xff" * end)

    async def test_header_damaged_events_of_downtime_arrive(self) -> None:
        """The file is no SQLite file any more."""
        await self.check(lambda: self.overwrite(100))
        await self.assert_all_arrive()

    async def test_first_page_damaged_events_of_downtime_arrive(self) -> None:
        """The list of tables is gone."""
        await self.check(lambda: self.overwrite(4096))
        await self.assert_all_arrive()

    async def test_half_the_file_gone_events_of_downtime_arrive(self) -> None:
        """As a disk that failed leaves it."""

        def cut() -> None:
            with self.path.open("r+b") as file:
                file.truncate(self.path.stat().st_size // 2)

        await self.check(cut)
        await self.assert_all_arrive()

    async def test_file_removed_events_of_downtime_arrive(self) -> None:
        """Nothing but the bookmark shows that there was a journal."""
        await self.check(lambda: self.path.unlink())
        await self.assert_all_arrive()

    async def test_write_ahead_log_removed_events_of_downtime_arrive(self) -> None:
        """After a kill the file has tables and nothing else.

        The bookmark may be ten seconds old: the first events may come again.
        """

        def remove_log() -> None:
            self.path.with_name("paper.sqlite3-wal").unlink()

        await self.check(remove_log, "KILL")
        client = await self.connect("/trade-updates-paper?replay=1000", AUTH)
        await client.has(1 + 20)
        while not any(b'"n":24' in message for message in client.messages):
            await client.has(len(client.messages) + 1)
        frames = [json.loads(frame) for frame in client.messages[1:]]
        found = {frame["data"]["n"]: frame.get("recovered") for frame in frames}
        self.assertEqual([found.get(number) for number in range(5, 25)], ["events"] * 20)

    async def test_damaged_without_bookmark_declares_a_gap(self) -> None:
        """Clients learn that events may be missing."""

        def spoil() -> None:
            self.overwrite(4096)
            self.path.with_suffix(".bookmark").unlink()

        proxy = await self.check(spoil)
        await proxy.says("recovery ended: lost")
        self.assertIn("the time of its last event is unknown", proxy.output)
        client = await self.connect("/trade-updates-paper?proxy_status=1", AUTH)
        await client.has(2)
        hello = next(json.loads(each) for each in client.messages if b'"hello"' in each)
        [gap] = hello["data"]["gaps"]
        self.assertEqual((gap["begin"], gap["outcome"]), (None, "lost"))
