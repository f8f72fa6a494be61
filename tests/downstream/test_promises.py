"""The delivery promises, tested against random histories of account, journal and clients."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import txaio
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
from tests.support.properties import examples
from tests.support.redis import need_redis
from tests.support.redisjournals import leading_journal
from tests.support.redislog import SyncRedis, SyncRedisClient
from tests.support.socket_limits import limit_sockets
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
"""Events that the journal stores: few, so that positions of readers get trimmed."""

BUFFER_BYTES = 4096
"""Bytes that a transport buffers before it pauses its producer.

It is a few events, so that a short write may or may not cause a pause.
"""

LIMITS = Limits(stall_timeout=1e9)

NORMAL_CLOSE = 1000
CLOSE_PAYLOAD = NORMAL_CLOSE.to_bytes(2)
"""The payload of a client's close frame, and of the reply to it."""

FRAMES = ((TEXT, AUTH), (PING, b"?"))
"""Frames that a client may send at any time. Each one gets a reply."""


@dataclass(eq=False)
class PromiseReader:
    """A client that disconnects and resumes, and stores what it gets."""

    begin: int
    """The index of the first event that it must get."""
    cursor: str
    """Where it would resume."""
    peer: Peer
    log: list[bytes] = field(default_factory=list, repr=False)
    confirmed: int = 0
    """How many of its events are before the cursor."""
    is_connected: bool = True
    was_rejected: bool = False

    @property
    def is_reading(self) -> bool:
        return self.peer.socket.room is None

    def read(self) -> None:
        """Store the events that arrived."""
        self.log += [text for text in self.peer.taken() if b'"trade_updates"' in text]
        if self.peer.closed is not None:
            assert self.peer.closed in (
                NORMAL_CLOSE,
                CloseCode.TOO_SLOW.code,
                CloseCode.POSITION_LOST.code,
            )
            self.was_rejected = self.peer.closed != NORMAL_CLOSE
            self.is_connected = False

    def disconnect(self) -> None:
        """Disconnect without a close frame."""
        self.read()
        self.peer.socket.is_reset = True
        self.is_connected = False


