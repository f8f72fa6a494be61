"""Tests for tradeproxy.downstream.feed, over a journal of a few rows."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.interfaces import IPushProducer
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from tests.support.feeds import (
    STALL_TIMEOUT,
    FeedTestCase,
    ListJournal,
    RecordingSink,
    TurnClock,
)
from tests.support.properties import examples
from tradeproxy.downstream.log_reader import PAUSED_BYTES, STEP_BYTES, STEP_ROWS, LogReader
from tradeproxy.journal.base import Batch, Row


class FeedLiveTests(FeedTestCase):
    """A feed whose client reads sends events on arrival."""

    def test_feed_provides_the_push_producer_interface(self) -> None:
        """Twisted may pause and resume it."""
        self.assertTrue(verifyObject(IPushProducer, self.feed))

    def test_deliver_while_stopped_sends_nothing(self) -> None:
        """Events before the start and after the stop are never sent, not even later."""
        self.feed.deliver(self.log.append(b"a"))
        self.feed.deliver(self.log.lose(b"b"))
        self.feed.start(self.log.last)
        self.feed.deliver(self.log.append(b"c"))
        self.feed.stop()
        self.feed.deliver(self.log.append(b"d"))
        self.turn(3)
        self.feed.start(self.log.last)
        self.feed.deliver(self.log.append(b"e"))
        self.assertEqual(self.sink.sent, [b"c", b"e"])

    def test_deliver_live_batch_does_not_read_the_log(self) -> None:
        """A live batch costs one write and no read of the journal."""
        self.feed.start(0)
        for _ in range(10):
            self.feed.deliver(self.log.append(b"a", b"b"))
        self.assertEqual((len(self.sink.sent), self.log.reads), (20, 0))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_deliver_batch_already_read_is_not_sent_again(self) -> None:
        """A batch may be delivered after it was read from the log."""
        batch = self.log.append(b"a", b"b")
        self.feed.start(0)
        self.turn(2)
        self.feed.deliver(batch)
        self.assertEqual((self.sink.sent, self.sink.calls), ([b"a", b"b"], ["caught up"]))

    def test_deliver_batch_partly_sent_sends_only_the_rest(self) -> None:
        """Only the rows after the position are sent."""
        batch = self.log.append(b"a", b"b", b"c")
        self.feed.start(1)
        self.feed.deliver(batch)
        self.turn(2)
        self.assertEqual(self.sink.sent, [b"b", b"c"])

    def test_deliver_batch_over_a_step_is_sent_in_steps(self) -> None:
        """Little is buffered for a client that stops reading in the middle."""
        self.feed.start(0)
        size = STEP_BYTES // 2
        count = 9
        self.feed.deliver(self.log.append(*[b"a" * size for _ in range(count)]))
        self.assertEqual(self.sink.sent, [])
        self.turn()
        self.assertEqual(len(self.sink.sent), 2)
        self.turn(count // 2)
        self.assertEqual(len(self.sink.sent), count)

    def test_deliver_at_once_needs_one_event_or_64_kib(self) -> None:
        """A larger batch is read in steps. A single event cannot be sent in parts."""
        half = 32 * 1024
        for sizes, is_sent in (
            ((half, half - 1), True),  # the sink adds a blank
            ((half, half), False),
            ((3 * half,), True),
        ):
            self.setUp()
            self.feed.start(0)
            self.feed.deliver(self.log.append(*[b"a" * size for size in sizes]))
            self.assertEqual(len(self.sink.sent), len(sizes) if is_sent else 0, sizes)
            self.turn(3)
            self.assertEqual(len(self.sink.sent), len(sizes), sizes)

    def test_deliver_at_once_needs_the_share_of_the_address(self) -> None:
        """Clients that read nothing had 61 KB each in memory, 9,000 of one address 550 MB."""
        log_reader = LogReader(self.clock, STALL_TIMEOUT)
        for _ in range(PAUSED_BYTES // 8_192):
            log_reader.add_paused("")
        sink = RecordingSink(self.log, self.clock, log_reader)
        sink.feed.start(0)
        sizes = (4_000, 4_000), (4_096, 4_096), (2_000, 2_000)
        for count, is_sent in zip((2, 4, 6), (True, False, True), strict=True):
            events = [b"a" * size for size in sizes[count // 2 - 1]]
            sink.feed.deliver(self.log.append(*events))
            self.assertEqual(len(sink.sent), count if is_sent else count - 2)
            self.turn(3)
            self.assertEqual(len(sink.sent), count)

    def test_paused_feeds_are_counted_once(self) -> None:
        """The count bounds what they buffer together, so none may stay in it."""
        log_reader = LogReader(self.clock, STALL_TIMEOUT)
        for end in ("resumeProducing", "stopProducing"):
            feed = RecordingSink(self.log, self.clock, log_reader).feed
            feed.start(0)
            feed.pauseProducing()
            feed.pauseProducing()
            self.assertEqual(log_reader.paused, 1)
            getattr(feed, end)()
            self.assertEqual(log_reader.paused, 0)
            feed.stopProducing()
            feed.resumeProducing()
            self.assertEqual(log_reader.paused, 0)

    def test_deliver_after_a_pause_does_not_read_the_log(self) -> None:
        """A client that was paused and missed nothing is live again."""
        self.feed.start(0)
        self.feed.pauseProducing()
        self.feed.resumeProducing()
        self.feed.deliver(self.log.append(b"a"))
        self.assertEqual((self.sink.sent, self.log.reads), ([b"a"], 0))
        self.assertEqual(self.sink.calls, ["caught up", "paused", "resumed", "caught up"])

    def test_resume_without_a_pause_has_no_effect(self) -> None:
        """A transport that was full before the feed was registered resumes it."""
        self.feed.start(0)
        self.feed.resumeProducing()
        self.assertEqual(self.sink.calls, ["caught up"])

    def test_deliver_overflow_after_a_missing_batch_reads_the_log(self) -> None:
        """The broadcaster may drop a batch before events that are not stored."""
        self.feed.start(0)
        self.log.append(b"a")
        self.feed.deliver(self.log.lose(b"b"))
        self.assertEqual(self.sink.sent, [])
        self.turn(3)
        self.assertEqual(self.sink.sent, [b"a", b"hole 2"])

    def test_deliver_overflow_to_a_live_client_is_sent_at_once(self) -> None:
        """Several batches may have the sequence number of one hole."""
        self.feed.start(0)
        self.feed.deliver(self.log.append(b"a"))
        self.feed.deliver(self.log.lose(b"b", b"c"))
        self.feed.deliver(self.log.lose(b"d"))
        self.feed.deliver(self.log.append(b"e"))
        self.assertEqual(self.sink.sent, [b"a", b"b", b"c", b"d", b"e"])


class FeedBehindTests(FeedTestCase):
    """Events that could not be sent on arrival are read from the log."""

    def test_replay_runs_one_step_per_reactor_turn(self) -> None:
        """A long replay delays no other client, and pauses when the transport asks for it."""
        self.log.append(*[b"x"] * (2 * STEP_ROWS + 1))
        self.feed.start(0)
        for expected in (STEP_ROWS, 2 * STEP_ROWS, 2 * STEP_ROWS + 1):
            self.turn()
            self.assertEqual(len(self.sink.sent), expected)
        self.assertEqual(self.sink.calls, ["caught up"])

    def test_step_after_a_stop_or_pause_sends_nothing(self) -> None:
        """The client has changed between the turns; later the step is made up for."""
        self.log.append(b"a")
        for interrupt in (self.feed.stop, self.feed.pauseProducing):
            self.feed.start(0)
            interrupt()
            self.turn()
            self.assertEqual(self.sink.sent, [])
        self.feed.resumeProducing()
        self.turn()
        self.assertEqual(self.sink.sent, [b"a"])

    def test_feed_that_ends_during_its_last_step_is_not_caught_up(self) -> None:
        """A response ends with the last event that its client asked for."""
        self.log.append(b"a")
        self.sink.on_write = self.feed.stopProducing
        self.feed.start(0)
        self.turn()
        self.assertEqual((self.sink.sent, self.sink.calls), ([b"a"], []))
        self.assertFalse(self.feed.is_current)

    def test_on_caught_up_is_called_once_all_events_are_sent(self) -> None:
        """It is called at the start, after the last step and after a pause, never while paused."""
        self.feed.start(0)
        self.feed.pauseProducing()
        self.feed.deliver(self.log.append(b"a"))
        self.feed.resumeProducing()
        self.sink.on_write = self.feed.pauseProducing
        self.turn()
        self.assertEqual(self.sink.calls, ["caught up", "paused", "resumed", "paused"])
        self.feed.resumeProducing()
        self.assertEqual(self.sink.calls[4:], ["resumed", "caught up"])
        self.feed.pauseProducing()
        self.feed.start(self.log.last)
        self.assertEqual(self.sink.calls[6:], ["paused"])

    def test_deliver_overflow_while_paused_later_reads_the_hole(self) -> None:
        """This also holds if the client got earlier events of the same hole."""
        self.feed.start(0)
        self.feed.deliver(self.log.lose(b"a"))
        self.feed.pauseProducing()
        self.feed.deliver(self.log.lose(b"b"))
        self.feed.deliver(self.log.append(b"c"))
        self.feed.resumeProducing()
        self.turn(3)
        self.assertEqual(self.sink.sent, [b"a", b"hole 1", b"c"])

    def test_no_row_is_passed_if_the_hole_of_the_start_is_still_to_be_read(self) -> None:
        """The log of clients had -1 events for a client that left then."""
        self.log.lose(b"a")
        self.feed.start(self.log.last)
        self.feed.pauseProducing()
        self.feed.deliver(self.log.lose(b"b"))
        self.assertEqual(self.feed.passed, 0)

    def test_hole_is_no_passed_row(self) -> None:
        """A client that is closed there had one event more in the log of clients than it got."""
        self.feed.start(0)
        self.feed.deliver(self.log.append(b"a"))
        self.feed.deliver(self.log.lose(b"b"))
        self.assertEqual(self.feed.passed, 2)
        self.feed.pauseProducing()
        self.feed.deliver(self.log.lose(b"c"))
        self.feed.resumeProducing()
        self.turn()
        self.assertEqual((self.sink.sent, self.feed.passed), ([b"a", b"b", b"hole 2"], 2))
        self.feed.start(0)
        self.turn(3)
        self.assertEqual((self.sink.sent[3:], self.feed.passed), ([b"a", b"hole 2"], 3))

    def test_hole_is_reported_between_the_rows_around_it(self) -> None:
        """A hole may be anywhere in a step, or in a delivered batch."""
        self.log.append(b"a", b"b")
        self.log.lose(b"x")
        self.log.append(b"c")
        self.log.rows.append(Row(5, None))
        self.feed.start(0)
        self.turn(5)
        self.log.rows += [Row(6, None), Row(7, b"d")]
        self.feed.deliver(Batch(tuple(self.log.rows[5:])))
        self.turn(5)
        self.assertEqual(self.sink.sent, [b"a", b"b", b"hole 3", b"c", b"hole 5", b"hole 6", b"d"])

    def test_step_trimmed_position_calls_on_trimmed_and_stops(self) -> None:
        """Nothing is sent until the next start."""
        self.log.append(b"a", b"b", b"c")
        self.log.first = 3
        self.feed.start(0)
        self.turn(3)
        self.assertEqual((self.sink.sent, self.sink.calls), ([], ["trimmed"]))
        self.feed.start(2)
        self.turn()
        self.assertEqual(self.sink.sent, [b"c"])

    def test_step_unreadable_log_calls_on_unreadable_and_stops(self) -> None:
        """Nothing is sent until the next start."""
        self.log.append(b"a")
        self.log.is_readable = False
        self.feed.start(0)
        self.turn()
        self.log.is_readable = True
        self.feed.deliver(self.log.append(b"b"))
        self.turn(3)
        self.assertEqual((self.sink.sent, self.sink.calls), ([], ["unreadable"]))
        self.feed.start(0)
        self.turn()
        self.assertEqual(self.sink.sent, [b"a", b"b"])

    def test_step_read_error_aborts_the_connection(self) -> None:
        """Without that the stream would stop silently."""
        self.log.append(b"a")
        self.feed.start(0)
        self.patch(self.log, "read", None)
        self.turn(3)
        self.feed.deliver(self.log.append(b"b"))
        self.turn(3)
        self.assertEqual(len(self.flushLoggedErrors(TypeError)), 1)
        self.assertEqual(self.sink.calls, ["aborted"])


class FeedStateTests(FeedTestCase):
    """What others ask a feed."""

    def assert_state(
        self, *, current: bool, idle: bool = False, paused: bool = False, caught_up: bool = False
    ) -> None:
        feed = self.feed
        self.assertEqual(
            (feed.is_current, feed.is_idle, feed.is_paused, feed.is_caught_up),
            (current, idle, paused, caught_up),
        )

    def test_state_follows_the_position_and_the_pauses(self) -> None:
        """A feed is caught up only if the client reads and nothing is to be delivered."""
        self.assert_state(current=True, idle=True)
        self.log.append(b"a")
        self.feed.start(0)
        self.assert_state(current=False)
        self.turn()
        self.assert_state(current=True, caught_up=True)
        self.feed.pauseProducing()
        self.assert_state(current=False, paused=True)
        self.feed.resumeProducing()
        batch = self.log.append(b"b")
        self.assert_state(current=True)  # live; the batch is on its way
        self.feed.deliver(batch)
        self.assert_state(current=True, caught_up=True)
        self.feed.stop()
        self.assert_state(current=True, idle=True)
        self.feed.stopProducing()
        self.assert_state(current=False)


class FeedStallTests(FeedTestCase):
    """A client that does not read for the stall timeout."""

    def test_stall_repeated_pauses_call_on_stall_once(self) -> None:
        """Twisted pauses at every write. The timeout counts from the first pause."""
        self.feed.start(0)
        self.feed.pauseProducing()
        self.clock.advance(20)
        self.feed.pauseProducing()
        self.clock.advance(9.9)
        self.assertEqual(self.sink.calls, ["caught up", "paused"])
        self.clock.advance(0.2)
        self.clock.advance(100)
        self.assertEqual(self.sink.calls, ["caught up", "paused", "stalled"])

    def test_stall_resume_cancels_the_timeout(self) -> None:
        """The next pause starts a new one."""
        self.feed.start(0)
        for _ in range(5):
            self.feed.pauseProducing()
            self.clock.advance(STALL_TIMEOUT - 1)
            self.feed.resumeProducing()
        self.assertNotIn("stalled", self.sink.calls)

    def test_ended_feed_sends_nothing_and_has_no_timer(self) -> None:
        """After stopProducing every other call has no effect."""
        self.log.append(b"a")
        self.feed.start(0)
        self.feed.pauseProducing()
        self.feed.stopProducing()
        calls_before = list(self.sink.calls)
        self.feed.resumeProducing()
        self.feed.start(0)
        self.feed.stop()
        self.feed.pauseProducing()
        self.feed.deliver(self.log.append(b"b"))
        self.clock.advance(STALL_TIMEOUT + 1)
        self.assertEqual((self.sink.sent, self.sink.calls), ([], calls_before))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_stop_producing_twice_cancels_the_step_once(self) -> None:
        """The sink ends the feed, and again when the connection is lost."""
        self.log.append(b"a")
        self.feed.start(0)
        self.feed.stopProducing()
        self.feed.stopProducing()
        self.turn()
        self.assertEqual((self.log.reads, self.sink.sent), (0, []))
        self.assertEqual(self.clock.getDelayedCalls(), [])


ACTIONS = st.lists(
    st.tuples(
        st.sampled_from(["append", "lose", "pause", "resume", "turn", "fill"]), st.integers(1, 200)
    ),
    max_size=40,
)


class FeedContiguityTests(SynchronousTestCase):
    """The client gets a contiguous copy of the log in every sequence of actions."""

    @examples(100)
    @given(ACTIONS, st.integers(0, 300), st.integers(0, 300))
    def test_any_sequence_of_actions_sends_each_event_once_in_order(
        self, actions: list[tuple[str, int]], before: int, position: int
    ) -> None:
        """Every event is sent once and in order, or the hole that replaces it in the log is."""
        clock, log = TurnClock(), ListJournal()
        sink = RecordingSink(log, clock)
        feed = sink.feed
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
                    batch = log.lose(*payloads)
                    lost.setdefault(batch.first, []).extend(payloads)
                    feed.deliver(batch)
                case "pause":
                    feed.pauseProducing()
                case "resume":
                    feed.resumeProducing()
                case "turn":
                    clock.turn()
                case "fill":  # the transport pauses the feed during a write
                    sink.on_write = feed.pauseProducing if number % 2 else lambda: None
        sink.on_write = lambda: None
        feed.resumeProducing()
        clock.advance(0)
        self.assertEqual(self._remove_log(sink.sent, log, lost, begin), [])
        self.assertEqual(feed.position, log.last)
        self.assertTrue(feed.is_current)

    def _remove_log(
        self, sent: list[bytes], log: ListJournal, lost: dict[int, list[bytes]], begin: int
    ) -> list[bytes]:
        """Return what remains of `sent` after the rows of the log are removed in order."""
        rest = list(sent)
        for row in log.rows[begin:]:
            if row.payload is not None:
                self.assertEqual(rest.pop(0), row.payload)
                continue
            # Events of a hole are sent live, or the hole is sent instead of them.
            missing, hole = list(lost[row.seq]), b"hole %d" % row.seq
            while missing:
                if rest and rest[0] == missing[0]:
                    del rest[0], missing[0]
                else:
                    self.assertEqual(rest.pop(0), hole)
                    while missing and rest[:1] != missing[:1]:
                        del missing[0]
            while rest[:1] == [hole]:  # later events of the same hole declare it again
                del rest[0]
        return rest
