"""The promises about events, held against whatever may happen to account, journal and subscribers."""

from __future__ import annotations

import shutil
import sqlite3
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from hypothesis import settings as profile
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.support.journals import event
from tradeproxy.downstream.feed import Feed
from tradeproxy.downstream.steps import Steps
from tradeproxy.hub.account import Account
from tradeproxy.hub.journal import Burst, Row
from tradeproxy.hub.locate import LostPositionError, locate
from tradeproxy.hub.sqlitejournal import SqliteJournal
from tradeproxy.wire.position import AfterId

MAX_EVENTS = 40
"""What the journal keeps: little enough for readers to fall out of it."""


@dataclass(eq=False)
class Reader:
    """A subscriber with a feed of the product's own; it notes what it is sent."""

    account: Account
    log: list[bytes] = field(default_factory=list)
    cursor: str = ""
    """Where it would resume."""
    certain: int = 0
    """How many of its events come before that."""
    is_connected: bool = False
    is_reading: bool = True
    was_told: bool = False
    feed: Any = None

    size = 1

    def connect(self, position: int) -> None:
        self.is_connected, self.is_reading = True, True
        self.feed = Feed(self.account.journal, Steps(), self, self.account._clock, 1e9)  # noqa: SLF001
        self.account.broadcaster.register(self)
        self.feed.start(position)

    def disconnect(self) -> None:
        if self.is_connected:
            self.account.broadcaster.unregister(self)
            self.feed.stopProducing()
        self.is_connected = False

    # What the broadcaster and the feed call.

    def deliver(self, burst: Burst) -> None:
        self.feed.deliver(burst)

    def announce(self, status: bytes) -> None:
        pass

    def sever(self) -> None:
        raise AssertionError("nothing here fails")

    def frame(self, burst: Burst) -> bytes | None:
        self._rows = burst.rows
        return b"frames"

    def write(self, frames: bytes) -> None:
        assert self.is_connected, "sent to nobody"
        assert self.is_reading, "sent to one that does not read"
        for row in self._rows:
            assert row.payload is not None
            self.log.append(row.payload)
            if (cursor := self.account.cursor_behind(row)) is not None:
                self.cursor, self.certain = cursor, len(self.log)

    def paused(self) -> None: ...

    def resumed(self) -> None: ...

    def caught_up(self) -> None: ...

    def stalled(self) -> None: ...

    def unreadable(self) -> None:
        raise AssertionError("the disk can be read, full or not")

    def hole(self, row: Row) -> None:
        raise AssertionError("the backlog is never full here")

    def lost(self) -> None:
        self.was_told = True
        self.disconnect()


