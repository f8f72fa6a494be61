"""What every scenario of a cluster run has: counted steps, their trail, and what Redis lost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from random import Random
from time import monotonic
from typing import Any

from twisted.internet import reactor as chosen
from twisted.internet.task import deferLater

from tests.system.cluster.world import ClusterWorld, NodeProcess, StuckError

reactor: Any = chosen

Step = Callable[[], Awaitable[None]]


class Scenario:
    """The base of the scenarios. Clients follow and events flow while one runs."""

    def __init__(self, world: ClusterWorld, random: Random) -> None:
        self.counts: Counter[str] = Counter()
        self.trail: list[str] = []
        """The steps, with the seconds since the start."""
        self.lost_events: set[int] = set()
        """The events that Redis lost in rollbacks; those lost by emptying it are not included."""
        self.losses: list[tuple[float, float]] = []
        """When Redis lost events, and when every node was ready again (Unix time)."""
        self._world = world
        self._random = random
        self._began = monotonic()

    async def run(self) -> None:
        """Run every step; the world has started. Raises StuckError."""
        raise NotImplementedError

    def note(self, text: str) -> None:
        """Add a line to the trail."""
        self.trail.append(f"{monotonic() - self._began:6.1f} {text}")

    def _count(self, step: Step) -> str:
        """Count a step, and return its name."""
        text = step.__name__.replace("_", " ")
        self.counts[text] += 1
        return text

    async def _leader_and_follower(self) -> tuple[NodeProcess, NodeProcess]:
        leader = await self._world.find_leader()
        return leader, self._random.choice(
            [node for node in self._world.nodes if node is not leader]
        )

    def _emit_events(self) -> None:
        self._world.emit(self._random.randint(5, 100))

    def _expect(self, is_true: bool, what: str) -> None:
        if not is_true:
            raise StuckError(f"not so: {what}")

    async def _wait(self, least: float, most: float) -> None:
        await deferLater(reactor, self._random.uniform(least, most))
