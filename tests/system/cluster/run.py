"""One run: the world, clients that change nodes or stay, a scenario, and the verdicts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from time import monotonic, time
from typing import Any

from twisted.internet import reactor as chosen
from twisted.internet.task import LoopingCall, deferLater

from tests.support.processes import SOURCES
from tests.system.chaos.checker import (
    ClientLog,
    Truth,
    Verdict,
    count_deliveries_without_cursor,
    judge,
)
from tests.system.chaos.clients import declared_gaps
from tests.system.chaos.resuming import ResumingClient
from tests.system.cluster.clients import HoppingClients, LiveOnlyClient, WholeLogReader, read_log
from tests.system.cluster.nemesis import ClusterNemesis
from tests.system.cluster.scenario import Scenario
from tests.system.cluster.update import RollingUpdate
from tests.system.cluster.verdicts import (
    find_unexcused,
    find_unexplained,
    judge_live_only,
    judge_log,
)
from tests.system.cluster.world import PATIENCE, ClusterWorld, StuckError

reactor: Any = chosen
EMIT_INTERVAL = 0.1
"""Seconds between two emissions of events."""

SETTLE_TIME = 4.0
"""Seconds from the last event to the verdicts: another history check may bring missing events."""

OUTPUT = SOURCES / "build/cluster"
"""Has a folder for each scenario, where the nodes' logs are kept after a violation."""


@dataclass(slots=True)
class ClusterReport:
    """The results of a run."""

    scenario: str
    events: int = 0
    steps: dict[str, int] = field(default_factory=dict)
    trail: list[str] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)
    log: tuple[int, int, int] = (0, 0, 0)
    """How many events the log has at the end, the first number and the last."""
    event_times: dict[int, float] = field(default_factory=dict)
    """When each event happened, in seconds since the first one."""
    reconnects: int = 0
    upstreams: int = 0
    rejected: int = 0
    overlaps: int = 0
    """How often two connections listened at once."""
    broken: list[str] = field(default_factory=list)
    """Broken promises, in addition to those in the verdicts."""

    @property
    def is_clean(self) -> bool:
        """Whether every promise was kept."""
        return not self.broken and all(verdict.is_clean for verdict in self.verdicts)


async def attack(
    directory: str,
    *,
    seed: int,
    seconds: float = 0,
    steps: Sequence[str] = (),
    nodes: int = 3,
    server: str = "redis",
) -> ClusterReport:
    """Run the named steps, and random ones until `seconds` have passed; judge the results.

    Args:
        directory: gets a home directory for each node.
        seed: determines the events and the faults.
        seconds: for random steps.
        steps: names of methods of ClusterNemesis.
        nodes: how many nodes.
        server: the program with the log, one of tests.support.redis.SERVERS.
    """
    random = Random(seed)
    world = ClusterWorld(directory, random, nodes, server=server)
    return await _play("faults", world, ClusterNemesis(world, random, steps, seconds), random)


async def update(
    directory: str, former: Path, *, seed: int, with_crash: bool = True, server: str = "redis"
) -> ClusterReport:
    """Update three nodes of the former version one by one; judge the results.

    Args:
        directory: gets a home directory for each node.
        former: the sources of the former version.
        seed: determines the events.
        with_crash: whether an updated leader dies meanwhile, which takes ten seconds more.
        server: the program with the log, one of tests.support.redis.SERVERS.
    """
    random = Random(seed)
    world = ClusterWorld(directory, random, sources=former, server=server)
    scenario = RollingUpdate(world, random, former, with_crash=with_crash)
    return await _play("rolling update", world, scenario, random)


async def _play(
    name: str, world: ClusterWorld, scenario: Scenario, random: Random
) -> ClusterReport:
    report = ClusterReport(name, trail=scenario.trail)
    try:
        await _run_and_judge(world, scenario, random, report)
    except StuckError as stuck:
        report.broken.append(str(stuck))
    finally:
        report.events = len(world.emitted)
        if not report.is_clean:
            world.save_output(OUTPUT / name.replace(" ", "-"))
        await world.stop()
    return report


