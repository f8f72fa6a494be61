"""Send groups over real sockets, with the real reactor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet import reactor as chosen
from twisted.internet.task import deferLater

from tests.support.frames import AUTH, AUTHENTICATED
from tests.support.journals import event, memory_journal
from tests.support.listening import listen
from tests.support.socket_limits import limit_sockets
from tests.support.sockets import SocketClient, SocketTestCase
from tradeproxy.config.settings import Limits
from tradeproxy.downstream.admission import Admission, Tokens
from tradeproxy.downstream.clients import DownstreamService
from tradeproxy.downstream.factory import DownstreamFactory
from tradeproxy.downstream.send_group import SendGroup
from tradeproxy.hub.account import Account
from tradeproxy.web.site import build_site

reactor: Any = chosen


class SendGroupSocketTests(SocketTestCase):
    """Send groups form without a setting, and do not change what a client gets."""

    async def setUp(self) -> None:  # type: ignore[override]  # trial awaits it
        self.account = Account("paper", memory_journal(reactor), reactor)
        self.addCleanup(self.account.close)
        self.factory = DownstreamFactory(Limits(), reactor, limit_sockets())
        self.service = DownstreamService(self.factory.clients, reactor)
        self.service.startService()
        self.addCleanup(self.service.stopService)
        site = build_site(
            {"paper": self.account},
            self.factory,
            Admission((), (), Tokens(())),
            reactor,
            reactor.seconds,
        )
        self.port = await listen(self, site)
        self.published: list[bytes] = []

    async def form_group(self, count: int) -> list[SocketClient]:
        """Connect some clients, and send them an event."""
        clients = [await self.subscribe() for _ in range(count)]
        await self.publish(clients)
        return clients

    async def publish(self, clients: list[SocketClient], count: int = 1) -> None:
        """Publish events in one batch, and wait until these clients have all events."""
        for _ in range(count):
            new_event = event(len(self.published))
            self.published.append(new_event.payload)
            self.account.publish(new_event)
        for client in clients:
            await client.has(len(self.published))
            self.assertEqual(client.messages, self.published)
        await deferLater(reactor, 0)  # clients join at the end of a turn

    @property
    def groups(self) -> list[SendGroup | None]:
        """The send group of each client, in the order of their connection."""
        served: Any = tuple(self.factory.clients)
        return [client.send_group for client in served]

    async def assert_remaining(self, staying: list[SocketClient]) -> None:
        """Assert that only these clients are connected, and that they are one group."""
        while len(self.factory.clients) > len(staying):
            await deferLater(reactor, 0.001)
        await self.publish(staying)
        (group,) = set(self.groups)
        assert group is not None
        self.assertEqual((group.size, len(self.account.broadcaster)), (len(staying), len(staying)))

    async def test_caught_up_clients_form_one_group(self) -> None:
        """One group serves them, which makes a fan-out cheap."""
        clients = await self.form_group(20)
        (group,) = set(self.groups)
        assert group is not None
        self.assertEqual((group.size, len(self.account.broadcaster)), (20, 20))
        for count in (1, 7, 30):
            await self.publish(clients, count)
        self.assertEqual(set(self.groups), {group})

    async def test_client_messages_are_answered_and_no_event_is_missed(self) -> None:
        """The clients send pings, pongs and messages between events."""
        clients = await self.form_group(3)
        for client, payload in zip(clients, (b"1", b"2", b"3"), strict=True):
            client.sendPing(payload)
            client.sendPong(payload)
            client.sendMessage(AUTH)
            await self.publish([other for other in clients if other is not client], 5)
            await client.has(len(self.published) + 1)
            client.messages.remove(AUTHENTICATED)
            self.assertEqual((client.messages, client.pongs), (self.published, [payload]))
        await self.publish(clients)
        self.assertEqual(len(set(self.groups)), 1)
        self.assertNotIn(None, self.groups)

    async def test_slow_client_leaves_group_and_joins_again(self) -> None:
        """The kernel buffers some megabytes; then the client is behind until it reads again."""
        slow, *others = await self.form_group(3)
        transport: Any = slow.transport
        transport.pauseProducing()
        while self.groups[0] is not None:
            await self.publish(others, 200)
        await self.publish(others, 200)
        transport.resumeProducing()
        await self.publish([slow, *others])
        await self.publish([slow, *others])
        self.assertEqual(len(set(self.groups)), 1)

    async def test_closed_client_leaves_group(self) -> None:
        """A client closes, is reset, or sends an invalid message."""
        clients = await self.form_group(4)
        acts: tuple[Callable[[SocketClient], object], ...] = (
            lambda client: client.sendClose(1000),
            lambda client: client.dropConnection(abort=True),
            lambda client: client.sendMessage(b"hello"),
        )
        for act in acts:
            client = clients.pop(0)
            act(client)
            await self.publish(clients)
            await client.gone()
            await self.assert_remaining(clients)
            self.assertEqual(client.messages, self.published[: len(client.messages)])
        self.assertEqual(client.closed, (4000, "that message is not JSON"))

    async def test_stop_closes_all_clients_1012(self) -> None:
        """Every client gets the events of the same turn before the close frame."""
        clients = await self.form_group(3)
        self.account.publish(event(len(self.published)))
        await self.service.stopService()
        for client in clients:
            await client.gone()
            assert client.closed is not None
            self.assertEqual((client.closed[0], client.messages), (1012, self.published))
        self.assertEqual((len(self.factory.clients), len(self.account.broadcaster)), (0, 0))
