"""The promises about events, held against whatever may happen to account, journal and clients."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import txaio
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
from twisted.trial.unittest import SynchronousTestCase

from tests.support.frames import AUTH
from tests.support.journals import event, journal_at
from tests.support.plain import CLOSE, PING, TEXT, Kernel, Peer
from tests.support.redis import need_redis
from tests.support.redisjournals import leading_journal
from tests.support.redislog import SyncRedisClient, SyncRedis
from tradeproxy.config.settings import Limits
from tradeproxy.downstream import send_group
from tradeproxy.downstream.admission import Admission, Tokens
from tradeproxy.downstream.factory import DownstreamFactory
from tradeproxy.hub import broadcaster
from tradeproxy.hub.account import Account
from tradeproxy.journal.base import Journal, Row
from tradeproxy.web.site import build_site
from tradeproxy.wire.close_codes import CloseCode

MAX_EVENTS = 40
"""What the journal keeps: little enough for readers to fall out of it."""

MOST_HELD = 4096
"""Bytes that a transport holds before it asks for a pause: some events, so that short writes go both ways."""

LIMITS = Limits(stall_timeout=1e9)

ITS_OWN = 1000
GOODBYE = ITS_OWN.to_bytes(2)
"""What a client's close frame says, and the answer to it."""

FRAMES = ((TEXT, AUTH), (PING, b"?"))
"""What a client may say in between; it is answered."""


@dataclass(eq=False)
class Reader:
    """A client that leaves and comes back; it notes what it is sent."""

    begin: int
    """The index of the first event that it is to have."""
    cursor: str
    """Where it would resume."""
    peer: Peer
    log: list[bytes] = field(default_factory=list, repr=False)
    certain: int = 0
    """How many of its events come before the cursor."""
    is_connected: bool = True
    was_told: bool = False

    @property
    def is_reading(self) -> bool:
        return self.peer.socket.room is None

    def look(self) -> None:
        """Note what has come."""
        self.log += [text for text in self.peer.taken() if b'"trade_updates"' in text]
        if self.peer.closed is not None:
            assert self.peer.closed in (
                ITS_OWN,
                CloseCode.TOO_SLOW.code,
                CloseCode.POSITION_LOST.code,
            )
            self.was_told = self.peer.closed != ITS_OWN
            self.is_connected = False

    def disconnect(self) -> None:
        """Vanish without a word."""
        self.look()
        self.peer.socket.is_reset = True
        self.is_connected = False


