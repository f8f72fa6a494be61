"""What the book of orders and positions costs: building it from a journal, and each event.

python -m benchmarks.book [--events N] [--seed N]
"""

from __future__ import annotations

import gc
import os
from argparse import ArgumentParser
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, process_time, thread_time
from tracemalloc import get_traced_memory, start, stop

from twisted.internet.task import Clock

from tests.support.journals import journal_at
from tests.support.trading import BEGIN, Trading
from tradeproxy.book.book import Book
from tradeproxy.hub.account import Account
from tradeproxy.journal.sqlite import SqliteJournal
from tradeproxy.wire.event_fields import parse_event

BATCH = 500
"""Events of one commit while the journal is made."""

LONE_EVENTS = 3000
"""Events that come one by one."""


class Steps(Clock):
    """A clock whose calls are run and measured one by one."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds_of_steps: list[float] = []
        self.cpu_of_steps: list[float] = []

    def run_next(self) -> None:
        """Run the next call."""
        call = self.calls.pop(0)
        call.called = 1
        self.rightNow = max(self.rightNow, call.getTime())
        began, cpu = perf_counter(), thread_time()
        call.func(*call.args, **call.kw)
        self.cpu_of_steps.append(thread_time() - cpu)
        self.seconds_of_steps.append(perf_counter() - began)


def open_account(path: Path) -> Account:
    """Open the journal at a path. Its timers do not run."""
    clock = Clock()
    clock.advance(BEGIN / 1_000_000 + 1_000_000)
    journal = journal_at(path, clock, max_events=10_000_000, max_age=1e9, full_sync=True)
    account = Account("paper", journal, clock)
    account.open()
    return account


def fill(account: Account, trading: Trading, count: int) -> None:
    """Append events to the journal."""
    for _ in range(0, count, BATCH):
        events = [parse_event(frame) for frame in trading.take(BATCH)]
        account.journal.append([event for event in events if event is not None])


def build(account: Account, *, traced: bool = False) -> tuple[Book, float, Steps, int]:
    """Build a book; return it with the seconds, its steps, and its bytes in memory."""
    gc.collect()
    if traced:
        start()
    clock = Steps()
    book = Book(account, clock)
    began = perf_counter()
    book.start()
    while book.is_building:
        clock.run_next()
    seconds = perf_counter() - began
    gc.collect()
    size = get_traced_memory()[0] if traced else 0
    stop()
    return book, seconds, clock, size


def forget(book: Book, account: Account) -> None:
    """Remove the stored state, so that the next book is built from the whole log."""
    book.stop()
    tables = account.journal.tables
    assert tables is not None
    tables.run(lambda sql: sql.execute("DELETE FROM book_meta"), writes=True)


def measure_lone_events(account: Account, trading: Trading, *, with_book: bool) -> float:
    """Return the microseconds of CPU for an event that comes alone, all timers included."""
    clock = Clock()
    book = Book(account, clock)
    if with_book:
        book.start()
        clock.advance(0)
        clock.advance(1)
    frames = trading.take(LONE_EVENTS)
    began = process_time()
    for number, frame in enumerate(frames):
        event = parse_event(frame)
        assert event is not None
        account.begin_read()
        account.publish(event)
        account.end_read()
        clock.advance(0.2 if number % 5 == 0 else 0)
    used = process_time() - began
    book.stop()
    return used / LONE_EVENTS * 1e6


def report(directory: str, count: int, seed: int) -> None:
    """Measure, and print the figures."""
    path = Path(directory) / "paper.sqlite3"
    trading = Trading(seed)
    account = open_account(path)
    assert isinstance(account.journal, SqliteJournal)
    fill(account, trading, count)
    before = os.path.getsize(path)
    book, seconds, steps, _ = build(account)
    print(f"{count:,} events: built in {seconds:.1f} s, {count / seconds:,.0f} events/s")
    cpu = sum(steps.cpu_of_steps)
    print(f"CPU: {cpu:.1f} s, {cpu / count * 1e6:.1f} µs for each event")
    for name, values in (("time", steps.seconds_of_steps), ("CPU", steps.cpu_of_steps)):
        median, p99, longest = (
            sorted(values)[min(len(values) * part // 1000, len(values) - 1)] * 1e3
            for part in (500, 990, 1000)
        )
        print(
            f"{len(values):,} steps, {name}: median {median:.1f} ms, p99 {p99:.1f} ms,"
            f" longest {longest:.1f} ms"
        )
    tables = account.journal.tables
    assert tables is not None
    [closed] = tables.run(
        lambda sql: sql.execute("SELECT count(*) FROM book_orders WHERE open = 0").fetchone()
    )
    print(f"file: {(os.path.getsize(path) - before) / count:.0f} bytes for each event")
    if count <= 200_000:  # tracing takes five times as long
        forget(book, account)
        book, _, _, size = build(account, traced=True)
        print(f"memory: {size / 1e6:.2f} MB, {size / closed:.0f} bytes for each closed order")
    book.stop()
    costs = [
        measure_lone_events(account, trading, with_book=with_book)
        for with_book in (True, False, True, False)
    ]
    print(f"a lone event: {costs[0]:.0f} and {costs[2]:.0f} µs of CPU with the book,")
    print(f"              {costs[1]:.0f} and {costs[3]:.0f} µs without")
    account.close()


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
