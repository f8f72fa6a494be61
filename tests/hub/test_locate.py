"""Tests for tradeproxy.hub.locate."""

from __future__ import annotations

from dataclasses import replace

from tests.support.journals import MemoryCase, event, event_id_of, events, time_of
from tests.support.redisjournals import InRedis
from tradeproxy.hub.account import Account
from tradeproxy.hub.locate import UnrecoverablePositionError, locate
from tradeproxy.journal.base import TRIM_EVERY, UnreadableError
from tradeproxy.wire.position import AfterId, Cursor, FromTime, LastEvents, Position


class LocateTests(MemoryCase):
    """A client's position is a place in the log, or is refused with the reason."""

    now = 1.0

    def setUp(self) -> None:
        super().setUp()
        self.journal = self.open(max_events=3)
        self.account = Account("paper", self.journal, self.clock)
        self.journal.append(events(1, 2, 3))

    def trim(self) -> None:
        """Let the log hold events 3 to 5 only."""
        self.journal.append(events(4, 5))
        self.clock.advance(TRIM_EVERY)
        self.assertEqual((self.journal.first, self.journal.last), (3, 5))

    def cursor(self, seq: int) -> Cursor:
        text = self.account.cursor_at(seq)
        assert text is not None
        cursor = Cursor.parse(text)
        assert cursor is not None
        return cursor

    def lost(self, position: Position, words: str) -> None:
        with self.assertRaisesRegex(UnrecoverablePositionError, words) as caught:
            locate(self.account, position)
        text = str(caught.exception)
        self.assertTrue(text.isascii() and len(text) <= 90, text)

    def test_a_cursor_is_its_own_place(self) -> None:
        """From before the first event to behind the last."""
        for seq in range(4):
            self.assertEqual(locate(self.account, AfterId(str(self.cursor(seq)))), seq)

    def test_a_cursor_is_good_as_long_as_all_behind_it_is_kept(self) -> None:
        """The event that it names may itself be gone."""
        kept, gone, start = self.cursor(2), self.cursor(1), self.cursor(0)
        self.trim()
        self.assertEqual(locate(self.account, AfterId(str(kept))), 2)
        for cursor in (gone, start):
            self.lost(
                AfterId(str(cursor)),
                "^it is no longer kept: the journal begins at 2026-09-21T14:13:2",
            )

    def test_a_cursor_of_another_log_is_refused(self) -> None:
        """Another account's, another epoch's, one ahead of the log, or one with another event there."""
        cursor = self.cursor(3)
        self.lost(AfterId(str(replace(cursor, account="live"))), "another account")
        self.lost(AfterId(str(replace(cursor, epoch="0" * 16))), "an earlier journal")
        self.lost(AfterId(str(replace(cursor, seq=4))), "no such event")
        self.lost(AfterId(str(replace(cursor, check=cursor.check ^ 1))), "no such event")
        self.lost(AfterId(str(replace(cursor, seq=2))), "no such event")

    def test_an_id_is_the_place_behind_its_event(self) -> None:
        """An id that is unknown is refused, and so is one whose event is gone."""
        self.assertEqual(locate(self.account, AfterId(event_id_of(2))), 2)
        self.lost(AfterId(event_id_of(9)), "no such event")
        self.lost(AfterId("paper.0.0"), "no such event")
        self.trim()
        self.lost(AfterId(event_id_of(2)), "no longer kept")

    def test_a_time_is_the_place_before_its_first_event(self) -> None:
        """A time to come is the end; a time that is no longer whole is refused."""
        self.assertEqual(locate(self.account, FromTime(time_of(2))), 1)
        self.assertEqual(locate(self.account, FromTime(time_of(2) + 1)), 2)
        self.assertEqual(locate(self.account, FromTime(time_of(9))), 3)
        self.lost(
            FromTime(self.journal.complete_from - 1),
            "^the journal begins at 1970-01-01T00:00:01.000000Z",
        )
        self.trim()
        self.lost(FromTime(time_of(2)), "^the journal begins at 2026-09-21T14:13:22.000001Z")
        self.assertEqual(locate(self.account, FromTime(time_of(2) + 1)), 2)

    def test_a_count_is_as_many_events_as_there_are(self) -> None:
        """None is the end; more than there are is all."""
        self.assertEqual(
            [locate(self.account, LastEvents(count)) for count in (0, 2, 3, 9)], [3, 1, 0, 0]
        )
        self.trim()
        self.assertEqual([locate(self.account, LastEvents(count)) for count in (2, 9)], [3, 2])

    def test_an_empty_log_has_one_place(self) -> None:
        """Every position that it does not refuse is its beginning."""
        journal = self.open(name="live")
        account = Account("live", journal, self.clock)
        cursor = account.cursor_at(0)
        assert cursor is not None
        for position in (AfterId(cursor), FromTime(journal.complete_from), LastEvents(5)):
            self.assertEqual(locate(account, position), 0)

    def test_an_event_named_by_its_content_has_a_place_too(self) -> None:
        """Alpaca's older events have no id of their own."""
        bare = event(7, event_id=None, execution_id="x")
        self.journal.append([bare])
        self.assertEqual(locate(self.account, AfterId(bare.identity)), 4)


class LocateInRedisTests(InRedis, LocateTests):
    """The same where several nodes share the log; one of them may be ahead of this one."""

    def lost(self, position: Position, words: str) -> None:
        """Look at where the log ends, where the position may be yet to come here."""
        try:
            locate(self.account, position)
        except (UnrecoverablePositionError, UnreadableError):
            self.observe_log_end(self.journal)
        super().lost(position, words)

    def test_what_may_be_yet_to_come_is_not_refused(self) -> None:
        """The client is to come back."""
        ahead = AfterId(str(replace(self.cursor(3), seq=4)))
        for position in (ahead, AfterId(event_id_of(9))):
            self.assertRaises(UnreadableError, locate, self.account, position)
