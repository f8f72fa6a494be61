"""Has clients join a burst with snapshots; exits with 1 if one of them did not get the whole.

python -m tests.system.joins [--seed N] [--events N] [--clients N]
"""

from __future__ import annotations

from argparse import ArgumentParser
from tempfile import TemporaryDirectory
from time import monotonic
from typing import Any

from twisted.internet import task
from twisted.internet.defer import Deferred

from tests.system.joins.run import join_burst


def main() -> None:
    """Read the command line, run, and print the result."""
    parser = ArgumentParser(prog="joins", description="Join a burst of events with snapshots.")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--events", type=int, default=5000)
    parser.add_argument("--clients", type=int, default=200)
    arguments = parser.parse_args()

    async def run(_: Any) -> None:
        began = monotonic()
        with TemporaryDirectory() as directory:
            report = await join_burst(directory, **vars(arguments))
        print(
            f"seed {arguments.seed}: {report.events} events, {report.clients} clients with"
            f" {report.connects} connections and {report.snapshots} snapshots"
            f" ({report.complete} complete), {monotonic() - began:.0f} s"
        )
        for name, problems in report.problems.items():
            print(f"client {name}: {'; '.join(problems)}")
        if report.problems:
            raise SystemExit(1)

    task.react(lambda reactor: Deferred.fromCoroutine(run(reactor)))


if __name__ == "__main__":
    main()
