"""What goes wrong in a cluster, in an order that a seed decides. Each step waits for what must come of it."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Awaitable, Callable
from math import inf
from random import Random
from time import monotonic, time
from typing import Any

from twisted.internet import reactor as chosen
from twisted.internet.task import deferLater

from tests.support.cut import Way
from tests.system.cluster.world import Node, StuckError, World, at_once, until
from tradeproxy.simulator.faults import Fault, FaultKind

reactor: Any = chosen
GONE_WITHIN = 9.0
"""Seconds after its last renewal in which a leader must be gone from Alpaca: 7, and 2 for the goodbye."""

WAKEFUL = 1.0
"""Seconds more for two cores that have much else to do."""

Step = Callable[[], Awaitable[None]]


class Nemesis:
    """Does one thing after the other, and puts it right; the cluster is whole between two of them."""

    def __init__(self, world: World, random: Random) -> None:
        self.counts: Counter[str] = Counter()
        self.trail: list[str] = []
        """What was done, with the seconds since the beginning."""
        self.forgotten: set[int] = set()
        """The events that Redis had and has lost, but for those of one that was emptied."""
        self.losses: list[tuple[float, float]] = []
        """When it lost any, and when all was whole again (Unix time)."""
        self._world = world
        self._random = random
        self._began = monotonic()
        self._due: list[Step] = []
        self._steps: tuple[Step, ...] = (
            self.kill_leader,
            self.kill_follower,
            self.kill_all,
            self.stop_leader,
            self.cut_leader_off_shortly,
            self.cut_leader_off_for_long,
            self.cut_follower_off,
            self.kill_leader_that_is_cut_off,
            self.restart_redis,
            self.roll_redis_back,
            self.empty_redis,
            self.pause_redis,
            self.restart_all_in_turn,
            self.end_upstream,
        )

    async def strike(self, name: str = "") -> None:
        """Take the next step, each once before any comes again; or the one that is named."""
        if not self._due:
            self._due = self._random.sample(self._steps, len(self._steps))
        step: Step = getattr(self, name) if name else self._due.pop()
        text = step.__name__.replace("_", " ")
        self.counts[text] += 1
        # With one, the next leader waits for the last one's connection to end; with two, both would be seen.
        self._world.alpaca.most = self._random.choice((1, 2, 2))
        self.note(f"{text}, {self._world.alpaca.most} allowed")
        await step()
        await self._world.heal()
        self.losses = [(begin, min(end, time())) for begin, end in self.losses]

    def note(self, text: str) -> None:
        """Write down what was done."""
        self.trail.append(f"{monotonic() - self._began:6.1f} {text}")

    # The nodes.

    async def kill_leader(self) -> None:
        """Kill it; it starts again at once, or when another has taken over."""
        leader = await self._world.find_leader()
        self._burst()
        await leader.stop("KILL")
        if self._random.random() < 0.5:
            await leader.start()
            await self._world.find_leader()
        else:
            await self._world.until_led_by_another(leader)
            await leader.start()

    async def kill_follower(self) -> None:
        """Kill one that follows; whoever leads goes on."""
        leader, follower = await self._leader_and_follower()
        self._burst()
        await follower.stop("KILL")
        await follower.start()
        self._expect(self._world.leader is leader, "the leader goes on when a follower is killed")

    async def kill_all(self) -> None:
        """Kill every node, and start them again."""
        self._burst()
        await at_once(node.stop("KILL") for node in self._world.nodes)
        await at_once(node.start() for node in self._world.nodes)

    async def stop_leader(self) -> None:
        """Stop it until its lease has run out, and wake it: it finds that it leads no longer."""
        leader = await self._world.find_leader()
        visit = self._world.alpaca.listener
        assert visit is not None
        self._burst()
        leader.pause()
        await self._wait(12, 14)
        if self._world.alpaca.most > 1:
            await self._world.until_led_by_another(leader)
        self._burst()  # which both are told
        leader.wake()
        await until(
            lambda: visit.ended is not None, "a leader that was stopped lets go of the stream", 12
        )

    async def restart_all_in_turn(self) -> None:
        """Restart every node cleanly, one after the other."""
        for node in self._random.sample(self._world.nodes, len(self._world.nodes)):
            self._burst()
            await node.stop()
            await node.start()
            await node.until_ready()

    # The way to Redis.

    async def cut_leader_off_shortly(self) -> None:
        """Cut the leader off for less than it takes it to give up: it keeps the stream."""
        leader = await self._world.find_leader()
        visit = self._world.alpaca.listener
        assert visit is not None
        await self._cut(leader)
        await self._wait(0.3, 2)
        self._burst()
        await leader.cut.mend()
        await leader.until_ready()
        self._expect(visit.ended is None, "a leader that is cut off shortly keeps the stream")

    async def cut_leader_off_for_long(self) -> None:
        """Cut the leader off until it must have given up, and another has taken over."""
        leader = await self._world.find_leader()
        visit = self._world.alpaca.listener
        assert visit is not None
        await self._cut(leader)
        cut = monotonic()
        self._burst()
        await until(
            lambda: visit.ended is not None, "a leader that is cut off gives the stream up", 12
        )
        assert visit.ended is not None
        self._expect(visit.ended - cut <= GONE_WITHIN + WAKEFUL, "it gives the stream up in time")
        self._burst()
        await self._world.until_led_by_another(leader)
        await self._wait(0, 3)

    async def cut_follower_off(self) -> None:
        """Cut one that follows off; whoever leads goes on."""
        leader, follower = await self._leader_and_follower()
        await self._cut(follower)
        self._burst()
        await self._wait(0.5, 5)
        self._burst()
        self._expect(self._world.leader is leader, "the leader goes on when a follower is cut off")

    async def kill_leader_that_is_cut_off(self) -> None:
        """Kill a leader with all that it could not write."""
        leader = await self._world.find_leader()
        await self._cut(leader)
        self._burst()
        await self._wait(0.1, 2)
        await leader.stop("KILL")
        await leader.cut.mend()
        await leader.start()

    async def _cut(self, node: Node) -> None:
        way = self._random.choice((Way.REFUSED, Way.SILENT, Way.DEAF))
        self.note(f"  {node.name}: {way.name}")
        await node.cut.cut(way)

    # Redis itself.

    async def restart_redis(self) -> None:
        """Kill it, and start it again with its data."""
        self._burst()
        await self._world.redis.kill()
        await self._wait(0.1, 4)
        self._burst()
        await self._world.redis.start()

    async def roll_redis_back(self) -> None:
        """Kill it, and start it again without what it was told last, as after a power cut."""
        written = self._world.redis.written()
        self._burst()
        await self._wait(0.2, 1)
        await self._world.redis.kill()
        dropped = self._world.redis.roll_back(written)
        self.forgotten |= {int(number) for number in re.findall(rb'"n":([0-9]+)', dropped)}
        self.losses.append((time(), inf))
        await self._wait(0.1, 1)
        await self._world.redis.start()

    async def empty_redis(self) -> None:
        """Kill it, and start it again without any data."""
        self._burst()
        await self._world.redis.kill()
        await self._wait(0.1, 3)
        self._world.redis.forget()
        self.losses.append((time(), inf))
        await self._world.redis.start()

    async def pause_redis(self) -> None:
        """Let it answer nothing for a while: for less than a leader waits, or for longer."""
        self._burst()
        self._world.redis.pause()
        await self._wait(*self._random.choice(((0.5, 3), (9, 12))))
        self._burst()
        self._world.redis.resume()

    # Alpaca.

    async def end_upstream(self) -> None:
        """End the stream: with a close frame, without one, by a reset."""
        for _ in range(3):
            await self._world.find_leader()
            self._burst()
            kind = self._random.choice((FaultKind.CLOSE, FaultKind.DROP, FaultKind.RESET))
            self._world.alpaca.inject(Fault(kind))
            await self._wait(0.1, 1)

    async def _leader_and_follower(self) -> tuple[Node, Node]:
        leader = await self._world.find_leader()
        return leader, self._random.choice(
            [node for node in self._world.nodes if node is not leader]
        )

    def _burst(self) -> None:
        self._world.emit(self._random.randint(5, 100))

    def _expect(self, is_so: bool, what: str) -> None:
        if not is_so:
            raise StuckError(f"not so: {what}")

    async def _wait(self, least: float, most: float) -> None:
        await deferLater(reactor, self._random.uniform(least, most))