class PromiseMachine(RuleBasedStateMachine):
    """Random publishing, repeats, stalls, crashes, full disks and trimming.

    The log of every reader must stay a contiguous copy of the events.
    """

    def __init__(self) -> None:
        super().__init__()
        self.number = 0
        self.events: list[Any] = []
        """The events that were published and not lost in a crash, in order."""
        self.readers: list[PromiseReader] = []

    # The storage of the log, and its faults.

    def open_journal(self) -> Journal:
        """Return the journal that the next start of the process finds."""
        raise NotImplementedError

    def fail_or_restore(self, is_broken: bool) -> None:
        """Make the storage reject writes, or accept them again."""
        raise NotImplementedError

    def kill(self) -> None:
        """End the process in its current state."""
        raise NotImplementedError

    def count_buffered(self) -> int:
        """Return how many events have arrived but are not delivered."""
        return 0

    # The rules.

    @initialize(count=st.integers(1, 6))
    def begin(self, count: int) -> None:
        self.open()
        self.connect(count)

    def open(self) -> None:
        self.kernel = Kernel()
        txaio.config.loop = self.kernel  # type: ignore[attr-defined]  # set at run time
        self.journal = self.open_journal()
        self.account = Account("paper", self.journal, self.kernel)
        self.factory = DownstreamFactory(LIMITS, self.kernel, limit_sockets(LIMITS))
        admission = Admission((), (), Tokens(()))
        self.site = build_site(
            {"paper": self.account}, self.factory, admission, self.kernel, self.kernel.seconds
        )

    def peer(self, query: str = "") -> Peer:
        peer = Peer(self.kernel, self.site, f"/trade-updates-paper{query}")
        peer.transport.bufferSize = BUFFER_BYTES
        return peer

    @rule(count=st.integers(1, 20), turns=st.integers(1, 3))
    def publish(self, count: int, turns: int) -> None:
        """Receive some events in one turn of the reactor, and deliver them in the next ones."""
        for _ in range(count):
            self.number += 1
            self.events.append(event(self.number))
            self.account.publish(self.events[-1])
        self.kernel.turn(turns)

    @rule(data=st.data(), frame=st.sampled_from(FRAMES))
    def interrupt(self, data: st.DataObject, frame: tuple[int, bytes]) -> None:
        """Let some clients send frames that need a reply while events are delivered."""
        for reader in data.draw(st.lists(st.sampled_from(self.readers), max_size=3)):
            opcode, text = frame
            reader.peer.say(text, opcode)
        self.publish(1, 1)

    @precondition(lambda self: self.journal.first <= self.journal.last)
    @rule(data=st.data())
    def repeat(self, data: st.DataObject) -> None:
        """Alpaca repeats some of the events that are still stored."""
        count = min(self.journal.last - self.journal.first + 1, MAX_EVENTS // 2)
        for age in data.draw(st.lists(st.integers(1, count), max_size=5)):
            self.account.publish(self.events[-age])
        self.kernel.turn()

    @rule(count=st.integers(1, 4))
    def connect(self, count: int) -> None:
        """Connect plain clients, whose streams begin with the next event."""
        for _ in range(count):
            cursor = self.account.cursor_at(self.journal.last) or ""
            self.readers.append(
                PromiseReader(
                    len(self.events) - self.count_buffered(), cursor, self.peer().subscribe()
                )
            )

    @rule(data=st.data(), sends_close=st.booleans())
    def disconnect_or_resume(self, data: st.DataObject, sends_close: bool) -> None:
        """Disconnect a client, or resume one from its cursor."""
        reader = data.draw(st.sampled_from(self.readers))
        if not reader.is_connected:
            self.resume(reader)
            return
        if sends_close:
            reader.peer.say(CLOSE_PAYLOAD, CLOSE)
            self.kernel.turn()
        reader.disconnect()

    def resume(self, reader: PromiseReader) -> None:
        """Resume a client: it gets the next events, or is closed with 4010."""
        if not reader.cursor or reader.was_rejected:
            return
        del reader.log[reader.confirmed :]  # events after the cursor are sent again
        is_kept = int(reader.cursor.split(".")[2]) >= self.journal.first - 1
        reader.peer = self.peer(f"?since_id={reader.cursor}").subscribe()
        reader.is_connected = True
        reader.read()
        assert reader.was_rejected is not is_kept, (
            "closed with 4010 if and only if the position is trimmed"
        )

    @rule(data=st.data(), room=st.integers(0, 6000), turns=st.integers(0, 3))
    def stall_or_wake(self, data: st.DataObject, room: int, turns: int) -> None:
        """Let a client stop reading, with some room in its socket, or read again."""
        connected = [reader for reader in self.readers if reader.is_connected]
        reader = data.draw(st.sampled_from(connected or self.readers))
        reader.peer.socket.room = room if reader.is_reading else None
        self.kernel.turn(turns)

    @rule()
    def trim(self) -> None:
        """Time passes, and events beyond the limit are trimmed."""
        self.kernel.advance(11)
        if self.journal.status.durable:
            assert self.journal.last - self.journal.first + 1 <= MAX_EVENTS

    @rule(is_broken=st.booleans())
    def fail_or_recover(self, is_broken: bool) -> None:
        """Fill the disk or disconnect Redis, or undo it."""
        self.fail_or_restore(is_broken)
        if not is_broken:
            self.kernel.advance(2)
            assert self.journal.status.durable

    @rule()
    def crash(self) -> None:
        """Kill the process and start another one from the log; connected clients resume."""
        last, buffered = self.journal.last, self.count_buffered()
        durable = max(
            (row.seq for row in self.rows() if row.durable), default=self.journal.first - 1
        )
        self.kill()
        self.open()
        assert self.journal.last == durable, "the durable rows are there, and no others"
        del self.events[len(self.events) - buffered - (last - durable) :]
        for reader in self.readers:
            was_connected = reader.is_connected
            reader.disconnect()
            del reader.log[max(len(self.events) - reader.begin, 0) :]
            if was_connected:
                self.resume(reader)

    @rule()
    def settle(self) -> None:
        """After some turns each client that reads has the newest event, or was closed."""
        self.kernel.settle()
        for reader in self.readers:
            reader.read()
            if reader.is_connected and reader.is_reading:
                assert reader.begin + len(reader.log) == len(self.events) - self.count_buffered()
        assert len(self.account.broadcaster) <= sum(reader.is_connected for reader in self.readers)

    def rows(self) -> list[Row]:
        rows: list[Row] = []
        while (
            batch := self.journal.read(rows[-1].seq if rows else self.journal.first - 1, 100)
        ) is not None:
            rows.extend(batch.rows)
        return rows

    @invariant()
    def the_journal_has_every_event_once_in_order(self) -> None:
        kept = [row.payload for row in self.rows()]
        end = len(self.events) - self.count_buffered()
        assert kept == [published.payload for published in self.events][end - len(kept) : end]

    @invariant()
    def every_log_is_a_contiguous_copy(self) -> None:
        payloads = [published.payload for published in self.events]
        cursors = {row.payload: self.account.cursor_after(row) for row in self.rows()}
        for reader in self.readers:
            reader.read()
            assert reader.log == payloads[reader.begin : reader.begin + len(reader.log)]
            for count, payload in enumerate(reader.log[reader.confirmed :], reader.confirmed + 1):
                if (cursor := cursors.get(payload)) is not None:
                    reader.cursor, reader.confirmed = cursor, count

    def teardown(self) -> None:
        if hasattr(self, "journal"):
            for reader in self.readers:
                reader.peer.socket.room = None  # at the end every client reads
            self.settle()
            for reader in self.readers:
                reader.disconnect()
            self.kernel.settle()
            assert len(self.account.broadcaster) == len(self.factory.clients) == 0
            self.journal.close()


class SqlitePromiseMachine(PromiseMachine):
    """The log is a SQLite file."""

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

    def fail_or_restore(self, is_broken: bool) -> None:
        """Limit the file to its current pages, or lift the limit."""
        (pages,) = self.connections[-1].execute("PRAGMA page_count").fetchone()
        self.connections[-1].execute(f"PRAGMA max_page_count = {pages if is_broken else 1_000_000}")

    def kill(self) -> None:
        """Continue with a copy of the files as they are."""
        self.lives += 1
        after = self.root / str(self.lives)
        shutil.copytree(self.directory, after)
        self.journal.close()
        self.directory = after

    def teardown(self) -> None:
        super().teardown()
        shutil.rmtree(self.root)


class RedisPromiseMachine(PromiseMachine):
    """The log is in Redis.

    Events that arrive while Redis is away are delivered later, unless the process crashes before.
    """

    redis_clients: Sequence[SyncRedisClient] | None = None

    def open_journal(self) -> Journal:
        self.redis = SyncRedis(self.kernel, is_empty=self.redis_clients is None)
        self.redis_clients = ()
        self.broken_at: int | None = None
        journal = leading_journal(self.redis, max_age=1e9, max_events=MAX_EVENTS)
        self.redis_clients = self.redis.clients[-2:]
        return journal

    def fail_or_restore(self, is_broken: bool) -> None:
        if is_broken and self.broken_at is None:
            self.broken_at = len(self.events)
        for redis_client in self.redis_clients or ():
            redis_client.cut() if is_broken else redis_client.restore()
        if not is_broken:
            self.broken_at = None

    def count_buffered(self) -> int:
        return 0 if self.broken_at is None else len(self.events) - self.broken_at

    def kill(self) -> None:
        self.journal.close()

    def teardown(self) -> None:
        if self.redis_clients is not None:
            self.fail_or_restore(False)
            self.kernel.advance(2)
        super().teardown()


class DeliveryPromiseTests(SynchronousTestCase):
    """The state machines as tests."""

    def test_any_history_with_a_log_on_disk_keeps_the_promises(self) -> None:
        """Hypothesis searches for a history that breaks one."""
        self.run_machine(SqlitePromiseMachine, 20)

    def test_any_history_with_a_log_in_redis_keeps_the_promises(self) -> None:
        """Redis is lost and restored, too."""
        need_redis()
        self.run_machine(RedisPromiseMachine, 15)

    def run_machine(self, machine: type[PromiseMachine], count: int) -> None:
        """Run with limits so small that two or three clients fill a chunk or a send group."""
        self.patch(txaio.config, "loop", None)  # type: ignore[attr-defined]  # set at run time
        self.patch(broadcaster, "CHUNK", 1)
        self.patch(send_group, "MAX_GROUP_SIZE", 2)
        run_state_machine_as_test(
            machine,
            settings=examples(count, stateful_step_count=30, print_blob=False),
        )
