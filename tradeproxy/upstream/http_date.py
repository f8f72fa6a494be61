"""The dates in HTTP headers."""

from __future__ import annotations

from datetime import UTC
from email.utils import parsedate_to_datetime

from tradeproxy.wire.event import is_time


def parse_date(text: str) -> float | None:
    """Parse an HTTP date as Unix time in seconds. HTTP dates are in UTC (RFC 9110, 5.6.7).

    None if it is none, or if it is outside the calendar: an offset can move it there.
    """
    try:
        moment = parsedate_to_datetime(text)
        # "-0000" is parsed as a date without a zone (RFC 5322, 3.3).
        seconds = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None
    return seconds if is_time(round(seconds) * 1_000_000) else None
