"""How long the stream is nobody's when its leader goes: by SIGTERM, and by SIGKILL; as Alpaca sees it."""

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
from tests.system.cluster.world import World, until
from tradeproxy.cluster.leadership import RENEW_AFTER

reactor: Any = chosen


async def hand_over(world: World, signal: str) -> float:
    """End the leader, and return for how many seconds nobody listened; it is started again."""
    leader, left = await world.find_leader(), world.alpaca.listener
    assert left is not None
    await leader.stop(signal)
    await until(lambda: left.ended is not None, "the leader's connection is over")
    await until(lambda: world.alpaca.listener is not None, "another node listens")
    came = world.alpaca.listener
    assert left.ended is not None
    assert came is not None
    assert came.listening is not None
    await leader.start()
    await world.until_whole()
    return came.listening - left.ended


async def measure(
    directory: str, *, clean: int, crashes: int, nodes: int
) -> dict[str, list[float]]:
    """Return the seconds without an upstream, of each handover."""
    random = Random(0)
    world = World(directory, random, nodes)
    await world.start()
    times: dict[str, list[float]] = {"SIGTERM": [], "SIGKILL": []}
    for signal, name, count in ("TERM", "SIGTERM", clean), ("KILL", "SIGKILL", crashes):
        for _ in range(count):
            world.emit(10)
            if signal == "KILL":  # at any time since the lease was renewed
                await deferLater(reactor, random.uniform(0, RENEW_AFTER))
            times[name].append(await hand_over(world, signal))
    await world.stop()
    return times


def main() -> None:
    """Read the command line, run, and print."""
    parser = ArgumentParser(
        prog="handover", description="Measure how long nobody holds the stream."
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
        print("the stream was nobody's, in seconds, as Alpaca sees it")
        for name, seconds in times.items():
            if seconds:
                print(
                    f"{name}: {len(seconds)}; median {median(seconds):.3f}, worst {max(seconds):.3f}"
                )

    task.react(lambda reactor: Deferred.fromCoroutine(run(reactor)))


if __name__ == "__main__":
    main()
