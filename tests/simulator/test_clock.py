"""Tests of times as text."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tradeproxy.simulator.clock import compact, nanoseconds


class NanosecondsTests(SynchronousTestCase):
    """RFC 3339 times."""

    def test_parses_alpacas_times(self) -> None:
        """Up to nine decimals, Z or an offset, without rounding."""
        for text, expected in (
            ("1970-01-01T00:00:01Z", 1_000_000_000),
            ("1970-01-01t00:00:01z", 1_000_000_000),
            ("1970-01-01 01:00:01.5+01:00", 1_500_000_000),
            ("2026-07-24T14:42:49.354133Z", 1_784_904_169_354_133_000),
            ("2026-07-24T10:42:49.354133007-04:00", 1_784_904_169_354_133_007),
            ("1969-12-31T23:59:59.9Z", -100_000_000),
        ):
            self.assertEqual(nanoseconds(text), expected, text)

    def test_other_values_return_none(self) -> None:
        """A time without an offset, a date alone and other types are invalid."""
        for text in (
            "",
            "2026-07-24",
            "2026-07-24T14:42:49",
            "2026-07-24T14:42Z",
            "2026-02-30T00:00:00Z",
            "2026-07-24T14:42:49.1234567890Z",
            "2026-07-24T14:42:49 00:00",
            "٢026-07-24T14:42:49Z",
            "2026-07-24T14:42:49Z\n",
            1_784_904_169,
            None,
        ):
            self.assertIsNone(nanoseconds(text), text)

    def test_compact_time_has_milliseconds(self) -> None:
        """An activity id starts with the time in UTC, truncated to the millisecond."""
        self.assertEqual(compact(1_784_904_169_354_999_999), "20260724144249354")
