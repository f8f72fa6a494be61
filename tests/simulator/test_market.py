"""Tests of the market's clock and calendar."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tradeproxy.simulator.errors import ApiError
from tradeproxy.simulator.market import LONGEST_CALENDAR, list_days, read_clock


class MarketTests(SynchronousTestCase):
    """The market is open at any hour."""

    def test_clock_is_in_new_york(self) -> None:
        """In winter and in summer, with the offset of the day."""
        for seconds, timestamp, closes, opens in (
            (
                1768521600,  # 2026-01-16T00:00:00Z
                "2026-01-15T19:00:00-05:00",
                "2026-01-15T23:59:00-05:00",
                "2026-01-16T00:00:00-05:00",
            ),
            (
                1784174400,  # 2026-07-16T04:00:00Z
                "2026-07-16T00:00:00-04:00",
                "2026-07-16T23:59:00-04:00",
                "2026-07-17T00:00:00-04:00",
            ),
        ):
            self.assertEqual(
                read_clock(seconds),
                {
                    "timestamp": timestamp,
                    "is_open": True,
                    "next_open": opens,
                    "next_close": closes,
                },
            )

    def test_next_close_is_never_past(self) -> None:
        """In the last minute of a day it is that of the next one."""
        self.assertEqual(read_clock(1784260770)["next_close"], "2026-07-17T23:59:00-04:00")

    def test_calendar_has_every_day(self) -> None:
        """From today by default; both ends are included, and a time counts as its date."""
        day = {"open": "00:00", "close": "23:59", "session_open": "0000", "session_close": "2359"}
        query = {"start": "2026-07-18", "end": "2026-07-19T00:00:00Z"}
        expected = [{"date": date, **day} for date in ("2026-07-18", "2026-07-19")]
        self.assertEqual(list_days(query, 0), expected)
        self.assertEqual(list_days({}, 1784174400)[0]["date"], "2026-07-16")
        self.assertEqual(list_days({"start": "2026-07-18", "end": "2026-07-17"}, 0), [])
        self.assertEqual(len(list_days({"start": "9999-12-31"}, 0)), 1)

    def test_invalid_calendar_is_refused(self) -> None:
        """The message names the parameter; the number of days is bounded."""
        for query, word in (
            ({"start": "x"}, "start"),
            ({"end": "2026-02-30"}, "end"),
            ({"start": "0001-01-01", "end": "9999-12-31"}, str(LONGEST_CALENDAR)),
        ):
            error = self.assertRaises(ApiError, list_days, query, 0)
            self.assertEqual(error.status, 422)
            self.assertIn(word, error.message)
