"""`python -m tests.system.cluster`: a long run and its table; status 1 if a promise was broken."""

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
from tests.system.cluster.run import OUTPUT, ClusterReport, attack


def main() -> None:
    """Read the command line, run, and print."""
    parser = ArgumentParser(
        prog="cluster",
        description="Kill, pause and cut off nodes and Redis; then compare what every client got.",
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


def print_report(report: ClusterReport, seed: int, seconds: float) -> None:
    """Print the steps, a row for each client, and the other results."""
    if not report.is_clean:
        print("\n".join(report.trail))
    print(
        f"seed {seed}: {report.events} events, {sum(report.steps.values())} steps, {seconds:.0f} s"
    )
    for step, count in sorted(report.steps.items()):
        print(f"  {step:28} {count:4}")
    print(f"{report.reconnects} reconnects of clients that change nodes")
    print(f"{report.upstreams} connections to Alpaca, {report.rejected} rejected", end="; ")
    print(f"overlaps: {report.overlaps}")
    count, first, last = report.log
    print(f"the log has {count} events at the end, numbers {first} to {last}")
    print_verdicts(report.verdicts)
    for verdict in report.verdicts:
        print_breaches(verdict, report.event_times)
    for text in report.broken:
        print(f"BROKEN: {text}")
    if not report.is_clean:
        print(f"the nodes' logs are in {OUTPUT}")


def print_breaches(verdict: Verdict, event_times: Mapping[int, float]) -> None:
    """Print the events that broke a promise; consecutive ones of one kind share a line."""
    runs: list[tuple[str, list[int]]] = []
    for kind, number in verdict.breaches:
        if runs and runs[-1][0] == kind and number == runs[-1][1][-1] + 1:
            runs[-1][1].append(number)
        else:
            runs.append((kind, [number]))
    for kind, numbers in runs[:20]:
        first, last = numbers[0], numbers[-1]
        print(
            f"{verdict.name}: {kind} {first}-{last},"
            f" {event_times[first]:.1f} s to {event_times[last]:.1f} s"
        )


if __name__ == "__main__":
    main()
