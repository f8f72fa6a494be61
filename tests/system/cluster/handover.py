"""Measures how long no node is connected to Alpaca after SIGTERM and SIGKILL of the leader."""

from __future__ import annotations

from argparse import ArgumentParser
from random import Random
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from twisted.internet import reactor as chosen
from twisted.internet import task
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from tests.support.redis import missing_redis
from tests.system.cluster.world import ClusterWorld, until
from tradeproxy.cluster.leadership import RENEW_AFTER

reactor: Any = chosen


async def hand_over(world: ClusterWorld, signal: str) -> float:
    """Stop the leader; return the seconds without a listener. Then restart the node."""
    leader, old = await world.find_leader(), world.alpaca.listener
    assert old is not None
    await leader.stop(signal)
    await until(lambda: old.ended is not None, "the leader's connection has ended")
    await until(lambda: world.alpaca.listener is not None, "another node listens")
    new = world.alpaca.listener
    assert old.ended is not None
    assert new is not None
    assert new.listening_since is not None
    await leader.start()
    await world.until_ready()
    return new.listening_since - old.ended


async def measure(
    directory: str, *, clean: int, crashes: int, nodes: int
) -> dict[str, list[float]]:
    """Return the seconds without an upstream, for each handover."""
    random = Random(0)
    world = ClusterWorld(directory, random, nodes)
    await world.start()
    times: dict[str, list[float]] = {"SIGTERM": [], "SIGKILL": []}
    for signal, name, count in ("TERM", "SIGTERM", clean), ("KILL", "SIGKILL", crashes):
        for _ in range(count):
            world.emit(10)
            if signal == "KILL":  # at a random time since the last renewal
                await deferLater(reactor, random.uniform(0, RENEW_AFTER))
            times[name].append(await hand_over(world, signal))
    await world.stop()
    return times


def main() -> None:
    """Read the command line, run, and print."""
    parser = ArgumentParser(
        prog="handover", description="Measure how long no node is connected to Alpaca."
    )
    parser.add_argument("--clean", type=int, default=50)
    parser.add_argument("--crashes", type=int, default=10)
    parser.add_argument("--nodes", type=int, default=3)
    arguments = parser.parse_args()
    if missing := missing_redis():
        print(f"skipped: {missing}")
        return

    async def run(_: Any) -> None:
        with TemporaryDirectory() as directory:
            times = await measure(directory, **vars(arguments))
        print("seconds without a connection, as the simulated Alpaca sees it")
        for name, seconds in times.items():
            if seconds:
                print(
                    f"{name}: {len(seconds)};"
                    f" median {median(seconds):.3f}, worst {max(seconds):.3f}"
                )

    task.react(lambda reactor: Deferred.fromCoroutine(run(reactor)))


if __name__ == "__main__":
    main()
