"""Outages of the upstream, as clients see them: a pause and no disconnect."""

from __future__ import annotations

from tests.support.frames import AUTH
from tests.support.memory import MemoryEndpoint, simulator
from tests.support.proxy import ProxyTestCase
from tests.support.sockets import SocketTestCase
from tradeproxy.config.accounts import AccountSettings, BaseUrl
from tradeproxy.simulator.faults import Fault, FaultKind
from tradeproxy.upstream.backoff import Backoff
from tradeproxy.upstream.client import UpstreamFactory
from tradeproxy.upstream.keys import AccountKeys
from tradeproxy.upstream.service import UpstreamService
from tradeproxy.upstream.session import StreamListener
from tradeproxy.wire.credentials import KeyPair, Secret
from tradeproxy.wire.messages import Dialect


class EveryOutageTests(ProxyTestCase):
    """The full path from Alpaca to a client, in memory and in fake time."""

    def setUp(self) -> None:
        super().setUp()
        self.alpaca = simulator(self.clock)
        self.upstream = MemoryEndpoint(self.alpaca, self.clock)
        keys = KeyPair(Secret("key"), Secret("secret"))
        settings = AccountSettings(
            "paper", BaseUrl(False, "127.0.0.1", 8100), keys, Dialect.AUTHENTICATE, "ALPACA_API_KEY"
        )
        service = UpstreamService(
            self.paper,
            self.upstream,
            UpstreamFactory(AccountKeys(settings), self.paper, StreamListener(), self.clock),
            StreamListener(),
            Backoff(lambda: 1.0),
            self.clock,
        )
        service.startService()
        self.addCleanup(service.stopService)
        self.upstream.advance(0)

    def pass_time(self, seconds: int) -> None:
        """Advance the upstream's and the clients' clocks, one second at a time."""
        for _ in range(seconds):
            self.upstream.advance(1)
            self.wires.flush()

    def test_client_stays_connected_in_every_outage(self) -> None:
        """After each kind of outage, the next event reaches the same client."""
        client = self.connect()
        self.say(client, AUTH)
        for kind in (
            FaultKind.DROP,
            FaultKind.RESET,
            FaultKind.CLOSE,
            FaultKind.SILENCE,
            FaultKind.THROTTLE,
            FaultKind.REFUSE,
        ):
            self.alpaca.inject(Fault(kind, count=1))
            if kind in (FaultKind.THROTTLE, FaultKind.REFUSE):
                self.alpaca.inject(Fault(FaultKind.DROP))
            self.pass_time(270)
            self.assertTrue(self.alpaca.listening, kind)
            event = self.alpaca.emit({"event": "fill", "after": kind.value})
            self.pass_time(1)
            self.assertEqual((client.closed, client.taken()), (None, [event]), kind)
        self.assertEqual(len(self.upstream.attempts), 9)


class RealOutageTests(SocketTestCase):
    """Outages that take little time, over real sockets."""

    async def test_client_stays_connected_after_reset(self) -> None:
        """After a reset the same client gets the next event."""
        alpaca = await self.simulate()
        proxy = await self.proxy()
        await alpaca.when_listening()
        client = await self.subscribe()
        alpaca.inject(Fault(FaultKind.RESET))
        await alpaca.when_gone()
        await alpaca.when_listening()
        event = alpaca.emit({"event": "fill"})
        await client.has(1)
        self.assertEqual((client.closed, client.taken()), (None, [event]))
        self.assertIn("paper: upstream is down: ", proxy.output)

    async def test_client_connects_while_alpaca_is_unreachable(self) -> None:
        """The client stays connected; the log states the reason."""
        proxy = await self.proxy(ALPACA_URL="http://127.0.0.1:1")
        await proxy.says("paper: upstream is down: cannot connect")
        client = await self.subscribe()
        self.assertTrue(client.is_open_now)

    async def test_http_429_waits_for_retry_after(self) -> None:
        """HTTP 429 at the first attempt delays the next one by Alpaca's Retry-After."""
        alpaca = await self.simulate()
        alpaca.inject(Fault(FaultKind.THROTTLE, count=1, retry_after=1))
        proxy = await self.proxy()
        await proxy.says(
            "HTTP 429 at the handshake: another connection holds this account's stream"
        )
        await alpaca.when_listening()
