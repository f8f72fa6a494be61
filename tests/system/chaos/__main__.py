"""Runs chaos for minutes and prints a table; exits with 1 if a client lost events.

python -m tests.system.chaos [--seed N] [--events N] [--faults N] [--only NAMES] [--proxy DIRECTORY]
                              [--tls]
"""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Sequence
from tempfile import TemporaryDirectory
from time import monotonic
from typing import Any

from twisted.internet import task
from twisted.internet.defer import Deferred

from tests.system.chaos.checker import COUNTS, Verdict
from tests.system.chaos.nemesis import UnknownFaultError
from tests.system.chaos.run import Report, chaos


def main() -> None:
    """Read the command line, run, and print the report."""
    parser = ArgumentParser(
        prog="chaos", description="Inject faults into a real proxy, then count lost events."
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--events", type=int, default=20_000)
    parser.add_argument("--faults", type=int, help="how many; each of --only once, else 200")
    parser.add_argument(
        "--only",
        metavar="NAMES",
        type=lambda text: text.split(","),
        default=[],
        help="names of faults, such as mute_stream,history_500; an unknown one lists all",
    )
    parser.add_argument("--proxy", metavar="DIRECTORY", help="a checkout whose proxy is tested")
    parser.add_argument("--tls", action="store_true", help="clients connect over TLS")
    arguments = parser.parse_args()
    if arguments.faults is None and not arguments.only:
        arguments.faults = 200

    async def run(_: Any) -> None:
        began = monotonic()
        with TemporaryDirectory() as directory:
            try:
                report = await chaos(directory, **vars(arguments))
            except UnknownFaultError as error:
                raise SystemExit(str(error)) from None
        print_report(report, arguments.seed, monotonic() - began)
        if not report.is_clean:
            raise SystemExit(1)

    task.react(lambda reactor: Deferred.fromCoroutine(run(reactor)))


def print_report(report: Report, seed: int, seconds: float) -> None:
    """Print the faults, and one row for each client."""
    print(
        f"seed {seed}: {report.events} events, {sum(report.faults.values())} faults,"
        f" {seconds:.0f} s"
    )
    for fault, count in sorted(report.faults.items()):
        print(f"  {fault:20} {count:4}")
    if not report.has_clock_faults:
        print("without faults of the proxy's clock: libfaketime is not installed")
    print(f"{report.reconnects} reconnects of clients; {report.logged} rows in the trade log")
    print_verdicts(report.verdicts)
    print_breaches(report)
    for problem in report.problems:
        print(f"late: {problem}")


def print_breaches(report: Report) -> None:
    """Print each kind of breach and the faults during which its events were emitted."""
    clients: dict[tuple[str, str], set[str]] = {}
    numbers: dict[tuple[str, str], set[int]] = {}
    for verdict in report.verdicts:
        for kind, number in verdict.breaches:
            key = kind, report.find_fault(number)
            clients.setdefault(key, set()).add(verdict.name)
            numbers.setdefault(key, set()).add(number)
    for (kind, fault), found in sorted(numbers.items(), key=lambda item: min(item[1])):
        names = ", ".join(sorted(clients[kind, fault]))
        print(f"{kind}: {len(found)} events from {min(found)} on, during {fault!r}, at {names}")


def print_verdicts(verdicts: Sequence[Verdict]) -> None:
    """Print one row for each client, and the number of undeclared losses."""
    rows = [("client", *COUNTS)]
    rows += [(verdict.name, *(getattr(verdict, name) for name in COUNTS)) for verdict in verdicts]
    for row in rows:
        print("".join(f"{cell:>12}" for cell in row))
    print(f"undeclared losses: {sum(verdict.lost for verdict in verdicts)}")


if __name__ == "__main__":
    main()
