"""`python -m tests.system.cluster`: a long run, its table, and status 1 if a promise was broken."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Mapping
from tempfile import TemporaryDirectory
from time import monotonic
from typing import Any

from twisted.internet import task
from twisted.internet.defer import Deferred

from tests.support.redis import missing_redis
from tests.system.chaos.__main__ import print_verdicts
from tests.system.chaos.checker import Verdict
from tests.system.cluster.run import OUTPUT, Report, attack


def main() -> None:
    """Read the command line, run, and print."""
    parser = ArgumentParser(
        prog="cluster",
        description="Kill, stop and cut off nodes and Redis; then compare what everybody has.",
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=170)
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--steps", nargs="+", default=[], metavar="NAME", help="these first")
    arguments = parser.parse_args()
    if missing := missing_redis():
        print(f"skipped: {missing}")
        return

    async def run(_: Any) -> None:
        began = monotonic()
        with TemporaryDirectory() as directory:
            report = await attack(directory, **vars(arguments))
        print_report(report, arguments.seed, monotonic() - began)
        if not report.is_clean:
            raise SystemExit(1)

    task.react(lambda reactor: Deferred.fromCoroutine(run(reactor)))


def print_report(report: Report, seed: int, seconds: float) -> None:
    """Print the steps, a row a client, and what else was seen."""
    if not report.is_clean:
        print("\n".join(report.trail))
    print(
        f"seed {seed}: {report.events} events, {sum(report.steps.values())} steps, {seconds:.0f} s"
    )
    for step, count in sorted(report.steps.items()):
        print(f"  {step:28} {count:4}")
    print(f"{report.reconnects} reconnects of clients that hop")
    print(f"{report.upstreams} connections to Alpaca, {report.turned_away} turned away", end="; ")
    print(f"two at once: {report.overlaps}")
    count, first, last = report.log
    print(f"the log has {count} events in the end, numbers {first} to {last}")
    print_verdicts(report.verdicts)
    for verdict in report.verdicts:
        print_breaches(verdict, report.told)
    for text in report.broken:
        print(f"BROKEN: {text}")
    if not report.is_clean:
        print(f"the nodes' logs are in {OUTPUT}")


def print_breaches(verdict: Verdict, told: Mapping[int, float]) -> None:
    """Print which events were not as promised, those of one kind that follow each other in one line."""
    runs: list[tuple[str, list[int]]] = []
    for word, number in verdict.breaches:
        if runs and runs[-1][0] == word and number == runs[-1][1][-1] + 1:
            runs[-1][1].append(number)
        else:
            runs.append((word, [number]))
    for word, numbers in runs[:20]:
        first, last = numbers[0], numbers[-1]
        print(
            f"{verdict.name}: {word} {first}-{last}, of {told[first]:.1f} s to {told[last]:.1f} s"
        )


if __name__ == "__main__":
    main()
