"""A receiver that fails in every way, and a proxy that is killed: no event is lost.

python -m tests.system.webhooks [--seed N] [--events N] [--kills N]
"""

from __future__ import annotations

import json
import sqlite3
from argparse import ArgumentParser
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

from twisted.internet import reactor as chosen
from twisted.internet import task
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from tests.support.receiver import Behavior, Receiver
from tests.system.chaos.run import FAST_SETTINGS, ChaosWorld

reactor: Any = chosen

FAULTS = (
    Behavior.ERROR,
    Behavior.BUSY,
    Behavior.GARBLED,
    Behavior.REDIRECT,
    Behavior.CLOSE_EARLY,
    Behavior.CLOSE_AT_ONCE,
    Behavior.LEAVE,
)
FAULT_SHARE = 0.004
"""The share of the requests that fail so. Each costs half a second to a second."""

BATCH = 50
"""Events of one emission."""

PATIENCE = 120.0
"""Seconds without a request after which the run has failed. A request that hangs takes 15."""


@dataclass(frozen=True, slots=True)
class WebhookReport:
    """The result of a run.

    wanted: the numbers of the events in the journal, in its order.
    first: the numbers in the order in which the receiver first accepted them.
    repeated: how many were accepted more than once.
    keys: how many idempotency keys each number had, at most.
    faults: how often the receiver did what.
    """

    wanted: list[int]
    first: list[int]
    repeated: int
    keys: int
    faults: dict[str, int]

    @property
    def is_clean(self) -> bool:
        """Whether every event came, in order, with one key."""
        return self.first == self.wanted and self.keys == 1


async def run_webhooks(
    directory: str, *, seed: int, events: int, kills: int, hangs: int = 2
) -> WebhookReport:
    """Emit events while the receiver fails and the proxy is killed.

    Args:
        directory: the home directory of the proxy.
        seed: determines the faults.
        events: how many events are emitted.
        kills: how often the proxy is killed; the receiver dies as often.
        hangs: how many requests get no answer.
    """
    random = Random(seed)
    hanging = {random.randrange(events) for _ in range(hangs)}

    def choose() -> Behavior:
        if len(receiver.received) in hanging:
            return Behavior.HANG
        if random.random() < FAULT_SHARE:
            return random.choice(FAULTS)
        return Behavior.OK

    receiver = Receiver(choose)
    await receiver.start()
    world = ChaosWorld(directory, random)
    world.size = 100
    world.settings = FAST_SETTINGS | {
        "PROXY_WEBHOOK_DESK_URL": receiver.url,
        "PROXY_WEBHOOK_DESK_EVENTS": "fill,partial_fill",
        # Each check reads the history of the whole run.
        "PROXY_RECONCILE_INTERVAL": "900",
    }
    await world.start()
    await world.proxy.says("upstream is streaming")
    steps = max(kills, 1)
    for step in range(steps):
        target = events * (step + 1) // steps
        while len(world.emitted) < target:
            world.emit(min(BATCH, target - len(world.emitted)))
            await deferLater(reactor, 0.02)
        await _wait_for(receiver, events * (step + random.random()) // steps)
        if step < kills:
            await receiver.stop()
            await deferLater(reactor, 0.3)
            await receiver.start()
            await deferLater(reactor, random.uniform(0.0, 1.5))
            await world.restart_proxy()
            await world.proxy.says("upstream is streaming")
    await _wait_for(receiver, events)
    await world.stop()
    await receiver.stop()
    return _judge(receiver, world.journal)


async def _wait_for(receiver: Receiver, count: float) -> None:
    """Wait until the receiver has accepted `count` different events."""
    seen, idle = -1, 0.0
    while len(receiver.keys) < count and idle < PATIENCE:
        idle = 0.0 if len(receiver.received) != seen else idle + 0.25
        seen = len(receiver.received)
        await deferLater(reactor, 0.25)


def _judge(receiver: Receiver, journal: Path) -> WebhookReport:
    with closing(sqlite3.connect(f"file:{journal}?mode=ro", uri=True)) as connection:
        wanted = [
            int(number)
            for (number,) in connection.execute(
                "SELECT json_extract(payload, '$.data.n') FROM events"
                " WHERE json_extract(payload, '$.data.event') IN ('fill', 'partial_fill')"
                " AND json_extract(payload, '$.data.n') IS NOT NULL ORDER BY seq"
            )
        ]
    keys: dict[int, set[str]] = {}
    for each in receiver.received:
        keys.setdefault(each.document["data"]["n"], set()).add(each.key)
    accepted = [each.document["data"]["n"] for each in receiver.accepted]
    first = list(dict.fromkeys(accepted))
    return WebhookReport(
        wanted,
        first,
        len(accepted) - len(first),
        max(map(len, keys.values()), default=0),
        {behavior.name: count for behavior, count in receiver.counts.items()},
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the command line, run, and print the result."""
    parser = ArgumentParser(prog="webhooks", description="A receiver that fails in every way.")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--events", type=int, default=20_000)
    parser.add_argument("--kills", type=int, default=20)
    options = parser.parse_args(arguments)

    async def run(_: Any) -> None:
        with TemporaryDirectory() as directory:
            report = await run_webhooks(directory, **vars(options))
        print(json.dumps(report.faults))
        print(
            f"{len(report.wanted)} events in the journal, {len(report.first)} accepted,"
            f" {report.repeated} more than once, {report.keys} key(s) each"
        )
        if not report.is_clean:
            raise SystemExit("an event is missing, out of order, or has two keys")

    task.react(lambda reactor: Deferred.fromCoroutine(run(reactor)))


if __name__ == "__main__":
    main()
