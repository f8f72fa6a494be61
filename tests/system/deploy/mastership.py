"""Failover of Redis: two Redis, three Sentinels, and HAProxy in front of the master."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.support.processes import free_ports, spawn
from tests.support.redis import Redis
from tests.system.deploy.cluster import CLUSTER
from tests.system.deploy.clustercase import PASSWORD, DeployedClusterTestCase
from tests.system.deploy.restarts import ReturningClient


class RedisFailoverTests(DeployedClusterTestCase):
    """deploy/cluster/haproxy-redis.cfg and sentinel.conf, with other addresses."""

    timeout = 120

    async def test_failover_keeps_client_connected_without_loss(self) -> None:
        """A client gets every event once and in order; the old master becomes a replica."""
        await self.start()
        await self.emit(3)
        await self.wait_for_reply(self.two, "3", "hget", "tradeproxy:{paper}:state", "last")
        await self.one.kill()
        await self.wait_for_reply(self.two, "master", "role")
        await self.until_ready(self.port)
        await self.emit(3)
        self.assertEqual((self.client.events, self.client.problems), (self.sent, []))

        await self.one.start()
        await self.wait_for_reply(self.one, "slave", "role")
        await self.emit(3)
        self.assertEqual((self.client.events, self.client.problems), (self.sent, []))
        self.assertEqual(self.client.reconnects, 0)
        self.assertNotIn("reading it from the start", self.node.output)

    async def start(self) -> None:
        """Start everything, and connect a client."""
        self.one, self.two = await self.start_redis(), await self.start_redis()
        for redis in (self.one, self.two):  # each may become the other's replica
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
        self.client = ReturningClient(self.port)
        self.client.connect()
        self.addCleanup(self.client.disconnect)
        await self.client.when_authenticated()

    def sentinel(self, port: int) -> None:
        """Start one Sentinel."""
        text = (CLUSTER / "sentinel.conf").read_text(encoding="utf-8")
        for old, new in (
            ("port 26379", f"port {port}\nbind 127.0.0.1"),
            ("dir /var/lib/redis", f"dir {self.directory}"),
            ("redis-one 6379", f"127.0.0.1 {self.one.port}"),
            ("# sentinel auth-pass tradeproxy", f"sentinel auth-pass tradeproxy {PASSWORD} #"),
        ):
            self.assertEqual(text.count(old), 1, old)
            text = text.replace(old, new)
        text = "".join(line for line in text.splitlines(keepends=True) if not line.startswith("#"))
        file = Path(self.directory, f"sentinel-{port}.conf")
        file.write_text(
            text.replace(f"{PASSWORD} # <the password, in the file on the machine only>", PASSWORD)
        )
        program = shutil.which("redis-server")
        self.kill_at_end(spawn([str(program), str(file), "--sentinel"], self.directory, {}))

    async def wait_for_reply(self, redis: Redis, expected: str, *command: str) -> None:
        """Send a command to Redis until the first line of the reply is `expected`."""

        async def first_line() -> str:
            try:
                return (await redis.cli(*command)).split("\n")[0]
            except AssertionError as error:
                # Sentinel closes all connections of a Redis whose role it changes.
                return str(error)

        await self.until(first_line, expected)

    async def emit(self, times: int) -> None:
        """Emit events at Alpaca, and wait until the client has received them."""
        for _ in range(times):
            self.emit_event()
        await self.client.when_received(len(self.sent))
