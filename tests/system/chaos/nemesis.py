"""The nemesis: it injects faults in an order that a seed determines."""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import TYPE_CHECKING

from tests.system.chaos.journal_faults import JournalFaults
from tests.system.chaos.outages import Outages
from tests.system.chaos.short_faults import ShortFaults

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from tests.system.chaos.fault_group import Strike
    from tests.system.chaos.resuming import ResumingClient
    from tests.system.chaos.run import ChaosWorld

ALL_FROM = 100
"""The number of faults from which a run has each long one."""


class UnknownFaultError(Exception):
    """No fault has this name. The message lists all names."""


class Nemesis:
    """Picks faults at random and injects them.

    A fault is named after its function. The long ones take about 20 seconds each. A run of many
    faults has each of them once, at a random place.
    """

    def __init__(
        self, world: ChaosWorld, clients: Sequence[ResumingClient], random: Random
    ) -> None:
        self.counts: Counter[str] = Counter()
        self.trail: list[tuple[int, str]] = []
        """Each fault: how many events were emitted before it, and its name."""
        self._world = world
        self._random = random
        self._short = ShortFaults(world, clients, random)
        self._long = (Outages(world, clients, random), JournalFaults(world, clients, random))
        self._weights = {strike.__name__: w for strike, w in self._short.weigh().items()}
        self._long_names = [name for group in self._long for name in group.list_faults()]
        self._strikes: dict[str, Strike] = {
            strike.__name__: strike for strike in self._short.weigh()
        }
        for group in self._long:
            self._strikes |= group.list_faults()

    @property
    def problems(self) -> list[str]:
        """What had to happen in time and did not, one line each."""
        return [line for group in (self._short, *self._long) for line in group.problems]

    def plan(self, count: int | None, only: Collection[str] = ()) -> Iterator[str]:
        """Yield the names of the faults of a run.

        Args:
            count: how many; None for each of `only` once.
            only: the names to choose from, in turn; by default all are chosen from at random.

        Raises UnknownFaultError before the first one.
        """
        if unknown := sorted(set(only) - self._strikes.keys()):
            raise UnknownFaultError(f"{unknown[0]}: one of {', '.join(sorted(self._strikes))}")
        count = len(only) if count is None else count
        if only:
            names = list(only)
            return (names[number % len(names)] for number in range(count))
        return self._mix(count)

    async def strike(self, fault: str) -> None:
        """Inject one fault and wait for its end; its effects may last longer."""
        name = fault.replace("_", " ")
        self.counts[name] += 1
        self.trail.append((len(self._world.emitted), name))
        await self._strikes[fault]()

    def _mix(self, count: int) -> Iterator[str]:
        long = self._random.sample(range(count), len(self._long_names)) if count >= ALL_FROM else []
        places = dict(zip(long, self._long_names, strict=False))
        for number in range(count):
            if number in places:
                yield places[number]
            else:
                yield self._random.choices(list(self._weights), list(self._weights.values()))[0]
