"""Tests for tradeproxy.downstream.feed: frames from elsewhere before the next event."""

from __future__ import annotations

from collections.abc import Iterator

from twisted.logger import capturedLogs

from tests.support.feeds import FeedTestCase
from tradeproxy.downstream.feed import INSERT_RETRY


class InsertTests(FeedTestCase):
    """A feed that has caught up, into which frames are inserted."""

    def setUp(self) -> None:
        super().setUp()
        self.log.append(b"a")
        self.feed.start(1)

    def insert(self, *frames: bytes | None) -> None:
        """Insert these frames."""
        self.feed.insert(iter(frames))

    def test_each_frame_has_a_turn(self) -> None:
        """A long snapshot delays no other client."""
        self.insert(b"1", b"2")
        self.assertEqual(self.sink.sent, [])
        self.turn()
        self.assertEqual(self.sink.sent, [b"1"])
        self.turn()
        self.assertEqual(self.sink.sent, [b"1", b"2"])

    def test_events_follow_the_frames(self) -> None:
        """They wait in the log, whatever is delivered meanwhile."""
        self.insert(b"1", b"2")
        self.feed.deliver(self.log.append(b"b"))
        self.turn()
        self.feed.deliver(self.log.append(b"c", b"d"))
        self.turn(5)
        self.feed.deliver(self.log.append(b"e"))
        self.assertEqual(self.sink.sent, [b"1", b"2", b"b", b"c", b"d", b"e"])

    def test_other_frames_wait_until_the_end(self) -> None:
        """The feed is not current, and catches up once."""
        self.sink.calls.clear()
        self.insert(b"1")
        self.assertFalse(self.feed.is_current)
        self.assertFalse(self.feed.is_caught_up)
        self.turn(3)
        self.assertTrue(self.feed.is_caught_up)
        self.assertEqual(self.sink.calls, ["caught up"])

    def test_empty_frame_is_not_sent(self) -> None:
        """It only takes a turn."""
        written: list[bool] = []
        self.sink.on_write = lambda: written.append(True)
        self.insert(b"", b"", b"1")
        self.turn(2)
        self.assertEqual(written, [])
        self.turn()
        self.assertEqual(self.sink.sent, [b"1"])

    def test_frame_that_is_not_ready_is_asked_for_later(self) -> None:
        """Events wait too."""
        self.insert(None, b"1")
        self.turn()
        self.feed.deliver(self.log.append(b"b"))
        self.turn(5)
        self.assertEqual(self.sink.sent, [])
        self.clock.advance(INSERT_RETRY)
        self.turn(5)
        self.assertEqual(self.sink.sent, [b"1", b"b"])

    def test_paused_client_gets_no_frame(self) -> None:
        """The next one is made when it reads."""
        made: list[int] = []

        def make() -> Iterator[bytes]:
            for number in range(3):
                made.append(number)
                yield b"%d" % number

        self.feed.insert(make())
        self.turn()
        self.feed.pauseProducing()
        self.turn(5)
        self.assertEqual(made, [0])
        self.feed.resumeProducing()
        self.turn(5)
        self.assertEqual(self.sink.sent, [b"0", b"1", b"2"])

    def test_overflow_is_read_as_its_hole_afterwards(self) -> None:
        """The events are not in the log, and the client did not get them."""
        self.insert(b"1")
        self.feed.deliver(self.log.lose(b"x"))
        self.turn(5)
        self.assertEqual(self.sink.sent, [b"1", b"hole 2"])

    def test_stop_and_start_drop_the_rest(self) -> None:
        """The sink inserts again if it has to."""
        for change in (self.feed.stop, lambda: self.feed.start(1)):
            self.insert(b"1", b"2")
            self.turn()
            change()
            self.turn(5)
            self.assertEqual(self.sink.sent, [b"1"])
            self.sink.sent.clear()
            self.feed.start(1)

    def test_skip_leaves_events_out(self) -> None:
        """They are in the inserted frames, and do not count as passed."""
        self.insert(b"1")
        self.feed.deliver(self.log.append(b"b", b"c"))
        self.feed.skip_to(2)
        self.turn(5)
        self.assertEqual(self.sink.sent, [b"1", b"c"])
        self.assertEqual(self.feed.passed, 1)

    def test_end_leaves_no_timer(self) -> None:
        """Even if a frame is not ready, and the client pauses and resumes meanwhile."""
        self.insert(None, None, None)
        self.turn()
        self.feed.pauseProducing()
        self.feed.resumeProducing()
        self.turn()
        self.feed.stopProducing()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.insert(b"1")
        self.turn()
        self.assertEqual(self.sink.sent, [])

    def test_iterator_may_insert_another_one(self) -> None:
        """A snapshot that cannot be made begins again."""

        def begin_again() -> Iterator[bytes]:
            self.insert(b"1", b"2")
            yield from ()

        self.feed.insert(begin_again())
        self.turn(5)
        self.assertEqual(self.sink.sent, [b"1", b"2"])

    def test_iterator_may_end_the_feed(self) -> None:
        """A client whose snapshot is not ready in time is closed."""

        def close() -> Iterator[bytes]:
            self.feed.stopProducing()
            yield from ()

        self.feed.insert(close())
        self.turn(3)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_error_drops_the_client(self) -> None:
        """It would wait forever."""

        def fail() -> Iterator[bytes]:
            raise RuntimeError
            yield b""

        self.feed.insert(fail())
        with capturedLogs():
            self.turn()
        self.flushLoggedErrors(RuntimeError)
        self.assertEqual(self.sink.calls[-1], "aborted")
