"""Two nodes behind a real HAProxy, with a real Redis: what a client has of it when one of them goes."""

from __future__ import annotations

import json
import re
import shutil
from itertools import count
from tempfile import mkdtemp
from typing import Any

import treq
from twisted.internet import reactor as chosen
from twisted.internet import task
from twisted.internet.defer import Deferred

from tests.deploy.cluster import CLUSTER
from tests.deploy.restarts import Returning
from tests.deploy.tools import need
from tests.support.processes import PATIENCE, Command, free_ports, run, spawn
from tests.support.redis import Redis, need_redis
from tests.support.sockets import SocketTestCase
from tradeproxy.simulator.faults import Fault, FaultKind

reactor: Any = chosen

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


class BalancerTests(SocketTestCase):
    """deploy/cluster/haproxy.cfg before two processes, in the place of two containers."""

    timeout = 180

    async def start(self) -> None:
        """Start everything, and let the clients in."""
        haproxy = need("haproxy", "Debian's package haproxy")
        need_redis()
        self.numbers = count()
        self.directory = self.make_directory()
        self.alpaca = await self.simulate()
        await self.start_redis()
        self.ports = free_ports(3)
        self.nodes = [self.node(port) for port in self.ports[:2]]
        self.balancer = self.balance(haproxy)
        for node in self.nodes:
            await node.says("listening on")
        await self.alpaca.when_listening()
        await self.until_ready(*self.ports[:2])
        await self.until_ready(self.ports[2])
        self.clients = [Client(self.ports[2]) for _ in range(CLIENTS)]
        for client in self.clients:
            client.connect()
            self.addCleanup(client.leave)
        for client in self.clients:
            await client.arrives()
        self.sent: list[str] = []

    async def start_redis(self) -> None:
        """Start Redis, with a password."""
        directory = mkdtemp(prefix="redis-")  # a short name: of a socket's path there is little
        self.addCleanup(shutil.rmtree, directory)
        self.redis = Redis(directory, appendonly=True, password="open-sesame")
        self.addCleanup(lambda: Deferred.fromCoroutine(self.redis.kill()))
        await self.redis.start()

    def node(self, port: int) -> Command:
        """Start a node, which clients call by the balancer's name."""
        node = run(
            *("tradeproxy", "run"),
            directory=self.directory,
            ALPACA_API_KEY="PKTEST",
            ALPACA_SECRET_KEY="test-secret",
            ALPACA_URL=f"http://127.0.0.1:{self.alpaca_port}",
            PROXY_PORT=str(port),
            PROXY_REDIS_URL=f"redis://127.0.0.1:{self.redis.port}/0",
            PROXY_REDIS_PASSWORD=self.redis.password,
        )
        self.addCleanup(lambda: Deferred.fromCoroutine(node.stop("KILL")))
        return node

    def balance(self, haproxy: str) -> Command:
        """Start the balancer, with the configuration as it stands."""
        places = [f"127.0.0.1:{port}" for port in self.ports]
        environ = dict(zip(("NODE_A", "NODE_B", "BALANCER_BIND"), places, strict=True))
        command = [haproxy, "-db", "-f", str(CLUSTER / "haproxy.cfg")]
        balancer = spawn(command, self.directory, environ)
        self.addCleanup(lambda: Deferred.fromCoroutine(balancer.stop("KILL")))
        return balancer

    async def until_ready(self, *ports: int) -> None:
        """Ask until all say that they are ready; nobody tells."""
        for port in ports:
            for _ in range(int(PATIENCE * 10)):
                if await self.status(port, "/readyz") == 200:
                    break
                await task.deferLater(reactor, 0.1)
            else:
                self.fail(f"not ready: {[each.output for each in (*self.nodes, self.balancer)]}")

    async def status(self, port: int, path: str) -> int:
        """Return the status of a page, 0 if there is no answer."""
        try:
            answer = await treq.get(f"http://127.0.0.1:{port}{path}", persistent=False)
            await answer.text()
        except Exception:  # of many kinds, while it starts
            return 0
        status: int = answer.code
        return status

    def leader(self) -> int:
        """Return which node leads: the one whose log last said so."""
        words = [re.findall("this node (holds|leads no longer)", node.output) for node in self.nodes]
        [leading] = [number for number, said in enumerate(words) if said and said[-1] == "holds"]
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

    def happen(self) -> None:
        """Let something happen."""
        number = next(self.numbers)
        identity = f"01KYA98DWAS5PA5B{number:010d}"
        self.alpaca.emit({"event_id": identity, "event": "new", "order": {"id": f"{number}"}})
        self.sent.append(identity)

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
