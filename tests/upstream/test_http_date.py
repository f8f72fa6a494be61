"""Tests for tradeproxy.upstream.http_date."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tradeproxy.upstream.http_date import parse_date


class HttpDateTests(SynchronousTestCase):
    """Dates in headers, as Unix time. tests/upstream/test_backoff.py has their formats."""

    def test_date_outside_the_calendar_is_none(self) -> None:
        """An offset moves it into the year 10000, which no other code can show."""
        for text, seconds in (
            ("Fri, 31 Dec 9999 23:59:59 GMT", 253_402_300_799.0),
            ("Fri, 31 Dec 9999 23:59:59 -0001", None),
        ):
            self.assertEqual(parse_date(text), seconds, text)
