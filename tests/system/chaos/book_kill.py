"""Kills a process with a book; the book must equal that of a process that was not killed.

So must that of its strategies, lot by lot, and they must add up to the account.

python -m tests.system.chaos.book_kill [--seed N] [--times N]
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from argparse import ArgumentParser
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from time import sleep, time
from typing import Any

from twisted.internet import reactor as chosen
from twisted.internet.task import Clock, LoopingCall

from tests.book.support import describe, parse
from tests.support.holdings import describe_strategy, group_holdings
from tests.support.journals import journal_at
from tests.support.trading import BEGIN, Trading
from tradeproxy.book.book import Book
from tradeproxy.book.fill_sql import clear_strategies
from tradeproxy.book.strategy_views import list_differences
from tradeproxy.hub.account import Account

EVERY = 20
"""Kills between two comparisons: each reads the whole log."""

INTERVAL = 0.002
"""Seconds between two batches of a few events."""


def publish(path: Path, seed: int) -> None:
    """Continue the account's life at the end of the log, until this process is killed."""
    reactor: Any = chosen
    account = _open(path, reactor)
    trading, random = Trading(seed), Random(time())
    trading.take(account.journal.last)
    book = Book(account, reactor)
    book.start()

    def publish_some() -> None:
        for frame in trading.take(random.choice((0, 1, 1, 2, 30))):
            account.publish(parse(frame))

    LoopingCall(publish_some).start(INTERVAL)
    reactor.callWhenRunning(print, "ready", flush=True)
    reactor.run()


def kill_repeatedly(directory: Path, *, seed: int, times: int) -> tuple[int, int]:
    """Return how many comparisons differed, and how many events there were."""
    random = Random(seed)
    path = directory / "live" / "paper.sqlite3"
    different = events = 0
    for number in range(1, times + 1):
        command = [sys.executable, "-m", __spec__.name, "--publish", str(path)]
        with subprocess.Popen(
            [*command, "--seed", str(seed)], stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            process.stdout.readline()
            sleep(random.uniform(0.0, 1.5))
            process.kill()
        if number % EVERY == 0 or number == times:
            copy = directory / f"copy {number}"
            shutil.copytree(path.parent, copy)
            is_equal, events = compare(copy / path.name)
            different += not is_equal
    return different, events


def compare(path: Path) -> tuple[bool, int]:
    """Compare the book that continues with one that reads the whole log."""
    clock = Clock()
    clock.advance(BEGIN / 1_000_000 + 1_000_000)
    account = _open(path, clock)
    descriptions = []
    for _ in range(2):
        book = Book(account, clock)
        book.start()
        while book.strategies is None or not book.strategies.is_current():
            clock.advance(0.1)
        descriptions.append(describe(book) | describe_strategies(book))
        book.stop()
        tables = account.journal.tables
        assert tables is not None
        tables.run(lambda sql: sql.execute("DELETE FROM book_meta"), writes=True)
        tables.run(clear_strategies, writes=True)
    events = account.journal.last
    account.close()
    return descriptions[0] == descriptions[1], events


def describe_strategies(book: Book) -> dict[str, Any]:
    """Return all that the strategies hold. Raises AssertionError if that is not the account's."""
    strategies = book.strategies
    assert strategies is not None
    account = book.amounts
    differences = [each for each in list_differences(strategies.book, account, account) if each]
    assert not differences, "the sums differ from the account"
    return {
        name: describe_strategy(name, own, strategies.today, account)
        for name, own in group_holdings(strategies.book).items()
    }


def _open(path: Path, clock: Any) -> Account:
    journal = journal_at(path, clock, max_age=1e9)
    account = Account("paper", journal, clock)
    account.open()
    return account


def main() -> None:
    """Read the command line, run, and print the result."""
    parser = ArgumentParser(prog="book_kill", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--times", type=int, default=100)
    parser.add_argument("--publish", type=Path)
    arguments = parser.parse_args()
    if arguments.publish is not None:
        publish(arguments.publish, arguments.seed)
        return
    with TemporaryDirectory() as directory:
        different, events = kill_repeatedly(
            Path(directory), seed=arguments.seed, times=arguments.times
        )
    print(f"killed {arguments.times} times; the log has {events} events")
    print(f"books that differ from one of the whole log: {different}")
    if different or not events:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
