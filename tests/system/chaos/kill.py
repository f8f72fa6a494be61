"""Kills the proxy while events flow; journal and trade log must have what clients got.

python -m tests.system.chaos.kill [--seed N] [--times N]
"""

from __future__ import annotations

import json
import sqlite3
from argparse import ArgumentParser
from contextlib import closing
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from time import time
from typing import Any

from twisted.internet import reactor as chosen
from twisted.internet import task
from twisted.internet.defer import Deferred
from twisted.internet.task import LoopingCall, deferLater

from tests.system.chaos.clients import ResumingWebSocketClient
from tests.system.chaos.run import ARRIVAL_TIMEOUT, ChaosWorld, wait_for_event
from tradeproxy.journal.spool import find_spool, read_spool

reactor: Any = chosen


async def kill_repeatedly(
    directory: str, *, seed: int, times: int
) -> tuple[int, list[int], list[str]]:
    """Kill the proxy in the middle of batches.

    Returns how many events a client received, the numbers of those not in the journal, and what is
    wrong with the trade log.
    """
    random = Random(seed)
    world = ChaosWorld(directory, random)
    await world.start()
    client = ResumingWebSocketClient("client", world.port, round(time() * 1e6), by_cursor=True)
    client.start()
    emitting = LoopingCall(lambda: world.emit(100))
    emitting_done = emitting.start(0.004)
    missing: list[int] = []
    checked = 0
    for _ in range(times):
        # On a busy machine, a restart and its backfill take longer than the time to the next kill.
        await wait_for_event([client], ARRIVAL_TIMEOUT)
        await deferLater(reactor, random.uniform(0.05, 0.3))
        await world.kill_proxy()
        await deferLater(reactor, 0.05)  # for bytes in the kernel's buffers to arrive
        stored = _read_numbers(world.journal)
        received = [entry.number for entry in client.log.entries[checked:]]
        missing += [number for number in received if number not in stored]
        checked += len(received)
        await world.start_proxy()
    emitting.stop()
    await emitting_done
    client.stop()
    problems = await world.check_trade_log()
    await world.stop()
    return checked, missing, problems


def _read_numbers(journal: Path) -> set[int]:
    """Return the numbers of the events on the disk: in the spool, the database and its log."""
    with closing(sqlite3.connect(f"file:{journal}?mode=ro", uri=True)) as connection:
        numbers = {
            number
            for (number,) in connection.execute(
                "SELECT json_extract(payload, '$.data.n') FROM events"
            )
        }
        [epoch] = connection.execute("SELECT value FROM meta WHERE key = 'epoch'").fetchone()
    spooled = read_spool(find_spool(journal), epoch)
    return numbers | {json.loads(row.event.payload)["data"]["n"] for row in spooled if row.event}


def main() -> None:
    """Read the command line, run, and print the result."""
    parser = ArgumentParser(prog="kill", description="Kill the proxy repeatedly while events flow.")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--times", type=int, default=100)
    arguments = parser.parse_args()

    async def run(_: Any) -> None:
        with TemporaryDirectory() as directory:
            received, missing, problems = await kill_repeatedly(directory, **vars(arguments))
        print(f"killed {arguments.times} times; a client received {received} events")
        print(f"not in the journal: {len(missing)}")
        print("\n".join(f"trade log: {problem}" for problem in problems) or "trade log: complete")
        if missing or problems or not received:
            raise SystemExit(1)

    task.react(lambda reactor: Deferred.fromCoroutine(run(reactor)))


if __name__ == "__main__":
    main()
