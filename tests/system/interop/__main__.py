"""Runs the clients, prints their matrix, and compares it with the documents.

python -m tests.system.interop [--list] [--write] [name ...]

It exits with 1 for a `no` without a footnote, and for a row that the documents do not have.
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from collections.abc import Sequence

from twisted.internet import task
from twisted.internet.defer import Deferred

from tests.system.interop import matrix
from tests.system.interop.clients import InteropClient
from tests.system.interop.environments import ClientEnvironment, UnavailableError, prepare
from tests.system.interop.groups import GROUPS, table
from tests.system.interop.network import isolate
from tests.system.interop.scenario import play
from tests.system.interop.stampede import stampede

STAMPEDE = "stampede"


def main() -> None:
    """Read the command line, run, and print the matrix."""
    parser = ArgumentParser(
        prog="interop", description="Run unmodified clients against the real proxy."
    )
    parser.add_argument(
        "names",
        nargs="*",
        help=f"groups ({', '.join(GROUPS)}), {STAMPEDE}, or parts of clients' names; default: all",
    )
    parser.add_argument("--list", action="store_true", help="list the clients and exit")
    parser.add_argument("--write", action="store_true", help="write the rows into docs/")
    arguments = parser.parse_args()
    clients = select([name.lower() for name in arguments.names])
    if arguments.list:
        print("\n".join(client.name for client in clients))
        return
    with_stampede = not arguments.names or STAMPEDE in arguments.names
    if not clients and not with_stampede:
        parser.error("no client has such a name; --list shows all")
    prepared = install(clients)
    if not isolate():
        print("no network namespace: the clients use this machine's port 8099", file=sys.stderr)
    task.react(
        lambda _: Deferred.fromCoroutine(
            run(prepared, with_stampede=with_stampede, writes=arguments.write)
        )
    )


def select(names: Sequence[str]) -> list[InteropClient]:
    """Return the clients of these groups, and those with a part of these names; all for none."""
    chosen = [client for name in names for client in GROUPS.get(name, ())]
    parts = [name for name in names if name not in GROUPS]
    return [
        client
        for client in table()
        if not names or client in chosen or any(part in client.name.lower() for part in parts)
    ]


def install(clients: Sequence[InteropClient]) -> list[tuple[InteropClient, ClientEnvironment]]:
    """Install what is missing, and print a line for each client that cannot be installed."""
    print("installing into .interop, which takes minutes the first time", file=sys.stderr)
    prepared = []
    for client in clients:
        try:
            prepared.append((client, prepare(client)))
        except UnavailableError as reason:
            print(f"skipped: {client.name}: {reason}")
    return prepared


async def run(
    prepared: Sequence[tuple[InteropClient, ClientEnvironment]],
    *,
    with_stampede: bool,
    writes: bool,
) -> None:
    """Run the scenario for one client after the other; exit with 1 if something failed.

    Args:
        prepared: the clients and their environments.
        with_stampede: whether to run the stampede too.
        writes: whether to write the rows into the documents.
    """
    problems = []
    for client, environment in prepared:
        try:
            outcome = await play(client, environment)
        except AssertionError as error:  # the proxy, or the reverse proxy, did not start
            problems.append(f"{client.name}: {error}")
            continue
        row = matrix.row(client, matrix.cells(outcome))
        print("\n".join([row, *matrix.problem_lines(outcome)]), flush=True)
        problems += [f"{client.name}: {each.value}" for each in matrix.unexplained(outcome)]
        if writes:
            matrix.write(table(), outcome)
        problems += matrix.find_difference(outcome)
    if with_stampede:
        problems += await stampede()
    print("\n".join(problems))
    if problems:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
