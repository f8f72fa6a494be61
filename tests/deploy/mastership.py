"""Two Redis, three Sentinels, and an address that follows the master: and a node when that dies."""

from __future__ import annotations

import shutil
from itertools import count
from pathlib import Path
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

reactor: Any = chosen

PASSWORD = "open-sesame"


class MasterTests(SocketTestCase):
    """deploy/cluster/haproxy-redis.cfg and sentinel.conf, as they stand but for their addresses."""

    timeout = 120

    async def test_a_node_goes_on_with_the_replica(self) -> None:
        """A client has every event once, in order, on one connection; the old master, back, is not used."""
        await self.start()
        await self.emit(3)
        await self.until(lambda: self.two.cli("hget", "tradeproxy:{paper}:state", "last"), "3")
        await self.one.kill()
        await self.until(lambda: self.two.cli("role"), "master")
        await self.until_ready()
        await self.emit(3)
        self.assertEqual((self.client.events, self.client.troubles), (self.sent, []))

        await self.one.start()
        await self.until(lambda: self.one.cli("role"), "slave")
        await self.emit(3)
        self.assertEqual((self.client.events, self.client.troubles), (self.sent, []))
        self.assertEqual(self.client.returns, 0)
        self.assertNotIn("it is read anew", self.proxy_process.output)

    async def start(self) -> None:
        """Start everything, and let a client in."""
        haproxy = need("haproxy", "Debian's package haproxy")
        need_redis()
        self.directory = self.make_directory()
        self.one, self.two = await self.redis(), await self.redis()
        await self.two.cli("replicaof", "127.0.0.1", str(self.one.port))
        for port in free_ports(3):
            self.sentinel(port)
        self.port, address = free_ports(2)
        self.balance(haproxy, address)
        self.alpaca = await self.simulate()
        self.proxy_process = self.node(address)
        await self.alpaca.when_listening()
        await self.until_ready()
        self.numbers, self.sent = count(), list[str]()
        self.client = Returning(self.port)
        self.client.connect()
        self.addCleanup(self.client.leave)
        await self.client.arrives()

    async def redis(self) -> Redis:
        """Start one that could be the other's replica."""
        directory = mkdtemp(prefix="redis-")  # a short name: of a socket's path there is little
        self.addCleanup(shutil.rmtree, directory)
        redis = Redis(directory, appendonly=True, password=PASSWORD)
        self.addCleanup(lambda: Deferred.fromCoroutine(redis.kill()))
        await redis.start()
        await redis.cli("config", "set", "masterauth", PASSWORD)
        return redis

    def sentinel(self, port: int) -> None:
        """Start one of those who choose."""
        text = (CLUSTER / "sentinel.conf").read_text(encoding="utf-8")
        for written, meant in (
            ("port 26379", f"port {port}\nbind 127.0.0.1"),
            ("dir /var/lib/redis", f"dir {self.directory}"),
            ("redis-one 6379", f"127.0.0.1 {self.one.port}"),
            ("# sentinel auth-pass tradeproxy", f"sentinel auth-pass tradeproxy {PASSWORD} #"),
        ):
            self.assertEqual(text.count(written), 1, written)
            text = text.replace(written, meant)
        text = "".join(line for line in text.splitlines(keepends=True) if not line.startswith("#"))
        file = Path(self.directory, f"sentinel-{port}.conf")
        file.write_text(
            text.replace(f"{PASSWORD} # <the password, in the file on the machine only>", PASSWORD)
        )
        program = shutil.which("redis-server")
        self.ended_at_last(spawn([str(program), str(file), "--sentinel"], self.directory, {}))

    def balance(self, haproxy: str, port: int) -> None:
        """Start what knows the master."""
        environ = {
            "REDIS_BIND": f"127.0.0.1:{port}",
            "REDIS_ONE": f"127.0.0.1:{self.one.port}",
            "REDIS_TWO": f"127.0.0.1:{self.two.port}",
            "REDIS_PASSWORD": PASSWORD,
        }
        command = [haproxy, "-db", "-f", str(CLUSTER / "haproxy-redis.cfg")]
        self.ended_at_last(spawn(command, self.directory, environ))

    def node(self, redis: int) -> Command:
        """Start a node with Redis at a port."""
        node = run(
            *("tradeproxy", "run"),
            directory=self.directory,
            ALPACA_API_KEY="PKTEST",
            ALPACA_SECRET_KEY="test-secret",
            ALPACA_URL=f"http://127.0.0.1:{self.alpaca_port}",
            PROXY_PORT=str(self.port),
            PROXY_REDIS_URL=f"redis://:{PASSWORD}@127.0.0.1:{redis}/0",
        )
        self.ended_at_last(node)
        return node

    def ended_at_last(self, command: Command) -> None:
        """See to it that it does not outlive the test."""
        self.addCleanup(lambda: Deferred.fromCoroutine(command.stop("KILL")))

    async def until(self, ask: Any, expected: str) -> None:
        """Ask Redis until it says so."""
        for _ in range(int(PATIENCE * 5)):
            said = (await ask()).split("\n")[0]
            if said == expected:
                return
            await task.deferLater(reactor, 0.2)
        self.fail(f"it says {said}, and not {expected}; the node: {self.proxy_process.output}")

    async def until_ready(self) -> None:
        """Ask the node until it is ready."""
        for _ in range(int(PATIENCE * 5)):
            answer = await treq.get(f"http://127.0.0.1:{self.port}/readyz", persistent=False)
            text = await answer.text()
            if answer.code == 200:
                return
            await task.deferLater(reactor, 0.2)
        self.fail(text)

    async def emit(self, times: int) -> None:
        """Let something happen at Alpaca, and wait until the client has it."""
        for _ in range(times):
            number = next(self.numbers)
            identity = f"01KYA98DWAS5PA5B{number:010d}"
            self.alpaca.emit({"event_id": identity, "event": "new", "order": {"id": f"{number}"}})
            self.sent.append(identity)
        await self.client.has(len(self.sent))
