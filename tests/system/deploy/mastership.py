"""Two Redis, three Sentinels, and an address that follows the master: and a node when that dies."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.support.processes import free_ports, spawn
from tests.support.redis import Redis
from tests.system.deploy.cluster import CLUSTER
from tests.system.deploy.clustercase import PASSWORD, ClusterCase
from tests.system.deploy.restarts import Returning


class MasterTests(ClusterCase):
    """deploy/cluster/haproxy-redis.cfg and sentinel.conf, as they stand but for their addresses."""

    timeout = 120

    async def test_a_node_goes_on_with_the_replica(self) -> None:
        """A client has every event once, in order, on one connection; the old master, back, is not used."""
        await self.start()
        await self.emit(3)
        await self.until_says(self.two, "3", "hget", "tradeproxy:{paper}:state", "last")
        await self.one.kill()
        await self.until_says(self.two, "master", "role")
        await self.until_ready(self.port)
        await self.emit(3)
        self.assertEqual((self.client.events, self.client.troubles), (self.sent, []))

        await self.one.start()
        await self.until_says(self.one, "slave", "role")
        await self.emit(3)
        self.assertEqual((self.client.events, self.client.troubles), (self.sent, []))
        self.assertEqual(self.client.returns, 0)
        self.assertNotIn("reading it from the start", self.node.output)

    async def start(self) -> None:
        """Start everything, and let a client in."""
        self.one, self.two = await self.start_redis(), await self.start_redis()
        for redis in (self.one, self.two):  # each could be the other's replica
            await redis.cli("config", "set", "masterauth", PASSWORD)
        await self.two.cli("replicaof", "127.0.0.1", str(self.one.port))
        for port in free_ports(3):
            self.sentinel(port)
        self.port, address = free_ports(2)
        self.start_haproxy(
            "haproxy-redis.cfg",
            REDIS_BIND=f"127.0.0.1:{address}",
            REDIS_ONE=f"127.0.0.1:{self.one.port}",
            REDIS_TWO=f"127.0.0.1:{self.two.port}",
            REDIS_PASSWORD=PASSWORD,
        )
        self.alpaca = await self.simulate()
        self.node = self.start_node(self.port, address)
        await self.alpaca.when_listening()
        await self.until_ready(self.port)
        self.client = Returning(self.port)
        self.client.connect()
        self.addCleanup(self.client.leave)
        await self.client.arrives()

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

    async def until_says(self, redis: Redis, expected: str, *command: str) -> None:
        """Ask a Redis until this is the first line of its answer."""

        async def first_line() -> str:
            return (await redis.cli(*command)).split("\n")[0]

        await self.until(first_line, expected)

    async def emit(self, times: int) -> None:
        """Let something happen at Alpaca, and wait until the client has it."""
        for _ in range(times):
            self.happen()
        await self.client.has(len(self.sent))
