"""Runs every attack against a real proxy and prints a line for each; exits with 1 if one is high.

python -m tests.system.attacks [--only WORD]
"""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Iterator, Sequence
from itertools import groupby
from tempfile import TemporaryDirectory
from typing import Any

from twisted.internet import task
from twisted.internet.defer import Deferred

from tests.system.attacks import clients, numbers, resp, rest, strangers, stream
from tests.system.attacks.target import Attack, Outcome, Target

ATTACKS = (
    *strangers.ATTACKS,
    *clients.ATTACKS,
    *stream.ATTACKS,
    *rest.ATTACKS,
    *numbers.ATTACKS,
    *resp.ATTACKS,
)

THREADS = 30
"""Attackers block in threads."""


def main() -> None:
    """Read the command line, and run the attacks one after the other."""
    parser = ArgumentParser(prog="attacks", description="Attack a real proxy over loopback.")
    parser.add_argument("--only", default="", metavar="WORD", help="attacks with this in the name")
    arguments = parser.parse_args()
    chosen = [attack for attack in ATTACKS if arguments.only in attack.name]

    async def run(reactor: Any) -> None:
        reactor.suggestThreadPoolSize(THREADS)
        outcomes = [outcome for group in _group(chosen) for outcome in await _run(group)]
        high = sum(outcome.verdict != "ok" for outcome in outcomes)
        print(f"{len(outcomes)} attacks, {high} high")
        if high:
            raise SystemExit(1)

    task.react(lambda reactor: Deferred.fromCoroutine(run(reactor)))


def _group(attacks: Sequence[Attack]) -> Iterator[list[Attack]]:
    """Group the attacks that can share a proxy: those without hooks and settings."""
    for is_plain, group in groupby(attacks, lambda each: not each.hooks and not each.settings):
        if is_plain:
            yield list(group)
        else:
            yield from ([attack] for attack in group)


async def _run(attacks: list[Attack]) -> list[Outcome]:
    """Run attacks against one proxy, and print a line for each."""
    outcomes = []
    with TemporaryDirectory() as directory:
        target = Target(directory, attacks[0].hooks, attacks[0].settings)
        try:
            await target.start()
            for attack in attacks:
                outcomes.append(outcome := await target.measure(attack))
                print(
                    f"{attack.name:42}  freeze {outcome.freeze * 1000:6.0f} ms"
                    f"  memory {outcome.growth:5} MB  {outcome.verdict}",
                    flush=True,
                )
        finally:
            await target.stop()
    return outcomes


if __name__ == "__main__":
    main()