class Promises(RuleBasedStateMachine):
    """Publish, repeat, stall, crash, fill the disk, trim; every reader's log stays what it was promised."""

    def __init__(self) -> None:
        super().__init__()
        self.number = 0
        self.events: list[Any] = []
        """What has been published and not lost by a crash, in order."""
        self.readers: list[Reader] = []

    # Where the log is, and what may befall it.

    def open_journal(self) -> Journal:
        """Return what the next start of the process finds there."""
        raise NotImplementedError

    def break_or_mend(self, is_broken: bool) -> None:
        """Let it take nothing more, or take everything again."""
        raise NotImplementedError

    def kill(self) -> None:
        """End the process as it is."""
        raise NotImplementedError

    def waiting(self) -> int:
        """Return how many events have come, and are not handed on."""
        return 0

    # What happens.

    @initialize(count=st.integers(1, 6))
    def begin(self, count: int) -> None:
        self.open()
        self.connect(count)

    def open(self) -> None:
        self.kernel = Kernel()
        txaio.config.loop = self.kernel  # type: ignore[attr-defined]  # set at run time
        self.journal = self.open_journal()
        self.account = Account("paper", self.journal, self.kernel)
        self.factory = DownstreamFactory(LIMITS, self.kernel)
        admission = Admission((), (), Tokens(()))
        self.site = build_site({"paper": self.account}, self.factory, admission, self.kernel)

    def peer(self, query: str = "") -> Peer:
        peer = Peer(self.kernel, self.site, f"/trade-updates-paper{query}")
        peer.transport.bufferSize = MOST_HELD
        return peer

    @rule(count=st.integers(1, 20), turns=st.integers(1, 3))
    def publish(self, count: int, turns: int) -> None:
        """One turn of the reactor brings some events; in the next ones they are handed on."""
        for _ in range(count):
            self.number += 1
            self.events.append(event(self.number))
            self.account.publish(self.events[-1])
        self.kernel.turn(turns)

    @rule(data=st.data(), frame=st.sampled_from(FRAMES))
    def interrupt(self, data: st.DataObject, frame: tuple[int, bytes]) -> None:
        """While events are handed on, some clients say something that is answered."""
        for reader in data.draw(st.lists(st.sampled_from(self.readers), max_size=3)):
            opcode, text = frame
            reader.peer.say(text, opcode)
        self.publish(1, 1)

    @precondition(lambda self: self.journal.first <= self.journal.last)
    @rule(data=st.data())
    def repeat(self, data: st.DataObject) -> None:
        """Alpaca sends some of what is still kept once more."""
        count = min(self.journal.last - self.journal.first + 1, MAX_EVENTS // 2)
        for age in data.draw(st.lists(st.integers(1, count), max_size=5)):
            self.account.publish(self.events[-age])
        self.kernel.turn()

    @rule(count=st.integers(1, 4))
    def connect(self, count: int) -> None:
        """Connect plain clients, which begin with what comes next."""
        for _ in range(count):
            cursor = self.account.cursor_at(self.journal.last) or ""
            self.readers.append(
                Reader(len(self.events) - self.waiting(), cursor, self.peer().subscribe())
            )

    @rule(data=st.data(), says_goodbye=st.booleans())
    def leave_or_resume(self, data: st.DataObject, says_goodbye: bool) -> None:
        """Disconnect a client, or bring one back with its cursor."""
        reader = data.draw(st.sampled_from(self.readers))
        if not reader.is_connected:
            self.bring_back(reader)
            return
        if says_goodbye:
            reader.peer.say(GOODBYE, CLOSE)
            self.kernel.turn()
        reader.disconnect()

    def bring_back(self, reader: Reader) -> None:
        """Let it resume: it gets what follows, or is told."""
        if not reader.cursor or reader.was_told:
            return
        del reader.log[reader.certain :]  # what had no cursor comes again
        is_kept = int(reader.cursor.split(".")[2]) >= self.journal.first - 1
        reader.peer = self.peer(f"?since_id={reader.cursor}").subscribe()
        reader.is_connected = True
        reader.look()
        assert reader.was_told is not is_kept, "told if there is need, and only then"

    @rule(data=st.data(), room=st.integers(0, 6000), turns=st.integers(0, 3))
    def stall_or_wake(self, data: st.DataObject, room: int, turns: int) -> None:
        """Let a client stop reading, so that its socket takes little more, or read again for some turns."""
        connected = [reader for reader in self.readers if reader.is_connected]
        reader = data.draw(st.sampled_from(connected or self.readers))
        reader.peer.socket.room = room if reader.is_reading else None
        self.kernel.turn(turns)

    @rule()
    def trim(self) -> None:
        """Time passes, and what is beyond the limit is trimmed."""
        self.kernel.advance(11)
        if self.journal.status.durable:
            assert self.journal.last - self.journal.first + 1 <= MAX_EVENTS

    @rule(is_broken=st.booleans())
    def fail_or_recover(self, is_broken: bool) -> None:
        """Fill the disk, or let Redis be away, from now on; or let it be there again."""
        self.break_or_mend(is_broken)
        if not is_broken:
            self.kernel.advance(2)
            assert self.journal.status.durable

    @rule()
    def crash(self) -> None:
        """Kill the process, and start another one from the log as it is; who was there comes back."""
        last, waiting = self.journal.last, self.waiting()
        durable = max(
            (row.seq for row in self.rows() if row.durable), default=self.journal.first - 1
        )
        self.kill()
        self.open()
        assert self.journal.last == durable, "what was called durable is there, and nothing else"
        del self.events[len(self.events) - waiting - (last - durable) :]
        for reader in self.readers:
            was_connected = reader.is_connected
            reader.disconnect()
            del reader.log[max(len(self.events) - reader.begin, 0) :]
            if was_connected:
                self.bring_back(reader)

    @rule()
    def settle(self) -> None:
        """After some turns of the reactor a client that reads is at the newest event, or was told."""
        self.kernel.settle()
        for reader in self.readers:
            reader.look()
            if reader.is_connected and reader.is_reading:
                assert reader.begin + len(reader.log) == len(self.events) - self.waiting()
        assert len(self.account.broadcaster) <= sum(reader.is_connected for reader in self.readers)

    def rows(self) -> list[Row]:
        rows: list[Row] = []
        while (
            burst := self.journal.read(rows[-1].seq if rows else self.journal.first - 1, 100)
        ) is not None:
            rows.extend(burst.rows)
        return rows

    @invariant()
    def the_journal_has_every_event_once_in_order(self) -> None:
        kept = [row.payload for row in self.rows()]
        end = len(self.events) - self.waiting()
        assert kept == [published.payload for published in self.events][end - len(kept) : end]

    @invariant()
    def every_log_is_a_contiguous_copy(self) -> None:
        payloads = [published.payload for published in self.events]
        cursors = {row.payload: self.account.cursor_after(row) for row in self.rows()}
        for reader in self.readers:
            reader.look()
            assert reader.log == payloads[reader.begin : reader.begin + len(reader.log)]
            for count, payload in enumerate(reader.log[reader.certain :], reader.certain + 1):
                if (cursor := cursors.get(payload)) is not None:
                    reader.cursor, reader.certain = cursor, count

    def teardown(self) -> None:
        if hasattr(self, "journal"):
            for reader in self.readers:
                reader.peer.socket.room = None  # in the end everybody reads
            self.settle()
            for reader in self.readers:
                reader.disconnect()
            self.kernel.settle()
            assert len(self.account.broadcaster) == len(self.factory.clients) == 0
            self.journal.close()


class OnDiskPromises(Promises):
    """The log is a file."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(mkdtemp())
        self.lives = 0
        self.directory = self.root / "0"
        self.directory.mkdir()

    def open_journal(self) -> Journal:
        self.connections: list[sqlite3.Connection] = []
        path = self.directory / "paper.sqlite3"
        limits: dict[str, Any] = {"max_age": 1e9, "max_events": MAX_EVENTS}
        journal = journal_at(path, self.kernel, **limits, connect=self.connect_store)
        journal.open()
        return journal

    def connect_store(self, *arguments: Any, **options: Any) -> sqlite3.Connection:
        connection: sqlite3.Connection = sqlite3.connect(*arguments, **options)
        self.connections.append(connection)
        return connection

    def break_or_mend(self, is_broken: bool) -> None:
        """SQLite finds no further page; or there is room again."""
        (pages,) = self.connections[-1].execute("PRAGMA page_count").fetchone()
        self.connections[-1].execute(f"PRAGMA max_page_count = {pages if is_broken else 1_000_000}")

    def kill(self) -> None:
        """Take the files as they are."""
        self.lives += 1
        after = self.root / str(self.lives)
        shutil.copytree(self.directory, after)
        self.journal.close()
        self.directory = after

    def teardown(self) -> None:
        super().teardown()
        shutil.rmtree(self.root)


class InRedisPromises(Promises):
    """The log is in Redis; what comes while that is away is handed on afterwards, if this process lives."""

    links: Sequence[SyncRedisClient] | None = None

    def open_journal(self) -> Journal:
        self.redis = SyncRedis(self.kernel, is_empty=self.links is None)
        self.links = ()
        self.cut_at: int | None = None
        journal = leading_journal(self.redis, max_age=1e9, max_events=MAX_EVENTS)
        self.links = self.redis.clients[-2:]
        return journal

    def break_or_mend(self, is_broken: bool) -> None:
        if is_broken and self.cut_at is None:
            self.cut_at = len(self.events)
        for link in self.links or ():
            link.cut() if is_broken else link.restore()
        if not is_broken:
            self.cut_at = None

    def waiting(self) -> int:
        return 0 if self.cut_at is None else len(self.events) - self.cut_at

    def kill(self) -> None:
        self.journal.close()

    def teardown(self) -> None:
        if self.links is not None:
            self.break_or_mend(False)
            self.kernel.advance(2)
        super().teardown()


class PromisesTests(SynchronousTestCase):
    """The machines, as tests."""

    def test_they_are_kept_by_a_log_on_the_disk(self) -> None:
        """Whatever happens; Hypothesis looks for a history in which one is broken."""
        self.run_machine(OnDiskPromises, 60)

    def test_they_are_kept_by_a_log_in_redis(self) -> None:
        """The same, with a Redis that goes away and comes back."""
        need_redis()
        self.run_machine(InRedisPromises, 40)

    def run_machine(self, machine: type[Promises], examples: int) -> None:
        """Let two or three clients be many."""
        self.patch(txaio.config, "loop", None)  # type: ignore[attr-defined]  # set at run time
        self.patch(broadcaster, "CHUNK", 1)
        self.patch(send_group, "MAX_GROUP_SIZE", 2)
        run_state_machine_as_test(
            machine,
            settings=profile(
                deadline=None,
                derandomize=True,
                max_examples=examples,
                stateful_step_count=30,
                print_blob=False,
            ),
        )
