"""Feeds over a journal of a few rows in a list, and a sink that records what they do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.support.memory import StrictClock
from tradeproxy.downstream.feed import Feed
from tradeproxy.downstream.log_reader import LogReader
from tradeproxy.journal.base import Batch, Row, TrimmedError, UnreadableError
from tradeproxy.wire.proxy_status import JournalStatus

STALL_TIMEOUT = 30.0


class TurnClock(StrictClock):
    """A clock that can run one turn of the reactor.

    `advance` also runs the calls that are planned during the turn; `turn` does not.
    """

    def turn(self) -> None:
        """Run the calls that are due now, but not those that they plan."""
        for call in [call for call in self.getDelayedCalls() if call.getTime() <= self.seconds()]:
            if call.active():
                planned: Any = call
                self.calls.remove(planned)
                planned.called = 1
                planned.func(*planned.args, **planned.kw)


class ListJournal:
    """The part of a journal that a feed reads, in a list.

    A hole stands for any number of events that were not stored.
    """

    epoch = "0123456789abcdef"
    status = JournalStatus(durable=True, reason="", since=0)

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.first = 1
        self.reads = 0
        self.is_readable = True

    @property
    def last(self) -> int:
        return len(self.rows)

    def append(self, *payloads: bytes) -> Batch:
        """Add rows and return them."""
        start = self.last
        self.rows += [Row(start + n, payload) for n, payload in enumerate(payloads, 1)]
        return Batch(tuple(self.rows[start:]))

    def lose(self, *payloads: bytes) -> Batch:
        """Return a batch that is not stored, with the number of its hole."""
        if not self.rows or self.rows[-1].payload is not None:
            self.rows.append(Row(self.last + 1, None))
        return Batch(tuple(Row(self.last, payload) for payload in payloads), overflow=True)

    def read(self, after: int, limit: int) -> Batch | None:
        """Return the rows after a number."""
        self.reads += 1
        if not self.is_readable:
            raise UnreadableError
        if after < self.first - 1:
            raise TrimmedError
        rows = tuple(self.rows[after : after + limit])
        return Batch(rows) if rows else None


class RecordingSink:
    """A sink that records all calls, and may pause the feed during a write."""

    def __init__(self, log: ListJournal, clock: Clock, log_reader: LogReader | None = None) -> None:
        self.sent: list[bytes] = []
        self.calls: list[str] = []
        self.on_write: Callable[[], object] = lambda: None
        journal: Any = log
        self.feed = Feed(journal, log_reader or LogReader(clock, STALL_TIMEOUT), self)

    def encode(self, batch: Batch) -> bytes | None:
        payloads = [row.payload for row in batch.rows]
        return None if None in payloads else b" ".join(filter(None, payloads))

    def write(self, frames: bytes) -> None:
        self.sent += frames.split()
        self.on_write()

    def on_pause(self) -> None:
        self.calls.append("paused")

    def on_resume(self) -> None:
        self.calls.append("resumed")

    def on_caught_up(self) -> None:
        self.calls.append("caught up")

    def on_hole(self, row: Row) -> None:
        self.sent.append(b"hole %d" % row.seq)

    def on_trimmed(self) -> None:
        self.calls.append("trimmed")

    def on_unreadable(self) -> None:
        self.calls.append("unreadable")

    def on_stall(self, _seconds: float) -> None:
        self.calls.append("stalled")

    def abort(self) -> None:
        self.calls.append("aborted")


class FeedTestCase(SynchronousTestCase):
    """A feed and its journal, without tests."""

    def setUp(self) -> None:
        self.clock = TurnClock()
        self.log = ListJournal()
        self.sink = RecordingSink(self.log, self.clock)
        self.feed = self.sink.feed

    def turn(self, count: int = 1) -> None:
        """Run some turns of the reactor."""
        for _ in range(count):
            self.clock.turn()
