"""`python -m tests.system.cluster`: a rolling update, then faults; 1 if a promise was broken."""

from __future__ import annotations

from argparse import ArgumentParser, BooleanOptionalAction
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic
from typing import Any

from twisted.internet import task
from twisted.internet.defer import Deferred

from tests.support.redis import SERVERS, missing_server
from tests.system.chaos.__main__ import print_verdicts
from tests.system.chaos.checker import Verdict
from tests.system.cluster.run import OUTPUT, ClusterReport, attack, update
from tests.system.cluster.update import extract_former


def main() -> None:
    """Read the command line, run, and print."""
    parser = ArgumentParser(
        prog="cluster",
        description="Update every node, then kill, pause and cut off nodes and Redis; compare what"
        " every client got.",
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=170)
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--steps", nargs="+", default=[], metavar="NAME", help="these first")
    parser.add_argument(
        "--update", action=BooleanOptionalAction, default=True, help="the rolling update first"
    )
    parser.add_argument("--server", choices=SERVERS, default="redis", help="holds the log")
    arguments = parser.parse_args()
    if missing := missing_server(arguments.server):
        print(f"skipped: {missing}")
        return

    async def run(_: Any) -> None:
        seed: int = arguments.seed
        server: str = arguments.server
        reports = [await run_update(seed, server)] if arguments.update else []
        began = monotonic()
        with TemporaryDirectory() as directory:
            report = await attack(
                directory,
                seed=seed,
                seconds=arguments.seconds,
                steps=arguments.steps,
                nodes=arguments.nodes,
                server=server,
            )
        print_report(report, seed, monotonic() - began)
        reports.append(report)
        if not all(report is None or report.is_clean for report in reports):
            raise SystemExit(1)

    task.react(lambda reactor: Deferred.fromCoroutine(run(reactor)))


async def run_update(seed: int, server: str) -> ClusterReport | None:
    """Run the rolling update and print it; None if the former version is not available."""
    began = monotonic()
    with TemporaryDirectory() as directory:
        former = Path(directory, "former")
        if missing := extract_former(former):
            print(f"no rolling update: {missing}")
            return None
        report = await update(directory, former, seed=seed, server=server)
    print_report(report, seed, monotonic() - began)
    return report


def print_report(report: ClusterReport, seed: int, seconds: float) -> None:
    """Print the steps, a row for each client, and the other results."""
    if not report.is_clean:
        print("\n".join(report.trail))
    print(
        f"{report.scenario}, seed {seed}: {report.events} events,"
        f" {sum(report.steps.values())} steps, {seconds:.0f} s"
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
