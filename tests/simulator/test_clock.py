"""Tests of times as text."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tradeproxy.simulator.clock import (
    compact,
    format_time,
    move_ulid,
    nanoseconds,
    ulid_milliseconds,
)


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

    def test_format_time_is_parsed_again(self) -> None:
        """It has six decimals, or nine if the time is finer; the calendar limits it."""
        for time, text in (
            (1_784_904_169_354_133_000, "2026-07-24T14:42:49.354133Z"),
            (1_784_904_169_354_133_007, "2026-07-24T14:42:49.354133007Z"),
            (0, "1970-01-01T00:00:00.000000Z"),
        ):
            self.assertEqual((format_time(time), nanoseconds(text)), (text, time))
        self.assertEqual(format_time(-1), "1970-01-01T00:00:00.000000Z")
        self.assertEqual(format_time(10**30), "9999-12-31T23:59:59.999999Z")


class MoveUlidTests(SynchronousTestCase):
    """Another time in a ULID."""

    def test_move_ulid_changes_only_the_time(self) -> None:
        """Times that a ULID cannot have become the nearest; other text is unchanged."""
        text = "01KYA98EMMAHZ1EAE2B7SQVP4M"
        for milliseconds, expected in ((5, 5), (-5, 0), (2**60, 2**48 - 1)):
            moved = move_ulid(text, milliseconds)
            self.assertEqual(ulid_milliseconds(moved), expected)
            self.assertEqual(moved[10:], text[10:])
        self.assertEqual(move_ulid("event-1", 5), "event-1")
