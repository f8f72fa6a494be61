"""Resumes over restarts and outages, with the product's own process."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any
from urllib.parse import quote

from twisted.internet.defer import Deferred, gatherResults

from tests.support.processes import Command, free_port
from tests.support.sockets import SocketTestCase
from tradeproxy.simulator.faults import Fault, FaultKind
from tradeproxy.simulator.orders import parse_order

PATH = "/trade-updates-paper"
JOURNAL = ".local/state/tradeproxy/paper.sqlite3"


def event(number: int) -> dict[str, Any]:
    """Return the data of an event with its own id."""
    return {
        "event_id": f"01KYA98DWAS5PA5B{number:010d}",
        "event": "new",
        "order": {"id": f"{number}"},
    }


def get_data(messages: list[bytes]) -> list[dict[str, Any]]:
    """Return the data of every trade update among the messages."""
    frames = [json.loads(message) for message in messages]
    return [
        frame["data"]
        for frame in frames
        if isinstance(frame, dict) and frame["stream"] == "trade_updates"
    ]


class ProcessResumeTestCase(SocketTestCase):
    """A proxy that is stopped, killed and started again over the same journal."""

    async def start(self, **environment: str) -> Command:
        proxy = await self.proxy(**environment)
        await self.alpaca.when_listening()
        return proxy

    async def setUp(self) -> None:  # type: ignore[override]  # trial awaits it
        self.alpaca = await self.simulate()


class ResumeAfterRestartTests(ProcessResumeTestCase):
    """Alpaca sends events while no proxy runs."""

    async def test_resume_after_kill_sends_missed_events_in_order(self) -> None:
        """What the client missed comes first, then what the proxy missed, then live events."""
        proxy = await self.start()
        client = await self.subscribe()
        self.alpaca.emit(event(1))
        self.alpaca.emit(event(2))
        await client.has(2)
        await proxy.stop("KILL")
        await self.alpaca.when_gone()
        missed = [self.alpaca.emit(event(number)) for number in (3, 4)]
        await self.start()
        back = await self.subscribe(f"{PATH}?since_id={event(1)['event_id']}")
        await back.has(3)
        live = self.alpaca.emit(event(5))
        await back.has(4)
        self.assertEqual(back.messages, [client.messages[1], *missed, live])

    async def test_resume_without_history_sends_recovered_order_states(self) -> None:
        """They are marked, have the real order object, and have no execution id."""
        exchange = self.alpaca.exchange
        proxy = await self.start()
        client = await self.subscribe()
        resting = {
            "symbol": "SPY",
            "side": "buy",
            "type": "limit",
            "time_in_force": "day",
            "qty": "1",
        }
        (order,) = self.alpaca.apply(
            exchange.submit(parse_order({**resting, "limit_price": "0.01"}))
        )
        await client.has(1)
        seen = get_data(client.messages)[0]["event_id"]
        await proxy.stop("KILL")
        await self.alpaca.when_gone()
        self.alpaca.apply(exchange.cancel(order.id))
        self.alpaca.inject(Fault(FaultKind.HISTORY_REFUSE, seconds=60))
        await self.start()
        back = await self.subscribe(f"{PATH}?since_id={seen}")
        await back.has(1)
        frame = json.loads(back.messages[0])
        self.assertEqual(frame["recovered"], "orders")
        self.assertEqual(
            (frame["data"]["event"], frame["data"]["order"]["id"]), ("canceled", order.id)
        )
        self.assertEqual(frame["data"]["order"], exchange.order(order.id).document())
        self.assertNotIn("execution_id", frame["data"])

    async def test_resume_cursor_after_a_graceful_stop_is_valid(self) -> None:
        """The cursor is from an event of a client with `proxy_status`."""
        proxy = await self.start()
        client = await self.subscribe(f"{PATH}?proxy_status=1")
        self.alpaca.emit(event(1))
        while not get_data(client.messages):
            await client.has(len(client.messages) + 1)
        cursor = json.loads(client.messages[-1])["cursor"]
        second = self.alpaca.emit(event(2))
        await client.has(len(client.messages) + 1)
        await proxy.stop()
        await self.start()
        back = await self.subscribe(f"{PATH}?since_id={quote(cursor)}")
        await back.has(1)
        self.assertEqual(back.taken(), [second])

    async def test_resume_invalid_position_closes_4010(self) -> None:
        """A cursor of another account, and a text that is no cursor, are closed for good."""
        await self.start()
        for position in ("live.0123456789abcdef.1.00000000", "nonsense"):
            client = await self.connect(f"{PATH}?since_id={position}", b'{"action":"auth"}')
            await client.gone()
            assert client.closed is not None
            self.assertEqual(client.closed[0], 4010, position)


class JournalFileProcessTests(ProcessResumeTestCase):
    """The files of the journals."""

    async def test_journal_files_are_private(self) -> None:
        """The folder is 0700 and each file 0600: they contain all orders of the account."""
        await self.start()
        client = await self.subscribe()
        self.alpaca.emit(event(1))
        await client.has(1)
        journal = Path(self.directory, JOURNAL)
        self.assertEqual(journal.parent.stat().st_mode & 0o777, 0o700)
        modes = {path.name: path.stat().st_mode & 0o777 for path in journal.parent.iterdir()}
        self.assertIn("paper.sqlite3-wal", modes)
        self.assertEqual(set(modes.values()), {0o600}, modes)

    async def test_journal_in_use_stops_a_second_proxy(self) -> None:
        """It names the file in use and does not disturb the first proxy."""
        first = await self.start()
        second = self.command(
            "twistd",
            "-n",
            "--pidfile=",
            "tradeproxy",
            "--port",
            "1",
            ALPACA_API_KEY="k",
            ALPACA_SECRET_KEY="s",
        )
        self.assertEqual(await second.ended, 1)
        lines = second.output.strip().splitlines()
        self.assertIn(
            f"PROXY_DATA_DIR: {Path(self.directory, JOURNAL)}: another tradeproxy uses it", lines
        )
        self.assertIsNone(first.status)

    async def test_journal_of_a_newer_schema_is_not_changed(self) -> None:
        """An older program must not write a schema that it does not know."""
        proxy = await self.start()
        await proxy.stop()
        journal = Path(self.directory, JOURNAL)
        with sqlite3.connect(journal) as connection:
            connection.execute("PRAGMA user_version = 99")
        connection.close()
        before = journal.read_bytes()
        again = self.command(
            *("twistd", "-n", "--pidfile=", "tradeproxy"),
            PROXY_PORT=str(free_port()),
            ALPACA_API_KEY="k",
            ALPACA_SECRET_KEY="s",
        )
        self.assertEqual(await again.ended, 1)
        [line] = again.output.strip().splitlines()
        self.assertIn("PROXY_DATA_DIR", line)
        self.assertIn("newer", line)
        self.assertEqual(journal.read_bytes(), before)

    async def test_journal_damaged_is_replaced(self) -> None:
        """The proxy logs it and starts a new journal. Old cursors are closed with 4010."""
        proxy = await self.start()
        client = await self.subscribe(f"{PATH}?proxy_status=1")
        await client.has(1)
        cursor = json.loads(client.messages[0])["data"]["cursor"]
        await proxy.stop()
        journal = Path(self.directory, JOURNAL)
        journal.write_bytes(b"this is no database" * 1000)
        again = await self.start()
        await again.says("started a new journal")
        self.assertEqual(len(list(journal.parent.glob("paper.sqlite3.damaged-*"))), 1)
        back = await self.connect(f"{PATH}?since_id={cursor}", b'{"action":"auth"}')
        await back.gone()
        assert back.closed is not None
        self.assertEqual(back.closed[0], 4010)


class MassResumeTests(ProcessResumeTestCase):
    """Many clients resume at the same time."""

    async def test_resume_hundred_clients_each_get_every_event(self) -> None:
        """They resume right after a restart, while new events arrive."""
        proxy = await self.start()
        first = await self.subscribe()
        self.alpaca.emit(event(0))
        await first.has(1)
        await proxy.stop("KILL")
        await self.alpaca.when_gone()
        for number in range(1, 501):
            self.alpaca.emit(event(number))
        await self.start()
        path = f"{PATH}?since_id={event(0)['event_id']}"
        clients = await gatherResults([self.subscribe_deferred(path) for _ in range(100)])
        for number in range(501, 551):
            self.alpaca.emit(event(number))
        await gatherResults([client.has(550) for client in clients])
        expected = [event(number)["event_id"] for number in range(1, 551)]
        for client in clients:
            self.assertEqual([data["event_id"] for data in get_data(client.messages)], expected)

    def subscribe_deferred(self, path: str) -> Deferred[Any]:
        return Deferred.fromCoroutine(self.subscribe(path))