async def _run_and_judge(
    world: ClusterWorld, scenario: Scenario, random: Random, report: ClusterReport
) -> None:
    await world.start()
    hopping = HoppingClients(world.nodes, random, round(time() * 1e6))
    live_only = [
        LiveOnlyClient(f"live {number + 1}", node) for number, node in enumerate(world.nodes)
    ]
    clients: list[ResumingClient] = [*hopping.clients, *live_only]
    for client in clients:
        client.start()
    hopping.start()
    emitting = LoopingCall(lambda: world.emit(_choose_count(random)))
    emitting_done = emitting.start(EMIT_INTERVAL)
    try:
        await scenario.run()
    finally:
        emitting.stop()
        await emitting_done
        hopping.stop()
        report.steps = dict(scenario.counts)
    try:
        await _settle(world, clients)
        logs = [await read_log(node) for node in world.nodes]
    finally:
        for client in clients:
            client.stop()
    hopping_logs = [client.log for client in hopping.clients]
    truth = Truth(
        world.emitted,
        declared_gaps(hopping.clients),
        world.retold,
        scenario.lost_events,
        count_deliveries_without_cursor(hopping_logs),
        places=[
            {entry.number: place for place, entry in enumerate(log.entries)} for log in hopping_logs
        ],
    )
    report.verdicts = [judge(log, truth) for log in hopping_logs]
    report.verdicts += [judge_live_only(client.log, truth) for client in live_only]
    report.verdicts += [judge_log("the log", logs[0].lines, truth)]
    report.reconnects = sum(client.connects - 1 for client in hopping.clients)
    report.broken += [
        f"{log.name} lost its position {len(log.positions_lost)} times"
        for log in hopping_logs
        if len(log.positions_lost) > len(scenario.losses)
    ]
    for verdict in report.verdicts[: len(hopping_logs)]:
        if found := find_unexplained(verdict, truth, scenario.losses):
            report.broken.append(
                f"{verdict.name}: {found[0]}-{found[-1]} were declared lost without a cause"
            )
    _compare(logs, report)
    _report_upstreams(world, report)
    if not report.is_clean:
        _save_logs(hopping_logs, OUTPUT / report.scenario.replace(" ", "-"))


def _save_logs(logs: Sequence[ClientLog], directory: Path) -> None:
    """Write what each client received to a file: connection, event number, marks."""
    directory.mkdir(parents=True, exist_ok=True)
    for log in logs:
        lines = [
            f"{entry.connection} {entry.number} {entry.recovered or ''}"
            f" {'' if entry.certain else 'may repeat'}{' LOST' * log.positions_lost.count(index)}"
            for index, entry in enumerate(log.entries)
        ]
        file = Path(directory, f"{log.name.replace(' ', '-')}.txt")
        file.write_text("\n".join([*lines, f"lost at: {log.positions_lost}\n"]))


def _choose_count(random: Random) -> int:
    """Return how many events happen now: none, one, or a batch."""
    return random.choices((0, 1, random.randint(2, 30)), (5, 4, 1))[0]


async def _settle(world: ClusterWorld, clients: Sequence[ResumingClient]) -> None:
    """Emit final events, and wait until every client has them."""
    await world.heal()
    limit = monotonic() + PATIENCE
    waiting = [client.log.name for client in clients]
    while waiting:  # repeatedly: a client that does not resume may have been reconnecting
        if monotonic() > limit:
            raise StuckError(
                f"not within {PATIENCE:.0f} s: the last event arrives at {', '.join(waiting)}"
            )
        world.emit(1)
        await deferLater(reactor, 1.0)
        waiting = [client.log.name for client in clients if not client.has(len(world.emitted))]
    await deferLater(reactor, SETTLE_TIME)


def _compare(logs: Sequence[WholeLogReader], report: ClusterReport) -> None:
    first, *others = logs
    lines = first.lines
    report.log = (len(lines), lines[0].seq, lines[-1].seq) if lines else (0, 0, 0)
    report.broken += [
        f"{other.log.name} has another log than {first.log.name}:"
        f" {len(other.lines)} events, not {len(lines)}"
        for other in others
        if (other.lines, other.payloads) != (lines, first.payloads)
    ]


def _report_upstreams(world: ClusterWorld, report: ClusterReport) -> None:
    began = min(world.emitted.values())
    report.event_times = {number: time - began for number, time in world.emitted.items()}
    alpaca = world.alpaca
    report.upstreams, report.rejected = len(alpaca.records), alpaca.rejected
    report.overlaps = len(alpaca.overlaps)
    pauses = {node.key: node.pauses for node in world.nodes}
    report.broken += [
        f"{overlap.older.key} and {overlap.newer.key} were connected at once"
        for overlap in find_unexcused(alpaca.overlaps, pauses, monotonic())
    ]
