"""The trade date of an event: the day in New York, which begins at 20:00 the evening before.

Alpaca's overnight session opens at 20:00 New York time and counts for the next day. There is no
calendar of holidays here: an event of a Saturday has that Saturday's date.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from tradeproxy.wire.event import EPOCH, MAX_TIME, MICROSECOND, MIN_TIME

NEW_YORK = "America/New_York"
"""The zone of a trade date, as the IANA database names it. A ZoneInfo reads a file once, but not at
the import of this module: the file is one of the system, or of the package tzdata."""

_OVERNIGHT = timedelta(hours=4)
_HOUR = timedelta(hours=1) // MICROSECOND
# Room for the offset from UTC and for the four hours, at both ends of the calendar.
_MARGIN = timedelta(days=1) // MICROSECOND


def trade_date(time_us: int) -> date:
    """Return the trade date of a time in microseconds since 1970.

    The clock of New York decides, four hours ahead: the date changes at 20:00 there, in summer and
    in winter. A time at the end of the calendar counts as one of a day before it.
    """
    time_us = min(max(time_us, MIN_TIME + _MARGIN), MAX_TIME - _MARGIN)
    # Since 1883 the offset from UTC is whole hours, and changes on the hour.
    return _find_date(time_us - time_us % _HOUR)


@lru_cache
def _find_date(time_us: int) -> date:
    local = (EPOCH + time_us * MICROSECOND).astimezone(ZoneInfo(NEW_YORK))
    # An aware time plus a duration is wall clock time: `local` keeps its zone.
    return (local + _OVERNIGHT).date()


def trade_date_bounds(day: date) -> tuple[int, int]:
    """Return when a trade date begins and when the next one does, in microseconds since 1970.

    Raises OverflowError for the first and the last day of the calendar.
    """
    return _begin(day), _begin(day + timedelta(days=1))


def utc_date_bounds(day: date) -> tuple[int, int]:
    """Return when a date in UTC begins and when the next one does, in microseconds since 1970.

    Raises OverflowError for the last day of the calendar.
    """
    begin = datetime.combine(day, time(), UTC)
    return (begin - EPOCH) // MICROSECOND, (begin + timedelta(days=1) - EPOCH) // MICROSECOND


def _begin(day: date) -> int:
    # New York has changed its clocks at 2:00 only, so 20:00 exists, once, on every day.
    midnight = datetime.combine(day, time(), ZoneInfo(NEW_YORK))
    return (midnight - _OVERNIGHT - EPOCH) // MICROSECOND
