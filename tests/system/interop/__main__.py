"""Runs the clients and prints their matrix; exits with 1 for a `no` without a footnote.

python -m tests.system.interop [--list] [name ...]
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from typing import Any

from twisted.internet import reactor as chosen
from twisted.internet import task
from twisted.internet.defer import Deferred, DeferredList, DeferredSemaphore

from tests.system.interop import clients_browser, clients_node, clients_python, matrix
from tests.system.interop.clients import InteropClient
from tests.system.interop.environments import ClientEnvironment, UnavailableError, prepare
from tests.system.interop.scenario import ScenarioOutcome, play
from tests.system.interop.stampede import stampede

reactor: Any = chosen

AT_A_TIME = 2

STAMPEDE = "stampede"


def main() -> None:
    """Read the command line, run, and print the matrix."""
    parser = ArgumentParser(
        prog="interop", description="Run unmodified clients against the real proxy."
    )
    parser.add_argument(
        "names", nargs="*", help="parts of clients' names, or stampede; default: all"
    )
    parser.add_argument("--list", action="store_true", help="list the clients and exit")
    arguments = parser.parse_args()
    names = [name.lower() for name in arguments.names]
    clients = [
        client
        for client in table()
        if not names or any(name in client.name.lower() for name in names)
    ]
    if arguments.list:
        print("\n".join(client.name for client in clients))
        return
    with_stampede = not names or STAMPEDE in names
    if not clients and not with_stampede:
        parser.error("no client has such a name; --list shows all")
    task.react(lambda _: Deferred.fromCoroutine(run(clients, with_stampede=with_stampede)))


def table() -> list[InteropClient]:
    """Return every client."""
    return [*clients_python.CLIENTS, *clients_node.CLIENTS, *clients_browser.CLIENTS]


async def run(clients: Sequence[InteropClient], *, with_stampede: bool) -> None:
    """Run the scenario for every client, print the matrix, and exit with 1 if something failed."""
    prepared: list[tuple[InteropClient, ClientEnvironment]] = []
    skipped: list[tuple[InteropClient, str]] = []
    print(
        "the clients are installed into .interop, which takes minutes the first time",
        file=sys.stderr,
    )
    for client in clients:
        try:
            if client.skipped:
                raise UnavailableError(client.skipped)
            prepared.append((client, prepare(client)))
        except UnavailableError as reason:
            skipped.append((client, str(reason)))
    semaphore = DeferredSemaphore(AT_A_TIME)
    results = await DeferredList(
        [semaphore.run(_play, client, environment) for client, environment in prepared],
        fireOnOneErrback=True,
    )
    outcomes = [outcome for _, outcome in results]
    print("\n".join(matrix.lines(outcomes, skipped) if clients else ()))
    failed = any(matrix.unexplained(outcome) for outcome in outcomes)
    if with_stampede:
        problems = await stampede()
        print("\n".join(problems))
        failed = failed or bool(problems)
    if failed:
        raise SystemExit(1)


async def _play(client: InteropClient, environment: ClientEnvironment) -> ScenarioOutcome:
    outcome = await play(client, environment)
    print(
        f"{client.name}: {len(matrix.unexplained(outcome)) or 'no'} unexplained failures",
        file=sys.stderr,
    )
    return outcome


if __name__ == "__main__":
    main()