class Promises(RuleBasedStateMachine):
    """Publish, repeat, stall, crash, fill the disk, trim; every reader's log stays what it was promised."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(mkdtemp())
        self.clock = Clock()
        self.clock.advance(1_800_000_000)
        self.lives = 0
        self.number = 0
        self.events: list[Any] = []
        """What has been published and not lost by a crash, in order."""
        self.readers: list[tuple[Reader, int]] = []
        """Each with the index of the first event that it is to have."""
        self.directory = self.root / "0"
        self.directory.mkdir()

    @initialize()
    def begin(self) -> None:
        self.open()

    def open(self) -> None:
        self.connections: list[sqlite3.Connection] = []
        self.journal = SqliteJournal(
            "paper",
            self.directory / "paper.sqlite3",
            self.clock,
            base_url="http://alpaca",
            full_sync=False,
            max_age=1e9,
            max_events=MAX_EVENTS,
            connect=self.connect_store,
        )
        self.account = Account("paper", self.journal, self.clock)
        self.journal.open()

    def connect_store(self, *arguments: Any, **options: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = sqlite3.connect(*arguments, **options)
        self.connections.append(connection)
        return connection

    @rule(count=st.integers(1, 12))
    def publish(self, count: int) -> None:
        """One turn of the reactor brings some events."""
        for _ in range(count):
            self.number += 1
            self.events.append(event(self.number))
            self.account.publish(self.events[-1])
        self.clock.advance(0)

    @precondition(lambda self: self.events)
    @rule(data=st.data())
    def repeat(self, data: st.DataObject) -> None:
        """Alpaca sends some of what is still kept once more."""
        kept = self.events[-MAX_EVENTS // 2 :]
        for repeated in data.draw(st.lists(st.sampled_from(kept), max_size=5)):
            self.account.publish(repeated)
        self.clock.advance(0)

    @rule()
    def connect(self) -> None:
        """Connect a plain client, which begins with what comes next."""
        reader = Reader(self.account)
        reader.cursor = self.account.cursor_at(self.journal.last) or ""
        reader.connect(self.journal.last)
        self.readers.append((reader, len(self.events)))

    @precondition(lambda self: self.readers)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        """Disconnect a client."""
        self.pick(data).disconnect()

    @precondition(lambda self: self.readers)
    @rule(data=st.data())
    def resume(self, data: st.DataObject) -> None:
        """Bring a client back with its cursor: it gets what follows, or is told."""
        reader = self.pick(data)
        if reader.is_connected or not reader.cursor or reader.was_told:
            return
        del reader.log[reader.certain :]  # what had no cursor comes again
        try:
            position = locate(self.account, AfterId(reader.cursor))
        except LostPositionError:
            assert int(reader.cursor.split(".")[2]) < self.journal.first - 1, "told without need"
            reader.was_told = True
        else:
            reader.connect(position)

    @precondition(lambda self: self.readers)
    @rule(data=st.data(), turns=st.integers(0, 3))
    def stall_or_wake(self, data: st.DataObject, turns: int) -> None:
        """Let a client stop reading, or read again for some turns of the reactor."""
        reader = self.pick(data)
        if not reader.is_connected:
            return
        reader.is_reading = not reader.is_reading
        if not reader.is_reading:
            reader.feed.pauseProducing()
            return
        reader.feed.resumeProducing()
        for _ in range(turns):
            self.clock.advance(0)

    @rule()
    def trim(self) -> None:
        """Time passes, and what is beyond the limit is trimmed."""
        self.clock.advance(11)
        if self.journal.status.durable:
            assert self.journal.last - self.journal.first + 1 <= MAX_EVENTS

    @rule()
    def fill_disk(self) -> None:
        """SQLite finds no further page from now on."""
        (pages,) = self.connections[-1].execute("PRAGMA page_count").fetchone()
        self.connections[-1].execute(f"PRAGMA max_page_count = {pages}")

    @rule()
    def free_disk(self) -> None:
        """There is room again."""
        self.connections[-1].execute("PRAGMA max_page_count = 1000000")
        self.clock.advance(2)
        assert self.journal.status.durable

    @rule()
    def crash(self) -> None:
        """Kill the process, and start another one from the files as they are."""
        last = self.journal.last
        on_disk = max((row.seq for row in self.rows() if row.durable), default=self.journal.first - 1)
        self.lives += 1
        after = self.root / str(self.lives)
        shutil.copytree(self.directory, after)
        for reader, _ in self.readers:
            reader.disconnect()
        self.journal.close()
        self.directory = after
        self.open()
        for reader, _ in self.readers:
            reader.account = self.account
        assert self.journal.last == on_disk, "what was called durable is on the disk, and nothing else"
        del self.events[len(self.events) - (last - on_disk) :]
        for reader, begin in self.readers:
            del reader.log[max(len(self.events) - begin, 0) :]

    def rows(self) -> list[Row]:
        rows: list[Row] = []
        while (burst := self.journal.read(rows[-1].seq if rows else self.journal.first - 1, 100)) is not None:
            rows.extend(burst.rows)
        return rows

    def pick(self, data: st.DataObject) -> Reader:
        reader, _ = data.draw(st.sampled_from(self.readers))
        return reader

    @invariant()
    def the_journal_has_every_event_once_in_order(self) -> None:
        kept = [row.payload for row in self.rows()]
        assert kept == [published.payload for published in self.events][len(self.events) - len(kept) :]

    @invariant()
    def every_log_is_a_contiguous_copy(self) -> None:
        payloads = [published.payload for published in self.events]
        for reader, begin in self.readers:
            assert reader.log == payloads[begin : begin + len(reader.log)]

    @invariant()
    def who_reads_has_everything(self) -> None:
        """After a few turns of the reactor a client that reads is at the newest event, or was told."""
        for _ in range(4):
            self.clock.advance(0)
        for reader, begin in self.readers:
            if reader.is_connected and reader.is_reading:
                assert begin + len(reader.log) == len(self.events)

    def teardown(self) -> None:
        if hasattr(self, "journal"):
            self.journal.close()
        shutil.rmtree(self.root)


class PromisesTests(SynchronousTestCase):
    """The machine, as a test."""

    def test_they_are_kept_whatever_happens(self) -> None:
        """Hypothesis looks for a history in which one is broken."""
        run_state_machine_as_test(
            Promises,
            settings=profile(
                deadline=None, derandomize=True, max_examples=60, stateful_step_count=30, print_blob=False
            ),
        )
