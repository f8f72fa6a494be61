"""Tests for tradeproxy.journal: this machine's clock or Alpaca's Date is wrong for a while."""

from __future__ import annotations

from tests.support.journals import DAY, SqliteCase, event, events, time_of
from tests.support.redisjournals import RedisJournalCase
from tradeproxy.journal.retention import TRIM_EVERY
from tradeproxy.journal.sqlite import SqliteJournal
from tradeproxy.runtime.dates import CONFIRM_AFTER, Dates
from tradeproxy.wire.event import format_time

SECOND = 1_000_000


class WrongClockTests(SqliteCase):
    """A Raspberry Pi has no clock of its own: until NTP answers, its date may be any."""

    def setUp(self) -> None:
        super().setUp()
        self.error = 0.0
        self.dates = self.start_dates()

    def start_dates(self) -> Dates:
        """Return the dates of a new process."""
        return Dates(self.clock.seconds, lambda: self.clock.seconds() + self.error)

    def observe(self) -> None:
        """Let one of Alpaca's answers arrive."""
        self.dates.observe(self.clock.seconds())

    def open_after_restart(self) -> SqliteJournal:
        self.dates = self.start_dates()
        return self.open(dates=self.dates)

    def test_clock_days_ahead_trims_nothing(self) -> None:
        """Ten days ahead for 14 seconds, the journal was trimmed empty."""
        journal = self.open_after_restart()
        self.observe()
        journal.append(events(1, 2, 3))
        journal.close()
        self.error = 10 * DAY
        journal = self.open_after_restart()
        self.clock.advance(TRIM_EVERY)
        self.observe()
        self.clock.advance(CONFIRM_AFTER)
        self.observe()
        self.assertIsNotNone(self.dates.alpaca())
        self.clock.advance(TRIM_EVERY)
        self.assertEqual(journal.first, 1)

    def test_date_days_ahead_trims_nothing(self) -> None:
        """The estimate may be wrong too: both clocks must agree that a row is old."""
        journal = self.open_after_restart()
        journal.append(events(1, 2, 3))
        for _ in range(2):
            self.dates.observe(self.clock.seconds() + 10 * DAY)
            self.clock.advance(CONFIRM_AFTER)
        self.assertIsNotNone(self.dates.alpaca())
        self.clock.advance(TRIM_EVERY)
        self.assertEqual(journal.first, 1)

    def test_without_estimate_nothing_is_trimmed_by_age(self) -> None:
        """It is trimmed once Alpaca's clock is known."""
        journal = self.open_after_restart()
        journal.append(events(1, 2, 3))
        self.clock.advance(8 * DAY)
        self.assertEqual(journal.first, 1)
        self.observe()
        self.clock.advance(TRIM_EVERY)
        self.assertEqual(journal.first, 3)

    def test_rows_received_by_clock_years_behind_are_kept(self) -> None:
        """They were received in 1970, and were trimmed as soon as the clock was right."""
        self.error = -self.clock.seconds()
        journal = self.open_after_restart()
        journal.append(events(1, 2, 3))
        self.error = 0.0
        self.observe()
        self.clock.advance(TRIM_EVERY)
        self.assertEqual(journal.first, 1)

    def test_log_begun_by_wrong_clock_begins_by_alpacas(self) -> None:
        """Ten minutes behind at the first start, an event from before the log was delivered."""
        for error in (-600.0, 86_400.0):
            self.error = error
            self.path = self.path.with_name(f"{error}.sqlite3")
            journal = self.open_after_restart()
            begun = round(self.clock.seconds() * SECOND)
            self.assertEqual(journal.complete_from, begun + round(error * SECOND))
            self.clock.advance(CONFIRM_AFTER)
            self.assertEqual(
                journal.correct_complete_from(round(self.clock.seconds() * SECOND)), begun
            )
            self.observe()
            self.clock.advance(CONFIRM_AFTER)
            self.observe()
            journal.correct_times()
            self.assertEqual(journal.complete_from, begun)
            journal.close()
            self.assertEqual(self.open_after_restart().complete_from, begun)

    def test_beginning_by_clock_that_is_2_seconds_off_stays(self) -> None:
        """A Date header has whole seconds, and takes a while to arrive."""
        journal = self.open_after_restart()
        begun = journal.complete_from
        for deviation in (-2_000_000, 0, 2_000_000):
            self.assertEqual(journal.correct_complete_from(begun + deviation), begun)
        for deviation in (-2_000_001, 2_000_001):
            self.assertEqual(journal.correct_complete_from(begun + deviation), begun + deviation)

    def test_beginning_is_corrected_once(self) -> None:
        """Later answers differ a little, and a position just before would become invalid."""
        self.error = -600.0
        journal = self.open_after_restart()
        self.error = 0.0
        begun = round(self.clock.seconds() * SECOND)
        for deviation in (0, 5, -5):
            self.dates.observe(self.clock.seconds() + deviation)
            journal.correct_times()
            self.assertEqual(journal.complete_from, begun)

    def test_beginning_behind_trimmed_event_stays(self) -> None:
        """It is not by a clock any more."""
        journal = self.open(dates=self.dates, max_events=1)
        journal.append(events(11, 12, 13))
        self.observe()
        self.clock.advance(TRIM_EVERY)
        begins = time_of(12) + 1
        self.assertEqual(journal.complete_from, begins)
        now = round(self.clock.seconds() * SECOND)
        self.assertEqual(journal.correct_complete_from(now), begins)
        journal.correct_times()
        self.assertEqual(journal.complete_from, begins)

    def test_correct_times_without_estimate_changes_nothing(self) -> None:
        """This machine's clock may be wrong now, too."""
        journal = self.open_after_restart()
        begun = journal.complete_from
        self.error = 10 * DAY
        journal.correct_times()
        self.assertEqual(journal.complete_from, begun)

    def test_newest_time_without_estimate_may_be_any(self) -> None:
        """This machine's clock may be years behind, so no time counts as wrong yet."""
        journal = self.open_after_restart()
        self.assertIsNone(journal.newest_time)
        journal.append([event(1, at=format_time(time_of(10**9)))])
        self.assertEqual(journal.newest_time, time_of(10**9))
        self.observe()
        self.assertIsNone(journal.newest_time)

    def test_bounds_in_the_future_are_corrected(self) -> None:
        """An earlier version moved them to the time of an event of the year 2999."""
        journal = self.open_after_restart()
        journal.append([event(1)])
        journal.complete_from = time_of(10**9)
        journal.advance_dedup_horizon(time_of(10**9))
        journal.close()
        journal = self.open_after_restart()
        self.assertTrue(journal.has(event(5)))
        self.observe()
        journal.correct_times()
        self.assertFalse(journal.has(event(5)))
        self.assertEqual(journal.complete_from, round(self.clock.seconds() * SECOND))

    def test_new_file_after_event_of_the_future_begins_now(self) -> None:
        """Otherwise it would count every later event as a duplicate."""
        journal = self.open_after_restart()
        self.observe()
        journal.append([event(1, at=format_time(time_of(10**9)))])
        journal.identify("one")
        journal.identify("two")
        self.assertEqual(journal.complete_from, round(self.clock.seconds() * SECOND))
        self.assertFalse(journal.has(event(5)))


class PendingEpochTests(RedisJournalCase):
    """In Redis, a new epoch takes effect only when it is read back."""

    def test_beginning_of_pending_epoch_does_not_correct_the_present_one(self) -> None:
        """The present one began earlier. A client would get 4010 for its events."""
        journal = self.open()
        journal.identify("one")
        begun = journal.complete_from
        self.clock.advance(100)
        now = round(self.clock.seconds() * SECOND)
        found: list[int] = []
        self.redis.on_command = lambda _: found.append(journal.correct_complete_from(now))
        journal.identify("two")
        self.assertEqual((found[0], journal.complete_from), (begun, now))
