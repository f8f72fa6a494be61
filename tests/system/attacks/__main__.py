"""Runs every attack against a new proxy and prints a line for each; exits with 1 if one is high.

python -m tests.system.attacks [--only WORD]
"""

from __future__ import annotations

from argparse import ArgumentParser
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
        outcomes = [await _run(attack) for attack in chosen]
        high = sum(outcome.verdict != "ok" for outcome in outcomes)
        print(f"{len(outcomes)} attacks, {high} high")
        if high:
            raise SystemExit(1)

    task.react(lambda reactor: Deferred.fromCoroutine(run(reactor)))


async def _run(attack: Attack) -> Outcome:
    with TemporaryDirectory() as directory:
        target = Target(directory, attack)
        try:
            await target.start()
            outcome = await target.measure()
        finally:
            await target.stop()
    print(
        f"{attack.name:42}  freeze {outcome.freeze * 1000:6.0f} ms"
        f"  memory {outcome.growth:5} MB  {outcome.verdict}",
        flush=True,
    )
    return outcome


if __name__ == "__main__":
    main()
