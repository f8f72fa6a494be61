"""A fan-out to many clients over real sockets."""

from __future__ import annotations

import resource

from twisted.internet.defer import Deferred, DeferredSemaphore, gatherResults

from tests.support.sockets import SocketClient, SocketTestCase
from tradeproxy.runtime.rlimits import raise_file_limit
from tradeproxy.simulator.service import Simulator

PAPER_CLIENTS = 1_000
LIVE_CLIENTS = 200
EVENTS = 12


class ManyClientsFanOutTests(SocketTestCase):
    """Two accounts, each with its own clients."""

    timeout = 100

    def setUp(self) -> None:
        limits = resource.getrlimit(resource.RLIMIT_NOFILE)
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, limits)
        self.assertIsNone(raise_file_limit(2 * (PAPER_CLIENTS + LIVE_CLIENTS)))

    async def test_clients_get_their_accounts_events_in_order(self) -> None:
        """1,000 clients of one account and 200 of another get all events of their account only."""
        paper = await self.simulate()
        paper_port = self.alpaca_port
        live = await self.simulate()
        await self.proxy(
            ALPACA_URL=f"http://127.0.0.1:{paper_port}",
            ALPACA_LIVE_API_KEY="PKLIVE",
            ALPACA_LIVE_SECRET_KEY="live-secret",
            ALPACA_LIVE_URL=f"http://127.0.0.1:{self.alpaca_port}",
        )
        await gatherResults([paper.when_listening(), live.when_listening()])
        at_a_time = DeferredSemaphore(100)
        paths = ["/trade-updates-paper"] * PAPER_CLIENTS + ["/trade-updates-live"] * LIVE_CLIENTS
        clients: list[SocketClient] = await gatherResults(
            [
                at_a_time.run(lambda path: Deferred.fromCoroutine(self.subscribe(path)), path)
                for path in paths
            ]
        )
        sent: dict[Simulator, list[bytes]] = {paper: [], live: []}
        for number in range(EVENTS):
            for name, simulator in (("paper", paper), ("live", live)):
                data = {
                    "event": "fill",
                    "of": name,
                    "number": number,
                    "order": {"notes": "x" * 900},
                }
                sent[simulator].append(simulator.emit(data))
        await gatherResults([client.has(EVENTS) for client in clients])
        for client in clients[:PAPER_CLIENTS]:
            self.assertEqual(client.messages, sent[paper])
        for client in clients[PAPER_CLIENTS:]:
            self.assertEqual(client.messages, sent[live])
