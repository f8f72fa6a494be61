"""`python -m tests.system.interop [name ...]`: the matrix of clients, and status 1 for an unexplained `no`."""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from typing import Any

from twisted.internet import reactor as chosen
from twisted.internet import task
from twisted.internet.defer import Deferred, DeferredList, DeferredSemaphore

from tests.system.interop import clients_browser, clients_node, clients_python, matrix
from tests.system.interop.clients import Client
from tests.system.interop.environments import Environment, UnavailableError, prepare
from tests.system.interop.scenario import Outcome, play
from tests.system.interop.stampede import stampede

reactor: Any = chosen

AT_A_TIME = 2

STAMPEDE = "stampede"


def main() -> None:
    """Read the command line, run, and print."""
    parser = ArgumentParser(
        prog="interop", description="Everybody's clients against the real proxy."
    )
    parser.add_argument("names", nargs="*", help="parts of clients' names, or stampede; else all")
    parser.add_argument("--list", action="store_true", help="only name the clients")
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
        parser.error("no client has such a name; --list has them all")
    task.react(lambda _: Deferred.fromCoroutine(run(clients, with_stampede=with_stampede)))


def table() -> list[Client]:
    """Return every client that there is."""
    return [*clients_python.CLIENTS, *clients_node.CLIENTS, *clients_browser.CLIENTS]


async def run(clients: Sequence[Client], *, with_stampede: bool) -> None:
    """Play everything, print what was seen, and exit with 1 if something is wrong."""
    prepared: list[tuple[Client, Environment]] = []
    skipped: list[tuple[Client, str]] = []
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
    wrong = any(matrix.unexplained(outcome) for outcome in outcomes)
    if with_stampede:
        problems = await stampede()
        print("\n".join(problems))
        wrong = wrong or bool(problems)
    if wrong:
        raise SystemExit(1)


async def _play(client: Client, environment: Environment) -> Outcome:
    outcome = await play(client, environment)
    print(f"{client.name}: {len(matrix.unexplained(outcome)) or 'no'} surprises", file=sys.stderr)
    return outcome


if __name__ == "__main__":
    main()
