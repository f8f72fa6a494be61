"""Tests for tradeproxy.downstream.feed, over a log of a few rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.interfaces import IPushProducer
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tradeproxy.downstream.feed import MAX_DIRECT_BYTES, Feed
from tradeproxy.downstream.log_reader import STEP_BYTES, STEP_ROWS, LogReader
from tradeproxy.journal.base import Batch, Row, TrimmedError
from tradeproxy.wire.proxy_status import JournalStatus

STALL_TIMEOUT = 30.0


class Turns(Clock):
    """A clock by which one turn of the reactor can pass, as `advance` does with all that follow too."""

    def turn(self) -> None:
        """Run what is due now, and not what that plans."""
        for call in [call for call in self.getDelayedCalls() if call.getTime() <= self.seconds()]:
            if call.active():
                planned: Any = call
                self.calls.remove(planned)
                planned.called = 1
                planned.func(*planned.args, **planned.kw)


class ListLog:
    """As much of a journal as a feed reads, in a list; what is not kept is a hole of any number of events."""

    epoch = "0123456789abcdef"
    status = JournalStatus(durable=True, reason="", since=0)

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.first = 1
        self.reads = 0

    @property
    def last(self) -> int:
        return len(self.rows)

    def append(self, *payloads: bytes) -> Batch:
        """Add rows, and return them."""
        start = self.last
        self.rows += [Row(start + n, payload) for n, payload in enumerate(payloads, 1)]
        return Batch(tuple(self.rows[start:]))

    def lose(self, *payloads: bytes) -> Batch:
        """Hand on what is not kept, with the number of the hole that stands for it."""
        if not self.rows or self.rows[-1].payload is not None:
            self.rows.append(Row(self.last + 1, None))
        return Batch(tuple(Row(self.last, payload) for payload in payloads), overflow=True)

    def read(self, after: int, limit: int) -> Batch | None:
        """Return what follows."""
        self.reads += 1
        if after < self.first - 1:
            raise TrimmedError
        rows = tuple(self.rows[after : after + limit])
        return Batch(rows) if rows else None


class Notebook:
    """An outlet that notes what it is told, and asks for a pause when it is to."""

    def __init__(self, log: ListLog, clock: Clock) -> None:
        self.sent: list[bytes] = []
        self.told: list[str] = []
        self.on_write: Callable[[], object] = lambda: None
        journal: Any = log
        self.feed = Feed(journal, LogReader(), self, clock, STALL_TIMEOUT)

    def encode(self, burst: Batch) -> bytes | None:
        payloads = [row.payload for row in burst.rows]
        return None if None in payloads else b" ".join(filter(None, payloads))

    def write(self, frames: bytes) -> None:
        self.sent += frames.split()
        self.on_write()

    def on_pause(self) -> None:
        self.told.append("paused")

    def on_resume(self) -> None:
        self.told.append("resumed")

    def on_caught_up(self) -> None:
        self.told.append("caught up")

    def on_hole(self, row: Row) -> None:
        self.sent.append(b"hole %d" % row.seq)

    def on_trimmed(self) -> None:
        self.told.append("lost")

    def on_unreadable(self) -> None:
        self.told.append("unreadable")

    def on_stall(self) -> None:
        self.told.append("stalled")

    def abort(self) -> None:
        self.told.append("severed")


class FeedTestCase(SynchronousTestCase):
    """A feed and its log; it holds no test."""

    def setUp(self) -> None:
        self.clock = Turns()
        self.log = ListLog()
        self.notebook = Notebook(self.log, self.clock)
        self.feed = self.notebook.feed

    def turn(self, count: int = 1) -> None:
        """Let the reactor turn."""
        for _ in range(count):
            self.clock.turn()


class LiveTests(FeedTestCase):
    """While the client reads, events are passed on as they come."""

    def test_is_a_push_producer(self) -> None:
        """Twisted may pause and resume it."""
        self.assertTrue(verifyObject(IPushProducer, self.feed))

    def test_passes_on_nothing_before_it_is_started_and_after_it_is_stopped(self) -> None:
        """Whoever does not listen gets nothing, and nothing late."""
        self.feed.deliver(self.log.append(b"a"))
        self.feed.deliver(self.log.lose(b"b"))
        self.feed.start(self.log.last)
        self.feed.deliver(self.log.append(b"c"))
        self.feed.stop()
        self.feed.deliver(self.log.append(b"d"))
        self.turn(3)
        self.feed.start(self.log.last)
        self.feed.deliver(self.log.append(b"e"))
        self.assertEqual(self.notebook.sent, [b"c", b"e"])

    def test_does_not_touch_the_log(self) -> None:
        """One commit and one write are all that a burst costs."""
        self.feed.start(0)
        for _ in range(10):
            self.feed.deliver(self.log.append(b"a", b"b"))
        self.assertEqual((len(self.notebook.sent), self.log.reads), (20, 0))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_what_was_read_already_is_not_sent_again(self) -> None:
        """A burst may be told of after it was found in the log."""
        burst = self.log.append(b"a", b"b")
        self.feed.start(0)
        self.turn(2)
        self.feed.deliver(burst)
        self.assertEqual(self.notebook.sent, [b"a", b"b"])

    def test_a_burst_with_an_older_part_is_taken_apart(self) -> None:
        """Only what follows the position is sent."""
        burst = self.log.append(b"a", b"b", b"c")
        self.feed.start(1)
        self.feed.deliver(burst)
        self.turn(2)
        self.assertEqual(self.notebook.sent, [b"b", b"c"])

    def test_too_large_a_burst_goes_in_steps(self) -> None:
        """So that a client which stops reading has little waiting for it."""
        self.feed.start(0)
        size = STEP_BYTES // 2
        count = MAX_DIRECT_BYTES // size + 1
        self.feed.deliver(self.log.append(*[b"a" * size for _ in range(count)]))
        self.assertEqual(self.notebook.sent, [])
        self.turn()
        self.assertEqual(len(self.notebook.sent), 2)
        self.turn(count // 2)
        self.assertEqual(len(self.notebook.sent), count)

    def test_events_without_a_place_are_sent_as_they_come(self) -> None:
        """There may be several bursts of them under one number."""
        self.feed.start(0)
        self.feed.deliver(self.log.append(b"a"))
        self.feed.deliver(self.log.lose(b"b", b"c"))
        self.feed.deliver(self.log.lose(b"d"))
        self.feed.deliver(self.log.append(b"e"))
        self.assertEqual(self.notebook.sent, [b"a", b"b", b"c", b"d", b"e"])


class BehindTests(FeedTestCase):
    """What could not be sent is read later."""

    def test_reads_in_steps_one_a_turn(self) -> None:
        """A long replay holds up nobody else, and stops where the transport asks for a pause."""
        self.log.append(*[b"x"] * (2 * STEP_ROWS + 1))
        self.feed.start(0)
        for expected in (STEP_ROWS, 2 * STEP_ROWS, 2 * STEP_ROWS + 1):
            self.turn()
            self.assertEqual(len(self.notebook.sent), expected)
        self.assertEqual(self.notebook.told, ["caught up"])

    def test_tells_when_nothing_is_owed(self) -> None:
        """At once, after the last step, and after a pause; not while it is paused."""
        self.feed.start(0)
        self.feed.pauseProducing()
        self.feed.deliver(self.log.append(b"a"))
        self.feed.resumeProducing()
        self.notebook.on_write = self.feed.pauseProducing
        self.turn()
        self.assertEqual(self.notebook.told, ["caught up", "paused", "resumed", "paused"])
        self.feed.resumeProducing()
        self.assertEqual(self.notebook.told[4:], ["resumed", "caught up"])

    def test_a_client_that_missed_events_without_a_place_meets_the_hole(self) -> None:
        """Also one that had had earlier ones under the same number."""
        self.feed.start(0)
        self.feed.deliver(self.log.lose(b"a"))
        self.feed.pauseProducing()
        self.feed.deliver(self.log.lose(b"b"))
        self.feed.deliver(self.log.append(b"c"))
        self.feed.resumeProducing()
        self.turn(3)
        self.assertEqual(self.notebook.sent, [b"a", b"hole 1", b"c"])

    def test_rows_before_a_hole_come_before_it(self) -> None:
        """And those behind it after it; it may be met in any place of a step, or in a burst that comes."""
        self.log.append(b"a", b"b")
        self.log.lose(b"x")
        self.log.append(b"c")
        self.log.rows.append(Row(5, None))
        self.feed.start(0)
        self.turn(5)
        self.log.rows += [Row(6, None), Row(7, b"d")]
        self.feed.deliver(Batch(tuple(self.log.rows[5:])))
        self.turn(5)
        self.assertEqual(
            self.notebook.sent, [b"a", b"b", b"hole 3", b"c", b"hole 5", b"hole 6", b"d"]
        )

    def test_what_is_no_longer_kept_is_told(self) -> None:
        """After it nothing comes, until it is started anew."""
        self.log.append(b"a", b"b", b"c")
        self.log.first = 3
        self.feed.start(0)
        self.turn(3)
        self.assertEqual((self.notebook.sent, self.notebook.told), ([], ["lost"]))
        self.feed.start(2)
        self.turn()
        self.assertEqual(self.notebook.sent, [b"c"])

    def test_a_step_is_read_once_for_all_that_need_it(self) -> None:
        """Clients that fell behind at the same event catch up together."""
        journal: Any = self.log
        steps = LogReader()
        self.log.append(*[b"x"] * 10)
        first = steps.read(journal, 0)
        self.assertIs(steps.read(journal, 0), first)
        self.assertEqual(self.log.reads, 1)
        self.log.append(b"y")
        again = steps.read(journal, 0)
        assert again is not None
        self.assertEqual(again.last, 11)

    def test_an_error_of_the_log_severs_the_client(self) -> None:
        """A stream that silently stands still is worse."""
        self.log.append(b"a")
        self.feed.start(0)
        self.patch(self.log, "read", None)
        self.turn(3)
        self.assertEqual(len(self.flushLoggedErrors(TypeError)), 1)
        self.assertEqual(self.notebook.told, ["severed"])


class StallTests(FeedTestCase):
    """A client that does not read for too long."""

    def test_is_told_once_after_the_timeout(self) -> None:
        """Twisted asks for a pause at every write; the first counts."""
        self.feed.start(0)
        self.feed.pauseProducing()
        self.clock.advance(20)
        self.feed.pauseProducing()
        self.clock.advance(9.9)
        self.assertEqual(self.notebook.told, ["caught up", "paused"])
        self.clock.advance(0.2)
        self.clock.advance(100)
        self.assertEqual(self.notebook.told, ["caught up", "paused", "stalled"])

    def test_a_resume_ends_the_wait(self) -> None:
        """And the next pause begins another."""
        self.feed.start(0)
        for _ in range(5):
            self.feed.pauseProducing()
            self.clock.advance(STALL_TIMEOUT - 1)
            self.feed.resumeProducing()
        self.assertNotIn("stalled", self.notebook.told)

    def test_nothing_comes_after_the_end(self) -> None:
        """No event, no timer, no word."""
        self.log.append(b"a")
        self.feed.start(0)
        self.feed.pauseProducing()
        self.feed.stopProducing()
        told = list(self.notebook.told)
        self.feed.resumeProducing()
        self.feed.start(0)
        self.feed.stop()
        self.feed.pauseProducing()
        self.feed.deliver(self.log.append(b"b"))
        self.clock.advance(STALL_TIMEOUT + 1)
        self.assertEqual((self.notebook.sent, self.notebook.told), ([], told))
        self.assertEqual(self.clock.getDelayedCalls(), [])


ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(["append", "lose", "pause", "resume", "turn", "fill"]), st.integers(1, 200)
    ),
    max_size=40,
)


class ContiguityTests(SynchronousTestCase):
    """Whatever happens in whatever order, the client has a copy of the log."""

    @settings(deadline=None, derandomize=True, max_examples=300)
    @given(ACTIONS, st.integers(0, 300), st.integers(0, 300))
    def test_nothing_is_missing_and_nothing_comes_twice(
        self, actions: list[tuple[str, int]], before: int, position: int
    ) -> None:
        """Every event is sent once and in order, or a hole stands where it is in the log."""
        clock, log = Turns(), ListLog()
        notebook = Notebook(log, clock)
        feed = notebook.feed
        names = iter(range(1_000_000))

        def fresh(count: int) -> list[bytes]:
            return [b"%d" % next(names) for _ in range(count)]

        if before:
            log.append(*fresh(before))
        begin = min(position, before)
        feed.start(begin)
        lost: dict[int, list[bytes]] = {}
        for action, number in actions:
            match action:
                case "append":
                    feed.deliver(log.append(*fresh(number)))
                case "lose":
                    payloads = fresh(min(number, 3))
                    burst = log.lose(*payloads)
                    lost.setdefault(burst.first, []).extend(payloads)
                    feed.deliver(burst)
                case "pause":
                    feed.pauseProducing()
                case "resume":
                    feed.resumeProducing()
                case "turn":
                    clock.turn()
                case "fill":  # the transport asks for a pause in the middle of a write
                    notebook.on_write = feed.pauseProducing if number % 2 else lambda: None
        notebook.on_write = lambda: None
        feed.resumeProducing()
        clock.advance(0)
        self.assertEqual(self._told(notebook.sent, log, lost, begin), [])
        self.assertEqual(feed.position, log.last)
        self.assertTrue(feed.is_current)

    def _told(
        self, sent: list[bytes], log: ListLog, lost: dict[int, list[bytes]], begin: int
    ) -> list[bytes]:
        """Return what is left of `sent` once the log has been found in it, in its order."""
        rest = list(sent)
        for row in log.rows[begin:]:
            if row.payload is not None:
                self.assertEqual(rest.pop(0), row.payload)
                continue
            # What was not kept is sent as it comes, with the hole in the stead of what could not be.
            missing, hole = list(lost[row.seq]), b"hole %d" % row.seq
            while missing:
                if rest and rest[0] == missing[0]:
                    del rest[0], missing[0]
                else:
                    self.assertEqual(rest.pop(0), hole)
                    while missing and rest[:1] != missing[:1]:
                        del missing[0]
        return rest
