"""Times in arguments and in output: in the time zone of this machine."""

from __future__ import annotations

import os
import time
from argparse import ArgumentTypeError
from datetime import UTC, date, datetime, timedelta, tzinfo

from tradeproxy.wire.event import EPOCH, MICROSECOND, parse_time

_NOT_A_TIME = "{!r} is not a time such as 2026-07-24T09:30 or 2026-07-24"


def parse_time_argument(text: str) -> datetime:
    """Parse a date, or a date with a time. Without a UTC offset it is local time.

    Raises ArgumentTypeError.
    """
    moment = parse_plain_time_argument(text)
    try:
        return to_local(moment) if moment.tzinfo is None else moment.astimezone()
    except (ValueError, OverflowError):
        raise ArgumentTypeError(_NOT_A_TIME.format(text)) from None


def parse_plain_time_argument(text: str) -> datetime:
    """Parse a date, or a date with a time. Without a UTC offset the result is naive.

    Raises ArgumentTypeError.
    """
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise ArgumentTypeError(_NOT_A_TIME.format(text)) from None


def parse_date_argument(text: str) -> date:
    """Parse a date. Raises ArgumentTypeError."""
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is not a date such as 2026-07-24") from None


def get_day_bounds(day: date) -> tuple[int, int]:
    """Return when a local day begins and when the next one does, in microseconds since 1970.

    A day with a clock change has 23 or 25 hours. Where the clock skips midnight, the day begins
    when it does that; where midnight comes twice, at the first one. Raises OverflowError or
    ValueError for a day next to the first or last that datetime supports.
    """
    begin = datetime(day.year, day.month, day.day)
    days = begin, begin + timedelta(days=1)
    first, last = (to_microseconds(to_local(moment)) for moment in days)
    return first, last


def to_local(moment: datetime) -> datetime:
    """Return a naive time as the local time that it is. The first of two, if it comes twice.

    A time that the clock skips is the moment at which it does that. Raises OverflowError or
    ValueError for a time next to the first or last that datetime supports.
    """
    # Not moment.astimezone(): for a time that the clock skips, it takes the later offset and
    # returns a time before the change.
    whole = moment.replace(microsecond=0)
    seconds = round(whole.timestamp())
    if datetime.fromtimestamp(seconds) != whole:
        # In the gap: the clock changes after `earlier`, and has changed by `seconds`.
        earlier = round(whole.replace(fold=1).timestamp())
        while seconds - earlier > 1:
            middle = (earlier + seconds) // 2
            if datetime.fromtimestamp(middle) < whole:
                earlier = middle
            else:
                seconds = middle
        moment = moment.replace(microsecond=0)
    exact = datetime.fromtimestamp(seconds, UTC) + timedelta(microseconds=moment.microsecond)
    return exact.astimezone()


def find_zone_name() -> str:
    """Return the name of the local zone, such as Europe/Berlin, or else an abbreviation."""
    if name := os.environ.get("TZ", "").removeprefix(":"):
        return name
    _, _, name = os.path.realpath("/etc/localtime").partition("/zoneinfo/")
    return name or time.tzname[0]


def to_microseconds(moment: datetime) -> int:
    """Return the microseconds since 1970, as in a journal. `moment` is aware."""
    return (moment - EPOCH) // MICROSECOND


def from_microseconds(time: int, zone: tzinfo | None = None) -> datetime:
    """Return the time of microseconds since 1970, by default local time. Raises OverflowError."""
    return (EPOCH + time * MICROSECOND).astimezone(zone)


def parse_local_time(text: str) -> datetime | None:
    """Convert a time from Alpaca or the proxy to local time; return None if it is malformed."""
    try:
        return from_microseconds(parse_time(text))
    except (ValueError, OverflowError):
        return None


def format_local_time(text: str) -> str:
    """Format a time from the proxy as local time. A malformed one is returned unchanged."""
    moment = parse_local_time(text)
    return text if moment is None else format_moment(moment)


def format_moment(moment: datetime) -> str:
    """Format an aware time with its UTC offset, such as 2026-07-24 09:30:00-04:00."""
    return moment.isoformat(" ", "seconds")
