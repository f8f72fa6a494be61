"""Tests for trade dates."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from hypothesis import given
from hypothesis.strategies import integers
from twisted.trial.unittest import SynchronousTestCase

from tests.support.properties import examples
from tradeproxy.wire.event import MAX_TIME, MIN_TIME, parse_time
from tradeproxy.wire.trade_date import (
    trade_date,
    trade_date_bounds,
    utc_date_bounds,
)


class TradeDateTests(SynchronousTestCase):
    """`trade_date` is the day of the session to which an event belongs."""

    def test_date_changes_at_20_in_new_york_in_summer_and_in_winter(self) -> None:
        """The overnight session opens at 20:00, whatever the offset from UTC is."""
        for text, expected in (
            ("2026-07-24T19:59:59.999999-04:00", date(2026, 7, 24)),
            ("2026-07-24T20:00:00-04:00", date(2026, 7, 25)),
            ("2026-07-25T03:00:00-04:00", date(2026, 7, 25)),
            ("2026-01-15T19:59:59.999999-05:00", date(2026, 1, 15)),
            ("2026-01-15T20:00:00-05:00", date(2026, 1, 16)),
        ):
            with self.subTest(text):
                self.assertEqual(trade_date(parse_time(text)), expected)

    def test_date_changes_at_20_on_the_days_of_a_clock_change(self) -> None:
        """Four hours on the clock, not 23 or 25 hours after the last change of the date."""
        for text, expected in (
            ("2026-03-07T20:00:00-05:00", date(2026, 3, 8)),
            ("2026-03-08T19:59:59-04:00", date(2026, 3, 8)),
            ("2026-03-08T20:00:00-04:00", date(2026, 3, 9)),
            ("2026-10-31T20:00:00-04:00", date(2026, 11, 1)),
            ("2026-11-01T01:30:00-04:00", date(2026, 11, 1)),
            ("2026-11-01T01:30:00-05:00", date(2026, 11, 1)),
            ("2026-11-01T19:59:59-05:00", date(2026, 11, 1)),
            ("2026-11-01T20:00:00-05:00", date(2026, 11, 2)),
        ):
            with self.subTest(text):
                self.assertEqual(trade_date(parse_time(text)), expected)

    def test_holidays_and_weekends_have_their_own_date(self) -> None:
        """There is no calendar of holidays: crypto trades on a Saturday too."""
        self.assertEqual(trade_date(parse_time("2026-07-04T12:00:00-04:00")), date(2026, 7, 4))

    @given(integers(MIN_TIME * 2, MAX_TIME * 2))
    @examples()
    def test_any_number_has_a_date(self, time: int) -> None:
        """An event's time comes from outside: no number raises."""
        trade_date(time)

    def test_end_of_the_calendar_counts_as_a_day_before_it(self) -> None:
        """An offset from UTC, or the four hours, would lead out of the calendar."""
        self.assertEqual(trade_date(MIN_TIME), date(1, 1, 1))
        self.assertEqual(trade_date(MAX_TIME), date(9999, 12, 30))

    @given(integers(0, 4_102_444_800_000_000))
    @examples()
    def test_time_is_within_the_bounds_of_its_date(self, time: int) -> None:
        """Export selects by the bounds what the trade log files by the date."""
        begin, end = trade_date_bounds(trade_date(time))
        self.assertTrue(begin <= time < end)

    def test_bounds_are_20_in_new_york(self) -> None:
        """A day on which the clocks change has 23 or 25 hours."""
        for day, hours in (
            (date(2026, 3, 8), 23),
            (date(2026, 11, 1), 25),
            (date(2026, 7, 24), 24),
        ):
            with self.subTest(day.isoformat()):
                begin, end = trade_date_bounds(day)
                self.assertEqual(end - begin, hours * 3_600_000_000)
                local = datetime.fromtimestamp(begin / 1e6, ZoneInfo("America/New_York"))
                self.assertEqual((local.hour, local.date()), (20, day - timedelta(days=1)))

    def test_dates_of_utc_are_calendar_days(self) -> None:
        """Crypto trades all day; its day is that of UTC."""
        noon = datetime(2026, 7, 24, 12, tzinfo=UTC)
        begin, end = utc_date_bounds(date(2026, 7, 24))
        self.assertTrue(begin < noon.timestamp() * 1e6 < end)
        self.assertEqual(end - begin, 86_400_000_000)

    def test_last_days_of_the_calendar_have_no_bounds(self) -> None:
        """They raise what the command line reports as out of range."""
        self.assertRaises(OverflowError, trade_date_bounds, date.max)
        self.assertRaises(OverflowError, trade_date_bounds, date.min)
        self.assertRaises(OverflowError, utc_date_bounds, date.max)
