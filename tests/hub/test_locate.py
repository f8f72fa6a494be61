"""Tests for tradeproxy.hub.locate."""

from __future__ import annotations

from dataclasses import replace

from msgspec import structs

from tests.support.journals import DiskCase, MemoryCase, event, event_id_of, events, time_of
from tests.support.redisjournals import RedisJournalCase
from tradeproxy.hub.account import Account
from tradeproxy.hub.locate import UnrecoverablePositionError, locate
from tradeproxy.journal.backlog import MAX_BYTES
from tradeproxy.journal.base import UnreadableError
from tradeproxy.journal.retention import TRIM_EVERY
from tradeproxy.wire.event import format_time
from tradeproxy.wire.position import (
    AfterId,
    AfterTime,
    Cursor,
    FromTime,
    LastEvents,
    Position,
)


class LocateTests(MemoryCase):
    """A position is a row of the log, or is rejected with a reason."""

    now = 1.0

    def setUp(self) -> None:
        super().setUp()
        self.journal = self.open(max_events=3)
        self.account = Account("paper", self.journal, self.clock)
        self.journal.append(events(1, 2, 3))

    def trim(self) -> None:
        """Trim the log to events 3 to 5."""
        self.journal.append(events(4, 5))
        self.clock.advance(TRIM_EVERY)
        self.assertEqual((self.journal.first, self.journal.last), (3, 5))

    def cursor(self, seq: int) -> Cursor:
        text = self.account.cursor_at(seq)
        assert text is not None
        cursor = Cursor.parse(text)
        assert cursor is not None
        return cursor

    def assert_unrecoverable(self, position: Position, reason: str) -> None:
        with self.assertRaisesRegex(UnrecoverablePositionError, reason) as caught:
            locate(self.account, position)
        text = str(caught.exception)
        self.assertTrue(text.isascii() and len(text) <= 90, text)

    def test_locate_cursor_returns_its_row(self) -> None:
        """This holds from before the first event to behind the last."""
        for seq in range(4):
            self.assertEqual(locate(self.account, AfterId(str(self.cursor(seq)))), seq)

    def test_locate_cursor_of_trimmed_event_fails_if_later_rows_are_trimmed(self) -> None:
        """The event of the cursor itself may be trimmed."""
        kept, trimmed, start = self.cursor(2), self.cursor(1), self.cursor(0)
        self.trim()
        self.assertEqual(locate(self.account, AfterId(str(kept))), 2)
        for cursor in (trimmed, start):
            self.assert_unrecoverable(
                AfterId(str(cursor)),
                "^it is no longer kept: the journal begins at 2026-09-21T14:13:2",
            )

    def test_locate_cursor_of_another_log_fails(self) -> None:
        """Another account, another epoch, a number beyond the end, or another event there."""
        cursor = self.cursor(3)
        self.assert_unrecoverable(AfterId(str(replace(cursor, account="live"))), "another account")
        self.assert_unrecoverable(
            AfterId(str(replace(cursor, epoch="0" * 16))), "an earlier journal"
        )
        self.assert_unrecoverable(AfterId(str(replace(cursor, seq=4))), "no such event")
        self.assert_unrecoverable(
            AfterId(str(replace(cursor, check=cursor.check ^ 1))), "no such event"
        )
        self.assert_unrecoverable(AfterId(str(replace(cursor, seq=2))), "no such event")
        self.assert_unrecoverable(AfterId(str(replace(cursor, seq=1))), "no such event")

    def test_locate_event_id_returns_its_row(self) -> None:
        """An unknown id is rejected, and so is that of a trimmed event, unless it is the newest."""
        self.assertEqual(locate(self.account, AfterId(event_id_of(2))), 2)
        self.assert_unrecoverable(AfterId(event_id_of(9)), "no such event")
        self.assert_unrecoverable(AfterId("paper.0.0"), "no such event")
        self.trim()
        self.assertEqual(locate(self.account, AfterId(event_id_of(2))), 2)
        self.assert_unrecoverable(AfterId(event_id_of(1)), "no longer kept")

    def test_locate_time_returns_row_before_its_first_event(self) -> None:
        """A future time is the end; a time before the log is complete is rejected."""
        self.assertEqual(locate(self.account, FromTime(time_of(2))), 1)
        self.assertEqual(locate(self.account, FromTime(time_of(2) + 1)), 2)
        self.assertEqual(locate(self.account, FromTime(time_of(9))), 3)
        self.assert_unrecoverable(
            FromTime(self.journal.complete_from - 1),
            "^the journal begins at 1970-01-01T00:00:01.000000Z",
        )
        self.trim()
        self.assert_unrecoverable(
            FromTime(time_of(2)), "^the journal begins at 2026-09-21T14:13:22.000001Z"
        )
        self.assertEqual(locate(self.account, FromTime(time_of(2) + 1)), 2)

    def test_locate_after_time_returns_first_event_of_that_time(self) -> None:
        """Alpaca's Go SDK resumes 1 ns after its last event. Later rows may be older.

        It missed an event of the same microsecond, one that was a millisecond older, and one that
        was recovered late.
        """
        times = [time_of(7), time_of(7), time_of(7) - 1000, time_of(6), time_of(8)]
        self.journal = self.open(name="live")
        self.account = Account("live", self.journal, self.clock)
        rows = [event(n, at=format_time(time)) for n, time in enumerate(times)]
        self.journal.append(rows)
        for seen, seq in ((1, 1), (2, 1), (3, 3), (4, 4), (5, 5)):
            self.assertEqual(locate(self.account, AfterTime(times[seen - 1])), seq, seen)
        self.assertEqual(locate(self.account, AfterTime(time_of(7) - 1)), 0)
        self.assertEqual(locate(self.account, AfterTime(time_of(7) + 1)), 4)
        self.clock.advance(time_of(9) / 1_000_000)
        self.assertEqual(locate(self.account, AfterTime(time_of(9))), 5)

    def test_locate_after_time_that_lies_in_the_future_fails(self) -> None:
        """The log has another time for such an event: the client lost all that followed it.

        After a restart, until Alpaca's clock was known, its stream began with the next event.
        """
        self.assertEqual(locate(self.account, AfterTime(time_of(2) + 1)), 2, "the log reaches it")
        self.clock.advance(time_of(3) / 1_000_000 - self.clock.seconds())
        for seconds, seq in ((1, 3), (60, 3), (61, None), (3_600, None)):
            position = AfterTime(time_of(3) + seconds * 1_000_000)
            if seq is None:
                self.assert_unrecoverable(position, "^it is a time that lies in the future")
            else:
                self.assertEqual(locate(self.account, position), seq, seconds)

    def test_locate_after_time_of_trimmed_event_needs_the_newest(self) -> None:
        """Of an older one, the events that follow are trimmed too."""
        self.trim()
        self.assertEqual(locate(self.account, AfterTime(time_of(2))), 2)
        self.assert_unrecoverable(AfterTime(time_of(1)), "^the journal begins at")

    def test_locate_after_time_of_stored_event_in_trimmed_log(self) -> None:
        """Also of the first one, which may come at the time from which the log is complete."""
        self.journal.append([event(4, at=format_time(time_of(2) + 1)), *events(5)])
        self.clock.advance(TRIM_EVERY)
        self.assertEqual((self.journal.first, self.journal.last), (3, 5))
        self.assertEqual(locate(self.account, AfterTime(time_of(3))), 3)
        self.assertEqual(locate(self.account, AfterTime(self.journal.complete_from)), 4)

    def test_locate_after_time_if_one_event_is_trimmed_skips_no_row(self) -> None:
        """The second event is older than the trimmed one, and the client may lack it."""
        self.journal = self.open(name="live", max_events=3)
        self.account = Account("live", self.journal, self.clock)
        self.journal.append(
            [event(n, at=format_time(time_of(t))) for n, t in enumerate((5, 4, 6, 7))]
        )
        self.clock.advance(TRIM_EVERY)
        self.assertEqual(self.journal.first, 2)
        self.assertEqual(locate(self.account, AfterTime(time_of(5))), 1)

    def test_locate_after_time_in_complete_log_may_be_before_its_beginning(self) -> None:
        """An event can be older than the log. Nothing is trimmed, so no row can be skipped."""
        self.journal.append([event(9, at="1970-01-01T00:00:00.5Z")])
        self.assertEqual(locate(self.account, AfterTime(500_000)), 4)
        self.assertEqual(locate(self.account, AfterTime(self.journal.complete_from - 1)), 0)

    def test_locate_after_time_if_trimmed_event_is_unknown_needs_next_row(self) -> None:
        """An earlier version did not record it. Only if the next row follows, nothing is lost."""
        self.trim()
        self.journal.newest_trimmed = None
        self.assertEqual(locate(self.account, AfterTime(time_of(2))), 2)
        for time in (time_of(1), time_of(2) - 1):
            self.assert_unrecoverable(AfterTime(time), "^the journal begins at")

    def test_locate_after_time_of_two_trimmed_events_fails(self) -> None:
        """A client may have got only the first of them."""
        at = format_time(time_of(3))
        self.journal.append([event(n, at=at) for n in (4, 5, 6, 7)])
        self.clock.advance(TRIM_EVERY)
        self.assertEqual(self.journal.first, 5)
        self.assert_unrecoverable(AfterTime(time_of(3)), "^the journal begins at")

    def test_locate_count_returns_row_before_that_many_events(self) -> None:
        """Zero is the end; a count above the number of stored rows is all of them."""
        self.assertEqual(
            [locate(self.account, LastEvents(count)) for count in (0, 2, 3, 9)], [3, 1, 0, 0]
        )
        self.trim()
        self.assertEqual([locate(self.account, LastEvents(count)) for count in (2, 9)], [3, 2])

    def test_locate_in_empty_log_returns_its_beginning(self) -> None:
        """Every position that an empty log accepts is its beginning."""
        journal = self.open(name="live")
        account = Account("live", journal, self.clock)
        cursor = account.cursor_at(0)
        assert cursor is not None
        for position in (AfterId(cursor), FromTime(journal.complete_from), LastEvents(5)):
            self.assertEqual(locate(account, position), 0)

    def test_locate_identity_without_event_id_returns_its_row(self) -> None:
        """Alpaca's older events have no id. Their identity is made of their content."""
        bare = event(7, event_id=None, execution_id="x")
        self.journal.append([bare])
        self.assertEqual(locate(self.account, AfterId(bare.identity)), 4)


