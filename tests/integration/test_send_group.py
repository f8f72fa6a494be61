"""Clients that keep up on sockets of this machine, by the reactor that the product runs on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet import reactor as chosen
from twisted.internet.task import deferLater

from tests.support.frames import AUTH, AUTHENTICATED
from tests.support.journals import event, memory_journal
from tests.support.sockets import SocketClient, SocketTestCase
from tradeproxy.config.settings import Limits
from tradeproxy.downstream.admission import Admission, Tokens
from tradeproxy.downstream.clients import DownstreamService
from tradeproxy.downstream.factory import DownstreamFactory
from tradeproxy.downstream.send_group import SendGroup
from tradeproxy.hub.account import Account
from tradeproxy.web.site import build_site

reactor: Any = chosen


class CrowdTests(SocketTestCase):
    """Crowds form by themselves, and a client notices nothing of them."""

    async def setUp(self) -> None:  # type: ignore[override]  # trial awaits it
        self.account = Account("paper", memory_journal(reactor), reactor)
        self.addCleanup(self.account.close)
        self.factory = DownstreamFactory(Limits(), reactor)
        self.service = DownstreamService(self.factory.clients, reactor)
        self.service.startService()
        self.addCleanup(self.service.stopService)
        site = build_site(
            {"paper": self.account}, self.factory, Admission((), (), Tokens(())), reactor
        )
        port = reactor.listenTCP(0, site, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        self.port = port.getHost().port
        self.published: list[bytes] = []

    async def crowded(self, count: int) -> list[SocketClient]:
        """Connect some clients that have had an event."""
        clients = [await self.subscribe() for _ in range(count)]
        await self.publish(clients)
        return clients

    async def publish(self, clients: list[SocketClient], count: int = 1) -> None:
        """Bring new events in one burst, and wait until these clients have all that came so far."""
        for _ in range(count):
            fresh = event(len(self.published))
            self.published.append(fresh.payload)
            self.account.publish(fresh)
        for client in clients:
            await client.has(len(self.published))
            self.assertEqual(client.messages, self.published)
        await deferLater(reactor, 0)  # at the end of a turn they join

    @property
    def crowds(self) -> list[SendGroup | None]:
        """The crowd of each client, in the order in which they came."""
        served: Any = tuple(self.factory.clients)
        return [client.send_group for client in served]

    async def assert_left(self, staying: list[SocketClient]) -> None:
        """Only these are there, and are a crowd."""
        while len(self.factory.clients) > len(staying):
            await deferLater(reactor, 0.001)
        await self.publish(staying)
        (found,) = set(self.crowds)
        assert found is not None
        self.assertEqual((found.size, len(self.account.broadcaster)), (len(staying), len(staying)))

    async def test_clients_that_keep_up_are_a_crowd(self) -> None:
        """That they are is what makes them cheap."""
        clients = await self.crowded(20)
        (found,) = set(self.crowds)
        assert found is not None
        self.assertEqual((found.size, len(self.account.broadcaster)), (20, 20))
        for count in (1, 7, 30):
            await self.publish(clients, count)
        self.assertEqual(set(self.crowds), {found})

    async def test_whatever_they_say_is_answered_and_nothing_is_missed(self) -> None:
        """Pings, pongs and messages, between the events and among them."""
        clients = await self.crowded(3)
        for client, payload in zip(clients, (b"1", b"2", b"3"), strict=True):
            client.sendPing(payload)
            client.sendPong(payload)
            client.sendMessage(AUTH)
            await self.publish([other for other in clients if other is not client], 5)
            await client.has(len(self.published) + 1)
            client.messages.remove(AUTHENTICATED)
            self.assertEqual((client.messages, client.pongs), (self.published, [payload]))
        await self.publish(clients)
        self.assertEqual(len(set(self.crowds)), 1)
        self.assertNotIn(None, self.crowds)

    async def test_who_does_not_read_leaves_and_comes_back(self) -> None:
        """The kernel takes some megabytes for it; then it is behind, and catches up once it reads."""
        slow, *others = await self.crowded(3)
        transport: Any = slow.transport
        transport.pauseProducing()
        while self.crowds[0] is not None:
            await self.publish(others, 200)
        await self.publish(others, 200)
        transport.resumeProducing()
        await self.publish([slow, *others])
        await self.publish([slow, *others])
        self.assertEqual(len(set(self.crowds)), 1)

    async def test_who_ends_leaves_nothing_behind(self) -> None:
        """A goodbye, a reset, and a word that is not understood."""
        clients = await self.crowded(4)
        endings: tuple[Callable[[SocketClient], object], ...] = (
            lambda client: client.sendClose(1000),
            lambda client: client.dropConnection(abort=True),
            lambda client: client.sendMessage(b"hello"),
        )
        for end in endings:
            client = clients.pop(0)
            end(client)
            await self.publish(clients)
            await client.gone()
            await self.assert_left(clients)
            self.assertEqual(client.messages, self.published[: len(client.messages)])
        self.assertEqual(client.closed, (4000, "that message is not JSON"))

    async def test_a_stop_ends_all_of_them(self) -> None:
        """With 1012, and with events of the same turn before it or not at all."""
        clients = await self.crowded(3)
        self.account.publish(event(len(self.published)))
        await self.service.stopService()
        for client in clients:
            await client.gone()
            assert client.closed is not None
            self.assertEqual((client.closed[0], client.messages), (1012, self.published))
        self.assertEqual((len(self.factory.clients), len(self.account.broadcaster)), (0, 0))
