"""What one turn of the reactor takes of a book, whoever asks it."""

from __future__ import annotations

from tests.book.support import BookCase, make_snapshot, parse
from tradeproxy.book.builder import READ_ROWS


class TurnTests(BookCase):
    """Each look at the timer takes a millisecond."""

    def setUp(self) -> None:
        super().setUp()
        self.live(100)
        self.settle()
        self.ticks.tick = 0.001

    def burst(self, count: int) -> None:
        """Publish events, which the book does not apply yet."""
        for frame in self.trading.take(count):
            self.account.publish(parse(frame))
        self.account.flush()

    def test_question_applies_rows_for_a_bounded_time(self) -> None:
        """300 fills took 20 ms. The next turns go on, and other questions wait for them too."""
        self.burst(300)
        self.assertFalse(self.book.catch_up())
        behind = self.book.rows_behind
        self.assertTrue(0 < behind < 300, behind)
        self.assertFalse(self.book.catch_up())
        self.assertEqual(self.book.rows_behind, behind)
        for _ in range(300 // READ_ROWS):
            self.clock.advance(0)
        self.assertTrue(self.book.catch_up())
        self.assert_is_account()

    def test_snapshot_is_made_in_turns(self) -> None:
        """Its clients share it, and events that come meanwhile are behind it."""
        self.stop()
        del self.path
        self.trading = type(self.trading)(3, active=150)
        self.start()
        self.ticks.tick = 0.0
        self.live(400)
        expected = make_snapshot(self.book)
        self.assertGreater(len(list(expected.list_orders())), 60)
        self.restart_book()
        self.ticks.tick = 0.001
        pending = self.book.snapshot()
        self.assertIs(self.book.snapshot(), pending)
        self.assertIsNone(pending.made)
        self.burst(100)
        for _ in range(100):
            self.clock.advance(0.01)
        self.assertEqual(pending.made, expected)
        self.assertGreater(self.book.seq, expected.seq)

    def restart_book(self) -> None:
        """Have a book that has made no snapshot."""
        self.book.stop()
        self.new_book()