class LocateAtHoleTests(DiskCase):
    """Events of a hole were delivered, but cannot be read. None behind a position is skipped."""

    def test_locate_after_time_of_hole_returns_row_before_it(self) -> None:
        """The client may have had the first of its events only. Other holes do not matter."""
        account = Account("paper", self.journal, self.clock)
        self.connections.refuse_writing()
        for batch in ((3, 4), (5,), (6,), (7,)):
            size = 1 if batch in ((5,), (7,)) else MAX_BYTES // 2 + 1
            payload = b"{}".ljust(size)
            self.journal.append([structs.replace(event(n), payload=payload) for n in batch])
        self.assertEqual([self.journal.next_hole(after) for after in (0, 4, 6)], [4, 6, None])
        found = [locate(account, AfterTime(time_of(n))) for n in range(1, 9)]
        self.assertEqual(found, [1, 2, 3, 3, 5, 5, 7, 7])


class LocateInRedisTests(RedisJournalCase, LocateTests):
    """The same with a journal in Redis, of which this node may not have read every row."""

    def assert_unrecoverable(self, position: Position, reason: str) -> None:
        """Query the end of the log first: until then the row may be an unread one."""
        try:
            locate(self.account, position)
        except (UnrecoverablePositionError, UnreadableError):
            self.observe_log_end(self.journal)
        super().assert_unrecoverable(position, reason)

    def test_locate_position_beyond_read_rows_raises_unreadable(self) -> None:
        """The row may exist in Redis. The client has to retry."""
        ahead = AfterId(str(replace(self.cursor(3), seq=4)))
        for position in (ahead, AfterId(event_id_of(9))):
            self.assertRaises(UnreadableError, locate, self.account, position)
