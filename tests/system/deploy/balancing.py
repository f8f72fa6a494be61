"""Two nodes behind a real HAProxy, with a real Redis, while nodes stop."""

from __future__ import annotations

import json
import re

import treq

from tests.support.processes import PATIENCE, free_ports
from tests.system.deploy.clustercase import DeployedClusterTestCase
from tests.system.deploy.restarts import ReturningClient
from tradeproxy.simulator.faults import Fault, FaultKind

CLIENTS = 20


class ReconnectingClient(ReturningClient):
    """A client that reconnects after any disconnect: a killed node sends no close frame."""

    is_stopped = False

    def connection_closed(self, code: int | None, reason: str) -> None:
        """Reconnect at once, unless this client disconnected."""
        if not self.is_stopped:
            self.reconnects += 1
            self.connect()

    def disconnect(self) -> None:
        """Disconnect, and do not reconnect."""
        self.is_stopped = True
        super().disconnect()


class BalancerTests(DeployedClusterTestCase):
    """deploy/cluster/haproxy.cfg in front of two processes instead of two containers."""

    timeout = 180

    async def start(self) -> None:
        """Start everything, and connect the clients."""
        self.alpaca = await self.simulate()
        redis = await self.start_redis()
        self.ports = free_ports(3)
        self.nodes = [self.start_node(port, redis.port) for port in self.ports[:2]]
        addresses = [f"127.0.0.1:{port}" for port in self.ports]
        environ = dict(zip(("NODE_A", "NODE_B", "BALANCER_BIND"), addresses, strict=True))
        for node in self.nodes:
            await node.says("listening on")
        await self.alpaca.when_listening()
        for port in self.ports[:2]:
            await self.until_ready(port)
        # Last: HAProxy regards a server as up at first, so both nodes get clients from the start.
        self.balancer = self.start_haproxy("haproxy.cfg", **environ)
        await self.until_ready(self.ports[2])
        self.clients = [ReconnectingClient(self.ports[2]) for _ in range(CLIENTS)]
        for client in self.clients:
            client.connect()
            self.addCleanup(client.disconnect)
        for client in self.clients:
            await client.when_authenticated()

    def leader(self) -> int:
        """Return the number of the node that leads, from the nodes' logs."""
        announcements = [
            re.findall("this node is (now|no longer) the leader", node.output)
            for node in self.nodes
        ]
        [leading] = [
            number for number, words in enumerate(announcements) if words and words[-1] == "now"
        ]
        return leading

    async def emit(self, times: int = 3) -> None:
        """Emit events at Alpaca, and wait until every client has received all events."""
        for _ in range(times):
            self.emit_event()
        for client in self.clients:
            await client.when_received(len(self.sent))

    def assert_every_event_received(self) -> None:
        """Each client has every event once and in order, and no problems."""
        self.assertEqual([client.events for client in self.clients], [self.sent] * CLIENTS)
        self.assertEqual([client.problems for client in self.clients], [[]] * CLIENTS)

    async def count_clients(self) -> list[int]:
        """Return the number of clients of each node."""
        counts = []
        for port in self.ports[:2]:
            answer = await treq.get(f"http://127.0.0.1:{port}/readyz", persistent=False)
            counts.append(json.loads(await answer.text())["accounts"]["paper"]["clients"])
        return counts

    async def test_stopped_leader_loses_no_event(self) -> None:
        """Each node has half of the clients; those of the stopped node move to the other."""
        await self.start()
        await self.emit()
        self.assertEqual(await self.count_clients(), [CLIENTS // 2] * 2)
        stopped = self.leader()
        await self.nodes[stopped].stop()
        await self.emit_while_disconnected()
        await self.alpaca.when_listening()
        await self.emit()
        self.assert_every_event_received()
        self.assertEqual(sum(client.reconnects > 0 for client in self.clients), CLIENTS // 2)
        await self.nodes[1 - stopped].says("recovery ended: recovered, 1 missed event in")

    async def test_killed_leader_loses_no_event(self) -> None:
        """The other node leads once the lease expires, and backfills the gap."""
        await self.start()
        await self.emit()
        killed = self.leader()
        await self.nodes[killed].stop("KILL")
        await self.emit_while_disconnected()
        await self.alpaca.when_listening()
        await self.emit()
        self.assert_every_event_received()

    async def emit_while_disconnected(self) -> None:
        """Emit an event while no node is connected to Alpaca."""
        await self.alpaca.when_gone()
        self.emit_event()

    async def test_clients_connect_while_alpaca_is_down(self) -> None:
        """No node is ready then; live nodes serve new clients from the log."""
        await self.start()
        await self.emit()
        self.alpaca.inject(Fault(FaultKind.THROTTLE, seconds=PATIENCE))
        self.alpaca.inject(Fault(FaultKind.DROP))
        await self.balancer.says("backend 'ready' has no server available!")
        late = ReconnectingClient(self.ports[2])
        late.events = self.sent[:1]
        late.connect()
        self.addCleanup(late.disconnect)
        await late.when_received(3)
        self.assertEqual(late.events, self.sent)
        self.assert_every_event_received()
        self.assertEqual([client.reconnects for client in self.clients], [0] * CLIENTS)
