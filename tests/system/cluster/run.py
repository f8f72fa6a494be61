"""One run: the world, clients that hop and clients that stay, the nemesis, and the verdicts at the end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from time import monotonic, time
from typing import Any

from twisted.internet import reactor as chosen
from twisted.internet.task import LoopingCall, deferLater

from tests.support.processes import SOURCES
from tests.system.chaos.checker import Truth, Verdict, deliveries_without_cursor, judge
from tests.system.chaos.clients import Resuming, declared_gaps
from tests.system.cluster.clients import Hopping, LogReader, Plain, read_log
from tests.system.cluster.nemesis import Nemesis
from tests.system.cluster.verdicts import judge_log, judge_stays, unexcused, unexplained
from tests.system.cluster.world import PATIENCE, StuckError, World

reactor: Any = chosen
EVERY = 0.1
"""Seconds between two emissions."""

QUIET = 4.0
"""Seconds from the last event to the verdict: the history is asked once more, and what was left out comes."""

OUTPUT = SOURCES / "build/cluster"
"""Where the nodes' logs are kept after a violation."""


@dataclass(slots=True)
class Report:
    """What a run has come to."""

    events: int = 0
    steps: dict[str, int] = field(default_factory=dict)
    trail: list[str] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)
    log: tuple[int, int, int] = (0, 0, 0)
    """How many events the log has in the end, from which number to which."""
    told: dict[int, float] = field(default_factory=dict)
    """When each event happened, in seconds since the first one."""
    reconnects: int = 0
    upstreams: int = 0
    turned_away: int = 0
    overlaps: int = 0
    """Times at which two held the stream at once."""
    broken: list[str] = field(default_factory=list)
    """Promises that were not kept, beside those of the verdicts."""

    @property
    def is_clean(self) -> bool:
        """Whether all promises were kept."""
        return not self.broken and all(verdict.is_clean for verdict in self.verdicts)


async def attack(
    directory: str, *, seed: int, seconds: float = 0, steps: Sequence[str] = (), nodes: int = 3
) -> Report:
    """Take the steps that are named, and others until the seconds are over; judge what came of it."""
    random = Random(seed)
    world = World(directory, random, nodes)
    report = Report()
    try:
        await _play(world, random, report, seconds, steps)
    except StuckError as stuck:
        report.broken.append(str(stuck))
    finally:
        report.events = len(world.emitted)
        if not report.is_clean:
            world.save_output(OUTPUT)
        await world.stop()
    return report


async def _play(
    world: World, random: Random, report: Report, seconds: float, steps: Sequence[str]
) -> None:
    await world.start()
    hopping = Hopping(world.nodes, random, round(time() * 1e6))
    plain = [Plain(f"plain {number + 1}", node) for number, node in enumerate(world.nodes)]
    clients: list[Resuming] = [*hopping.clients, *plain]
    for client in clients:
        client.start()
    hopping.start()
    nemesis = Nemesis(world, random)
    report.trail = nemesis.trail
    emitting = LoopingCall(lambda: world.emit(_some(random)))
    emitting_done = emitting.start(EVERY)
    try:
        limit = monotonic() + seconds
        for name in steps:
            await nemesis.strike(name)
        while monotonic() < limit:
            await nemesis.strike()
    finally:
        emitting.stop()
        await emitting_done
        hopping.stop()
        report.steps = dict(nemesis.counts)
    try:
        await _settle(world, clients)
        logs = [await read_log(node) for node in world.nodes]
    finally:
        for client in clients:
            client.stop()
    of_hopping = [client.log for client in hopping.clients]
    truth = Truth(
        world.emitted,
        declared_gaps(hopping.clients),
        world.retold,
        nemesis.forgotten,
        deliveries_without_cursor(of_hopping),
    )
    report.verdicts = [judge(log, truth) for log in of_hopping]
    report.verdicts += [judge_stays(client.log, truth) for client in plain]
    report.verdicts += [judge_log("the log", logs[0].lines, truth)]
    report.reconnects = sum(client.connects - 1 for client in hopping.clients)
    # By server-sent events there are two answers to each, the second one to the time that is asked for then.
    report.broken += [
        f"{log.name} was told {len(log.positions_lost)} times that its position is lost"
        for log in of_hopping
        if len(log.positions_lost) > len(nemesis.losses) * (2 if log.name.startswith("sse") else 1)
    ]
    for verdict in report.verdicts[: len(of_hopping)]:
        if strange := unexplained(verdict, truth, nemesis.losses):
            report.broken.append(
                f"{verdict.name}: {strange[0]}-{strange[-1]} were declared, and why?"
            )
    _compare(logs, report)
    _look_at_alpaca(world, report)


def _some(random: Random) -> int:
    """Return how many events happen now: none, one, or a burst."""
    return random.choices((0, 1, random.randint(2, 30)), (5, 4, 1))[0]


async def _settle(world: World, clients: Sequence[Resuming]) -> None:
    """Let last events happen, and wait until everybody has them."""
    await world.heal()
    limit = monotonic() + PATIENCE
    waiting = [client.log.name for client in clients]
    while waiting:  # again and again: one that does not resume may just have been on its way back
        if monotonic() > limit:
            raise StuckError(
                f"not within {PATIENCE:.0f} s: the last event has come to {', '.join(waiting)}"
            )
        world.emit(1)
        await deferLater(reactor, 1.0)
        waiting = [client.log.name for client in clients if not client.has(len(world.emitted))]
    await deferLater(reactor, QUIET)


def _compare(logs: Sequence[LogReader], report: Report) -> None:
    first, *others = logs
    lines = first.lines
    report.log = (len(lines), lines[0].seq, lines[-1].seq) if lines else (0, 0, 0)
    report.broken += [
        f"{other.log.name} has another log than {first.log.name}: {len(other.lines)} events, not {len(lines)}"
        for other in others
        if (other.lines, other.payloads) != (lines, first.payloads)
    ]


def _look_at_alpaca(world: World, report: Report) -> None:
    began = min(world.emitted.values())
    report.told = {number: time - began for number, time in world.emitted.items()}
    alpaca = world.alpaca
    report.upstreams, report.turned_away = len(alpaca.visits), alpaca.turned_away
    report.overlaps = len(alpaca.overlaps)
    pauses = {node.key: node.pauses for node in world.nodes}
    report.broken += [
        f"{overlap.older.key} and {overlap.newer.key} held the stream at once"
        for overlap in unexcused(alpaca.overlaps, pauses, monotonic())
    ]
