"""Tests for tradeproxy.downstream.log_reader, over a journal of a few rows."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.support.feeds import STALL_TIMEOUT, ListJournal, RecordingSink, TurnClock
from tradeproxy.downstream.log_reader import STEPS_PER_TURN, TURN, LogReader
from tradeproxy.journal.base import Row


class LogReaderTests(SynchronousTestCase):
    """A log is read in steps, which clients at one position share."""

    def setUp(self) -> None:
        self.log = ListJournal()
        self.journal: Any = self.log
        self.clock = TurnClock()
        self.log_reader = self.make_reader()

    def make_reader(self) -> LogReader:
        """Return a reader without steps."""
        return LogReader(self.clock, STALL_TIMEOUT)

    def list_steps(self, *payloads: bytes | None) -> list[int]:
        """Return the sizes of the steps in which a log of these rows is read."""
        self.setUp()
        self.log.rows = [Row(seq, payload) for seq, payload in enumerate(payloads, 1)]
        sizes: list[int] = []
        after = 0
        while (batch := self.log_reader.read(self.journal, after)) is not None:
            self.assertEqual(batch.first, after + 1)
            sizes.append(len(batch.rows))
            after = batch.last
        self.assertEqual(after, len(payloads))
        return sizes

    def test_step_has_128_rows_or_64_kib_at_most(self) -> None:
        """A client that stops reading costs little memory. A row alone may be larger."""
        half = b"x" * (32 * 1024)
        for payloads, steps in (
            ([b"x"] * 300, [128, 128, 44]),
            ([half, half, half], [2, 1]),
            ([half, half + b"x", half], [1, 1, 1]),
            ([4 * half, b"x", 4 * half], [1, 1, 1]),
        ):
            self.assertEqual(self.list_steps(*payloads), steps)

    def test_clients_that_do_not_read_share_8_mib(self) -> None:
        """3,000 replays at once took 200 MB."""
        self.log.append(*[b"x" * 1000] * 200)
        for paused, rows in ((0, 65), (128, 65), (129, 32), (1000, 8), (3000, 4), (100_000, 4)):
            self.log_reader = self.make_reader()
            for _ in range(paused):
                self.log_reader.add_paused("")
            batch = self.log_reader.read(self.journal, 0)
            assert batch is not None
            self.assertEqual(len(batch.rows), rows, paused)

    def test_clients_of_one_address_do_not_make_the_steps_of_others_small(self) -> None:
        """Beside 1,000 of them, a snapshot of 20 MB was sent in 2,500 turns: 10 s and more."""
        for _ in range(1000):
            self.log_reader.add_paused("192.0.2.1")
        self.assertEqual(self.log_reader.find_step_bytes("192.0.2.1"), 8 * 1024)
        self.assertEqual(self.log_reader.find_step_bytes("192.0.2.2"), 64 * 1024)
        for number in range(255):
            self.log_reader.add_paused(f"198.51.100.{number}")
        self.assertEqual(self.log_reader.find_step_bytes("192.0.2.2"), 16 * 1024)
        for _ in range(1000):
            self.log_reader.discard_paused("192.0.2.1")
        self.assertEqual(self.log_reader.paused, 255)

    def test_hole_is_a_step_of_its_own(self) -> None:
        """The rows before and after it are other steps."""
        for payloads, steps in (
            ([b"a", b"b", None, b"c"], [2, 1, 1]),
            ([None, None, b"a", b"b"], [1, 1, 2]),
            ([b"a", None], [1, 1]),
        ):
            self.assertEqual(self.list_steps(*payloads), steps)

    def test_read_same_position_reads_once(self) -> None:
        """Clients that fell behind at the same event share each step."""
        self.log.append(*[b"x"] * 10)
        first = self.log_reader.read(self.journal, 0)
        self.assertIs(self.log_reader.read(self.journal, 0), first)
        self.assertEqual(self.log.reads, 1)
        self.log.append(b"y")
        again = self.log_reader.read(self.journal, 0)
        assert again is not None
        self.assertEqual(again.last, 11)

    def test_read_keeps_the_last_eight_steps(self) -> None:
        """Clients at more positions than that share none: memory stays bounded."""
        self.log.append(*[b"x"] * 20)
        for positions, reads in ((8, 8), (9, 18)):
            self.log_reader, self.log.reads = self.make_reader(), 0
            for after in (*range(positions), *range(positions)):
                self.log_reader.read(self.journal, after)
            self.assertEqual(self.log.reads, reads)

    def test_many_replays_share_the_turns_in_order(self) -> None:
        """A turn has a bounded number of steps: live events and handshakes do not wait for all."""
        self.log.append(*[b"x"] * 200)
        clock = self.clock
        sinks = [RecordingSink(self.log, clock, self.log_reader) for _ in range(100)]
        for sink in sinks:
            sink.feed.start(0)
        for turns in (1, 2, 3, 4):
            clock.turn()
            progress = [len(sink.sent) for sink in sinks]
            done = min(turns * STEPS_PER_TURN, 100)
            again = max(turns * STEPS_PER_TURN - 100, 0)
            self.assertEqual(progress, [200] * again + [128] * (done - again) + [0] * (100 - done))
        sinks[-1].feed.stopProducing()
        clock.advance(0)
        self.assertEqual([len(sink.sent) for sink in sinks], [200] * 99 + [128])

    def test_slow_steps_share_the_turns_in_order(self) -> None:
        """300 replays with filters, each at its own position, delayed a live event by 1 s.

        A step parses up to 128 rows for a filter. 32 such steps took 100 ms of every turn.
        """
        clock = self.clock
        ran: list[int] = []

        def add_step(number: int, seconds: float) -> None:
            def step() -> None:
                ran.append(number)
                clock.rightNow += seconds

            self.log_reader.schedule(step, "")

        for number in range(STEPS_PER_TURN):
            add_step(number, 0.4 * TURN)
        for turns in (1, 2, 3):
            clock.turn()
            self.assertEqual(ran, list(range(3 * turns)))

    def test_step_that_takes_the_whole_time_ends_its_turn(self) -> None:
        """A live event comes next."""
        ran: list[float] = []

        def step() -> None:
            ran.append(self.clock.seconds())
            self.clock.rightNow += TURN

        for _ in range(2):
            self.log_reader.schedule(lambda: step(), "")
        self.clock.turn()
        self.assertEqual(len(ran), 1)

    def test_addresses_take_turns(self) -> None:
        """Behind 300 replays of one address, another's replay of 1,000 events took 2 s."""
        clock = self.clock
        ran: list[str] = []

        def add_steps(host: str, count: int) -> None:
            def step() -> None:
                nonlocal count
                ran.append(host)
                clock.rightNow += 0.4 * TURN
                count -= 1
                if count:
                    self.log_reader.schedule(step, host)

            self.log_reader.schedule(step, host)

        for _ in range(300):
            add_steps("192.0.2.1", 2)
        add_steps("192.0.2.2", 8)
        for _ in range(8):
            clock.turn()
        self.assertEqual(ran.count("192.0.2.2"), 8)

    def test_cancelled_steps_are_not_called(self) -> None:
        """A step may cancel all others of its turn."""
        clock = self.clock
        ran: list[str] = []
        others = [lambda name=name: ran.append(name) for name in "abc"]

        def step() -> None:
            for other in others:
                self.log_reader.cancel(other)

        for each in (step, *others):
            self.log_reader.schedule(each, "")
        clock.turn()
        self.assertEqual((ran, clock.getDelayedCalls()), ([], []))
