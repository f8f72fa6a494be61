"""Two nodes behind a real HAProxy, with a real Redis: what a client has of it when one of them goes."""

from __future__ import annotations

import json
import re

import treq

from tests.support.processes import PATIENCE, free_ports
from tests.system.deploy.clustercase import ClusterCase
from tests.system.deploy.restarts import Returning
from tradeproxy.simulator.faults import Fault, FaultKind

CLIENTS = 20


class Client(Returning):
    """One that comes back whatever has ended its connection: a node that is killed says nothing."""

    has_left = False

    def left(self, code: int | None, reason: str) -> None:
        """Come back at once, unless it was this client that went."""
        if not self.has_left:
            self.returns += 1
            self.connect()

    def leave(self) -> None:
        """Go for good."""
        self.has_left = True
        super().leave()


class BalancerTests(ClusterCase):
    """deploy/cluster/haproxy.cfg before two processes, in the place of two containers."""

    timeout = 180

    async def start(self) -> None:
        """Start everything, and let the clients in."""
        self.alpaca = await self.simulate()
        redis = await self.start_redis()
        self.ports = free_ports(3)
        self.nodes = [self.start_node(port, redis.port) for port in self.ports[:2]]
        places = [f"127.0.0.1:{port}" for port in self.ports]
        environ = dict(zip(("NODE_A", "NODE_B", "BALANCER_BIND"), places, strict=True))
        self.balancer = self.start_haproxy("haproxy.cfg", **environ)
        for node in self.nodes:
            await node.says("listening on")
        await self.alpaca.when_listening()
        for port in self.ports:
            await self.until_ready(port)
        self.clients = [Client(self.ports[2]) for _ in range(CLIENTS)]
        for client in self.clients:
            client.connect()
            self.addCleanup(client.leave)
        for client in self.clients:
            await client.arrives()

    def leader(self) -> int:
        """Return which node leads: the one whose log last said so."""
        words = [
            re.findall("this node is (now|no longer) the leader", node.output) for node in self.nodes
        ]
        [leading] = [number for number, said in enumerate(words) if said and said[-1] == "now"]
        return leading

    async def emit(self, times: int = 3) -> None:
        """Let something happen at Alpaca, and wait until every client has all that happened."""
        for _ in range(times):
            self.happen()
        for client in self.clients:
            await client.has(len(self.sent))

    def assert_all_is_well(self) -> None:
        """Each client has every event once and in order, and none was refused."""
        self.assertEqual([client.events for client in self.clients], [self.sent] * CLIENTS)
        self.assertEqual([client.troubles for client in self.clients], [[]] * CLIENTS)

    async def held(self) -> list[int]:
        """Return how many clients each node has."""
        found = []
        for port in self.ports[:2]:
            answer = await treq.get(f"http://127.0.0.1:{port}/readyz", persistent=False)
            found.append(json.loads(await answer.text())["accounts"]["paper"]["clients"])
        return found

    async def test_a_node_that_is_stopped_takes_nothing_with_it(self) -> None:
        """Each node has half of the clients; those of the one that leads and is stopped go to the other."""
        await self.start()
        await self.emit()
        self.assertEqual(await self.held(), [CLIENTS // 2] * 2)
        stopped = self.leader()
        await self.nodes[stopped].stop()
        await self.emit_meanwhile()
        await self.alpaca.when_listening()
        await self.emit()
        self.assert_all_is_well()
        self.assertEqual(sum(client.returns > 0 for client in self.clients), CLIENTS // 2)
        await self.nodes[1 - stopped].says("recovery ended: recovered, 1 missed events")

    async def test_a_node_that_is_killed_takes_nothing_with_it(self) -> None:
        """The other one leads once the lease has run out, and asks Alpaca what happened meanwhile."""
        await self.start()
        await self.emit()
        killed = self.leader()
        await self.nodes[killed].stop("KILL")
        await self.emit_meanwhile()
        await self.alpaca.when_listening()
        await self.emit()
        self.assert_all_is_well()

    async def emit_meanwhile(self) -> None:
        """Let something happen while nobody listens."""
        await self.alpaca.when_gone()
        self.happen()

    async def test_while_alpaca_is_down_clients_get_in(self) -> None:
        """No node is ready then; who comes is served by those that live, and has what the log has."""
        await self.start()
        await self.emit()
        self.alpaca.inject(Fault(FaultKind.THROTTLE, seconds=PATIENCE))
        self.alpaca.inject(Fault(FaultKind.DROP))
        await self.balancer.says("backend 'ready' has no server available!")
        late = Client(self.ports[2])
        late.events = self.sent[:1]
        late.connect()
        self.addCleanup(late.leave)
        await late.has(3)
        self.assertEqual(late.events, self.sent)
        self.assert_all_is_well()
        self.assertEqual([client.returns for client in self.clients], [0] * CLIENTS)
