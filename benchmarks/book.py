"""What the book of orders and positions costs: building it from a journal, and each event.

python -m benchmarks.book [--events N] [--seed N]
"""

from __future__ import annotations

import gc
import os
from argparse import ArgumentParser
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread
from time import perf_counter, process_time, sleep, thread_time
from tracemalloc import get_traced_memory, start, stop

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from tests.support.journals import journal_at
from tests.support.trading import BEGIN, Trading
from tradeproxy.book.book import Book
from tradeproxy.book.builder import WRITE_EVERY
from tradeproxy.hub.account import Account
from tradeproxy.journal.sqlite import SqliteJournal
from tradeproxy.wire.event import parse_event

BATCH = 500
"""Events of one commit while the journal is made."""

MAX_STEP = 0.005
"""Seconds that no step should exceed."""

LONE_EVENTS = 3000
"""Events that come one by one."""


class Threads:
    """Runs checkpoints in threads; `poll` is called between two steps, as by a reactor."""

    def __init__(self) -> None:
        self._ended: list[Deferred[None]] = []

    def __call__(self, work: Callable[[], None]) -> Deferred[None]:
        """Call `work` in a thread."""
        done: Deferred[None] = Deferred()

        def run() -> None:
            work()
            self._ended.append(done)

        Thread(target=run).start()
        return done

    def poll(self) -> None:
        """Report what has ended."""
        while self._ended:
            self._ended.pop().callback(None)


class Steps(Clock):
    """A clock whose calls are run and measured one by one. Their delays are waited for."""

    def __init__(self, threads: Threads) -> None:
        super().__init__()
        self._threads = threads
        self.seconds_of_steps: list[float] = []
        self.cpu_of_steps: list[float] = []

    def run_next(self) -> None:
        """Run the next call."""
        call = self.calls.pop(0)
        call.called = 1
        sleep(max(call.getTime() - self.rightNow, 0.0))
        self.rightNow = max(self.rightNow, call.getTime())
        self._threads.poll()
        began, cpu = perf_counter(), thread_time()
        call.func(*call.args, **call.kw)
        self.seconds_of_steps.append(perf_counter() - began)
        self.cpu_of_steps.append(thread_time() - cpu)


def open_account(path: Path, threads: Threads) -> Account:
    """Open the journal at a path. Its timers do not run."""
    clock = Clock()
    clock.advance(BEGIN / 1_000_000 + 1_000_000)
    journal = journal_at(
        path, clock, max_events=10_000_000, max_age=1e9, full_sync=True, in_thread=threads
    )
    account = Account("paper", journal, clock)
    account.open()
    return account


def fill(account: Account, threads: Threads, trading: Trading, count: int) -> None:
    """Append events to the journal."""
    for _ in range(0, count, BATCH):
        threads.poll()
        events = [parse_event(frame) for frame in trading.take(BATCH)]
        account.journal.append([event for event in events if event is not None])


def build(account: Account, threads: Threads) -> tuple[Book, Steps]:
    """Build a book, and return it with its steps."""
    clock = Steps(threads)
    book = Book(account, clock)
    book.start()
    while book.is_building:
        clock.run_next()
    return book, clock


def measure_memory(account: Account, threads: Threads) -> tuple[int, int]:
    """Return how many orders are closed, and the bytes in memory of a book that is built anew."""
    gc.collect()
    start()
    book, _ = build(account, threads)
    gc.collect()
    size = get_traced_memory()[0]
    stop()
    forget(book, account)
    tables = account.journal.tables
    assert tables is not None
    [closed] = tables.run(
        lambda sql: sql.execute("SELECT count(*) FROM book_orders WHERE open = 0").fetchone()
    )
    return closed, size


def forget(book: Book, account: Account) -> None:
    """Remove the stored state, so that the next book is built from the whole log."""
    book.stop()
    tables = account.journal.tables
    assert tables is not None
    tables.run(lambda sql: sql.execute("DELETE FROM book_meta"), writes=True)


def measure_lone_events(
    account: Account, threads: Threads, trading: Trading, *, with_book: bool
) -> float:
    """Return the microseconds of CPU for an event that comes alone, all timers included."""
    clock = Clock()
    book = Book(account, clock)
    if with_book:
        book.start()
        while book.strategies is None or not book.strategies.book.is_current:
            threads.poll()
            clock.advance(0.1)
        clock.advance(WRITE_EVERY)
    frames = trading.take(LONE_EVENTS)
    began = process_time()
    for number, frame in enumerate(frames):
        event = parse_event(frame)
        assert event is not None
        account.begin_read()
        account.publish(event)
        account.end_read()
        threads.poll()
        clock.advance(0.2 if number % 5 == 0 else 0)
    used = process_time() - began
    book.stop()
    return used / LONE_EVENTS * 1e6


def describe_steps(seconds: list[float]) -> str:
    """Return how long steps took."""
    values = sorted(seconds)
    median, p99, longest = (
        values[min(len(values) * part // 1000, len(values) - 1)] * 1e3 for part in (500, 990, 1000)
    )
    many = sum(each > MAX_STEP for each in values)
    return f"median {median:.1f} ms, p99 {p99:.1f}, longest {longest:.1f}; {many} above 5 ms"


def report(directory: str, count: int, seed: int) -> None:
    """Measure, and print the figures."""
    path = Path(directory) / "paper.sqlite3"
    trading = Trading(seed)
    threads = Threads()
    account = open_account(path, threads)
    assert isinstance(account.journal, SqliteJournal)
    is_traced = count <= 200_000  # tracing takes five times as long
    fill(account, threads, trading, count // 5)
    few, small = measure_memory(account, threads) if is_traced else (0, 0)
    fill(account, threads, trading, count - count // 5)
    before = os.path.getsize(path)
    began, cpu = perf_counter(), process_time()
    book, steps = build(account, threads)
    seconds, cpu = perf_counter() - began, process_time() - cpu
    print(f"{count:,} events: built in {seconds:.1f} s, {count / seconds:,.0f} events/s")
    print(f"CPU: {cpu:.1f} s, {cpu / count * 1e6:.1f} µs for each event")
    for name, values in ("elapsed", steps.seconds_of_steps), ("CPU", steps.cpu_of_steps):
        print(f"{len(values):,} steps, {name}: {describe_steps(values)}")
    while book.strategies is None or not book.strategies.book.is_current:
        steps.run_next()
    print(f"strategies: after {perf_counter() - began:.1f} s")
    print(f"file: {(os.path.getsize(path) - before) / count:.0f} bytes for each event")
    forget(book, account)
    if is_traced:
        many, large = measure_memory(account, threads)
        slope = (large - small) / (many - few)
        print(f"memory: {large / 1e6:.2f} MB, {slope:.0f} bytes for each further closed order")
    costs = [
        measure_lone_events(account, threads, trading, with_book=with_book)
        for with_book in (True, False, True, False)
    ]
    print(f"a lone event: {costs[0]:.0f} and {costs[2]:.0f} µs of CPU with the book,")
    print(f"              {costs[1]:.0f} and {costs[3]:.0f} µs without")
    account.close()
    print("load:", *(f"{each:.1f}" for each in os.getloadavg()))


def main() -> None:
    """Read the command line and run."""
    parser = ArgumentParser(prog="book", description=__doc__)
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    with TemporaryDirectory() as directory:
        report(directory, arguments.events, arguments.seed)


if __name__ == "__main__":
    main()
