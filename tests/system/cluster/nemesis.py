"""Injects faults into a cluster, in an order that a seed decides, and waits for their effects."""

from __future__ import annotations

import re
from collections.abc import Sequence
from math import inf
from random import Random
from time import monotonic, time

from tests.support.tcp_relay import RelayMode
from tests.system.cluster.scenario import Scenario, Step
from tests.system.cluster.world import (
    ACCOUNT,
    ClusterWorld,
    NodeProcess,
    run_concurrently,
    until,
)
from tradeproxy.cluster.scripts import KEYS
from tradeproxy.simulator.faults import Fault, FaultKind

MAX_TERM = 9.0
"""Seconds after its last renewal in which a leader must disconnect: STOP_AFTER, and 2 to close."""

SLACK = 1.0
"""Seconds more, since two cores run everything."""


class ClusterNemesis(Scenario):
    """Injects one fault at a time and repairs it; between two faults every node is ready."""

    def __init__(
        self, world: ClusterWorld, random: Random, names: Sequence[str], seconds: float
    ) -> None:
        """Run the steps in `names` first, then random ones until `seconds` have passed."""
        super().__init__(world, random)
        self._names = names
        self._seconds = seconds
        self._due: list[Step] = []
        self._steps: tuple[Step, ...] = (
            self.kill_leader,
            self.kill_follower,
            self.kill_all,
            self.pause_leader,
            self.cut_leader_off_shortly,
            self.cut_leader_off_for_long,
            self.cut_follower_off,
            self.kill_leader_that_is_cut_off,
            self.restart_redis,
            self.roll_redis_back,
            self.empty_redis,
            self.flush_redis_and_replace_leader,
            self.empty_redis_and_replace_nodes,
            self.delete_a_key,
            self.delete_a_key_and_kill_leader,
            self.restore_older_snapshot,
            self.restore_older_snapshot_and_kill_leader,
            self.pause_redis,
            self.restart_all_in_turn,
            self.end_upstream,
        )

    async def run(self) -> None:
        limit = monotonic() + self._seconds
        for name in self._names:
            await self._run_step(name)
        while monotonic() < limit:
            await self._run_step()

    async def _run_step(self, name: str = "") -> None:
        """Run the named step, or the next random one; each runs once before any repeats."""
        if not self._due:
            self._due = self._random.sample(self._steps, len(self._steps))
        step: Step = getattr(self, name) if name else self._due.pop()
        text = self._count(step)
        # With one, the next leader waits until the old connection ends; with two, an overlap shows.
        self._world.alpaca.max_connections = self._random.choice((1, 2, 2))
        self.note(f"{text}, {self._world.alpaca.max_connections} allowed")
        await step()
        await self._world.heal()
        self.losses = [(begin, min(end, time())) for begin, end in self.losses]

    # The nodes.

    async def kill_leader(self) -> None:
        """Kill it; restart it at once, or after another node has taken over."""
        leader = await self._world.find_leader()
        self._emit_events()
        await leader.stop("KILL")
        if self._random.random() < 0.5:
            await leader.start()
            await self._world.find_leader()
        else:
            await self._world.until_led_by_another(leader)
            await leader.start()

    async def kill_follower(self) -> None:
        """Kill a follower; the leader continues."""
        leader, follower = await self._leader_and_follower()
        self._emit_events()
        await follower.stop("KILL")
        await follower.start()
        self._expect(self._world.leader is leader, "the leader goes on when a follower is killed")

    async def kill_all(self) -> None:
        """Kill every node, and restart them."""
        self._emit_events()
        await run_concurrently(node.stop("KILL") for node in self._world.nodes)
        await run_concurrently(node.start() for node in self._world.nodes)

    async def pause_leader(self) -> None:
        """Pause it until its lease has expired, and resume it: it no longer leads."""
        leader = await self._world.find_leader()
        connection = self._world.alpaca.listener
        assert connection is not None
        self._emit_events()
        leader.pause()
        await self._wait(12, 14)
        if self._world.alpaca.max_connections > 1:
            await self._world.until_led_by_another(leader)
        self._emit_events()  # both connections get them
        leader.resume()
        await until(
            lambda: connection.ended is not None,
            "a leader that was paused closes its connection",
            12,
        )

    async def restart_all_in_turn(self) -> None:
        """Restart every node cleanly, one after the other."""
        for node in self._random.sample(self._world.nodes, len(self._world.nodes)):
            self._emit_events()
            await node.stop()
            await node.start()
            await node.until_ready()

    # The way to Redis.

    async def cut_leader_off_shortly(self) -> None:
        """Cut the leader off from Redis for less than STOP_AFTER: it keeps the stream."""
        leader = await self._world.find_leader()
        connection = self._world.alpaca.listener
        assert connection is not None
        await self._cut(leader)
        await self._wait(0.3, 2)
        self._emit_events()
        await leader.relay.restore()
        await leader.until_ready()
        self._expect(connection.ended is None, "a leader that is cut off shortly keeps the stream")

    async def cut_leader_off_for_long(self) -> None:
        """Cut the leader off from Redis until it has stopped and another one leads."""
        leader = await self._world.find_leader()
        connection = self._world.alpaca.listener
        assert connection is not None
        await self._cut(leader)
        cut = monotonic()
        self._emit_events()
        await until(
            lambda: connection.ended is not None,
            "a leader that is cut off closes its connection",
            12,
        )
        assert connection.ended is not None
        self._expect(connection.ended - cut <= MAX_TERM + SLACK, "it closes its connection in time")
        self._emit_events()
        await self._world.until_led_by_another(leader)
        await self._wait(0, 3)

    async def cut_follower_off(self) -> None:
        """Cut a follower off from Redis; the leader continues."""
        leader, follower = await self._leader_and_follower()
        await self._cut(follower)
        self._emit_events()
        await self._wait(0.5, 5)
        self._emit_events()
        self._expect(self._world.leader is leader, "the leader goes on when a follower is cut off")

    async def kill_leader_that_is_cut_off(self) -> None:
        """Kill a leader whose outbox it could not write."""
        leader = await self._world.find_leader()
        await self._cut(leader)
        self._emit_events()
        await self._wait(0.1, 2)
        await leader.stop("KILL")
        await leader.relay.restore()
        await leader.start()

    async def _cut(self, node: NodeProcess) -> None:
        mode = self._random.choice((RelayMode.REFUSED, RelayMode.SILENT, RelayMode.DEAF))
        self.note(f"  {node.name}: {mode.name}")
        await node.relay.set_mode(mode)

    # Redis itself.

    async def restart_redis(self) -> None:
        """Kill it, and start it again with its data."""
        self._emit_events()
        await self._world.redis.kill()
        await self._wait(0.1, 4)
        self._emit_events()
        await self._world.redis.start()

    async def roll_redis_back(self) -> None:
        """Kill it, and start it again without its last writes, as after a power cut."""
        size = self._world.redis.file_size()
        self._emit_events()
        await self._wait(0.2, 1)
        await self._roll_back(size)

    async def _roll_back(self, size: int) -> None:
        """Start Redis again with the first `size` bytes of its file."""
        await self._world.redis.kill()
        dropped = self._world.redis.roll_back(size)
        self.lost_events |= {int(number) for number in re.findall(rb'"n":([0-9]+)', dropped)}
        self.losses.append((time(), inf))
        await self._wait(0.1, 1)
        await self._world.redis.start()

    async def empty_redis(self) -> None:
        """Kill it, and start it again without any data."""
        self._emit_events()
        await self._world.redis.kill()
        self.losses.append((time(), inf))
        await self._wait(0.1, 3)
        self._world.redis.delete_data()
        await self._world.redis.start()

    async def flush_redis_and_replace_leader(self) -> None:
        """Delete all data, and kill the leader; it returns within two seconds, knowing nothing."""
        leader = await self._world.find_leader()
        self._emit_events()
        self.losses.append((time(), inf))
        await self._world.redis.cli("FLUSHALL")
        await leader.stop("KILL")
        await self._wait(0, 2)
        await leader.start()
        await self._emit_until_ready()

    async def empty_redis_and_replace_nodes(self) -> None:
        """Empty Redis, and kill all nodes, or all but one."""
        nodes = self._random.sample(self._world.nodes, len(self._world.nodes))
        killed = nodes[self._random.choice((0, 1)) :]
        self.note(f"  killed: {', '.join(sorted(node.name for node in killed))}")
        self._emit_events()
        await self._world.redis.kill()
        self.losses.append((time(), inf))
        await run_concurrently(node.stop("KILL") for node in killed)
        self._world.redis.delete_data()
        await self._world.redis.start()
        await run_concurrently(node.start() for node in killed)
        await self._emit_until_ready()

    async def delete_a_key(self) -> None:
        """Delete one key of the log, as an operator does by mistake."""
        await self._delete_key(self._random.choice(KEYS))
        await self._wait(0, 5)
        await self._emit_until_ready()

    async def delete_a_key_and_kill_leader(self) -> None:
        """Delete one key of the log, and kill the leader soon after."""
        leader = await self._world.find_leader()
        await self._delete_key(self._random.choice(KEYS))
        await self._wait(0, 1)
        await leader.stop("KILL")
        await self._wait(0, 2)
        await leader.start()
        await self._emit_until_ready()

    async def _delete_key(self, key: str) -> None:
        self.note(f"  deleted: {key}")
        self._emit_events()
        self.losses.append((time(), inf))
        await self._world.redis.cli("DEL", f"tradeproxy:{{{ACCOUNT}}}:{key}")

    async def restore_older_snapshot(self) -> None:
        """Start Redis with the data of several seconds and one leader ago."""
        await self._restore_snapshot(self._world.nodes[:0])

    async def restore_older_snapshot_and_kill_leader(self) -> None:
        """Start Redis with older data; the leader is a new process."""
        await self._restore_snapshot([await self._world.find_leader()])

    async def _restore_snapshot(self, killed: Sequence[NodeProcess]) -> None:
        size = self._world.redis.file_size()
        for _ in range(self._random.randint(0, 2)):
            self._emit_events()
            if self._random.random() < 0.5:
                leader = await self._world.find_leader()
                await leader.stop()
                await leader.start()
            await self._wait(0.5, 2)
        self._emit_events()
        await run_concurrently(node.stop("KILL") for node in killed)
        await self._roll_back(size)
        await run_concurrently(node.start() for node in killed)
        await self._emit_until_ready()

    async def _emit_until_ready(self) -> None:
        self._emit_events()
        await self._world.until_ready()
        self._emit_events()

    async def pause_redis(self) -> None:
        """Pause it, for less than STOP_AFTER or for longer."""
        self._emit_events()
        self._world.redis.pause()
        await self._wait(*self._random.choice(((0.5, 3), (9, 12))))
        self._emit_events()
        self._world.redis.resume()

    # Alpaca.

    async def end_upstream(self) -> None:
        """End the stream with a close frame, without one, or by a reset."""
        for _ in range(3):
            await self._world.find_leader()
            self._emit_events()
            kind = self._random.choice((FaultKind.CLOSE, FaultKind.DROP, FaultKind.RESET))
            self._world.alpaca.inject(Fault(kind))
            await self._wait(0.1, 1)
