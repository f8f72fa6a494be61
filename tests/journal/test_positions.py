"""Tests for tradeproxy.journal: positions while the disk fails, and after rows are trimmed."""

from __future__ import annotations

from typing import Any

from tests.support.journals import DAY, DiskCase, event, event_id_of, time_of
from tradeproxy.hub.account import Account
from tradeproxy.hub.locate import UnrecoverablePositionError, locate
from tradeproxy.journal.backlog import MAX_EVENTS
from tradeproxy.journal.base import UnreadableError
from tradeproxy.journal.disk import RETRY_EVERY
from tradeproxy.journal.metadata import TrimmedEvent
from tradeproxy.journal.retention import TRIM_AGAIN, TRIM_EVERY
from tradeproxy.wire.event import Event, format_time
from tradeproxy.wire.position import AfterId, AfterTime


def same_time(n: int, **fields: Any) -> Event:
    """Return event `n`, with the time of event 3."""
    return event(n, at=format_time(time_of(3)), **fields)


class PositionTests(DiskCase):
    """A position never skips an event, whatever the disk can read and whatever is trimmed."""

    def setUp(self) -> None:
        super().setUp()
        self.account = Account("paper", self.journal, self.clock)

    def test_position_on_unreadable_disk_is_not_taken_from_the_backlog(self) -> None:
        """The first event of a time, or with an id, may be among the rows that cannot be read."""
        bust = same_time(5, event="trade_bust")
        correction = same_time(5, event="trade_correct")
        self.journal.append([same_time(3), bust])
        self.connections.refuse_everything()
        self.journal.append([correction, same_time(6)])
        for position in (AfterTime(time_of(3)), AfterId(event_id_of(5))):
            self.assertRaises(UnreadableError, locate, self.account, position)
        self.connections.refuse_everything(False)
        self.assertEqual(locate(self.account, AfterTime(time_of(3))), 3)
        self.assertEqual(locate(self.account, AfterId(event_id_of(5))), 4)

    def test_repeat_that_was_delivered_keeps_its_id_as_position(self) -> None:
        """The disk could not be read when it came, so it has a number and clients have its id."""
        execution = {"event": "fill", "execution_id": "x", "qty": "1", "price": "2"}
        self.journal.append([event(3, **execution)])
        self.connections.refuse_everything()
        self.journal.append([event(4, **execution)])
        self.connections.refuse_everything(False)
        self.clock.advance(RETRY_EVERY)
        self.assertEqual(locate(self.account, AfterId(event_id_of(4))), 4)

    def test_time_of_rows_before_a_trimmed_hole_is_lost(self) -> None:
        """Events at the hole are missing, and one of them may have the same time."""
        self.journal.close()
        self.journal = self.open_on_disk(max_events=2)
        self.account = Account("paper", self.journal, self.clock)
        self.journal.append([same_time(3)])
        self.connections.refuse_writing()
        self.journal.append([event(n) for n in range(100, 100 + MAX_EVENTS + 1)])
        self.connections.refuse_writing(False)
        self.clock.advance(RETRY_EVERY)
        self.journal.append([same_time(6), same_time(7)])
        hole = 3 + MAX_EVENTS + 1
        self.clock.advance(TRIM_EVERY)
        for _ in range(MAX_EVENTS // 1000 + 1):
            self.clock.advance(TRIM_AGAIN)
        self.assertEqual(self.journal.newest_trimmed, TrimmedEvent(hole, "", None))
        self.assertRaises(UnrecoverablePositionError, locate, self.account, AfterTime(time_of(3)))

    def test_event_with_newest_time_is_kept_with_those_after_it(self) -> None:
        """On a quiet account the last event may be late. The Go SDK resumes from either time."""
        self.journal.append([event(4), event(3)])
        self.clock.advance(8 * DAY)
        self.assertEqual((self.journal.first, self.journal.last), (3, 4))
        for n, seq in ((4, 3), (3, 4)):
            self.assertEqual(locate(self.account, AfterTime(time_of(n))), seq)
