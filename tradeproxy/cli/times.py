"""Times in arguments and in output: in the time zone of this machine."""

from __future__ import annotations

from argparse import ArgumentTypeError
from datetime import UTC, date, datetime, timedelta

from tradeproxy.wire.event import parse_time

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def parse_time_argument(text: str) -> datetime:
    """Parse a date, or a date with a time. Without a UTC offset it is local time.

    Raises ArgumentTypeError.
    """
    try:
        return datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError):
        raise ArgumentTypeError(
            f"{text!r} is not a time such as 2026-07-24T09:30 or 2026-07-24"
        ) from None


def parse_date_argument(text: str) -> date:
    """Parse a date. Raises ArgumentTypeError."""
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is not a date such as 2026-07-24") from None


def get_day_bounds(day: date) -> tuple[datetime, datetime]:
    """Return the local midnights at which a day begins and ends.

    Raises OverflowError or ValueError for a day next to the first or last that datetime supports.
    """
    # Naive: astimezone takes it as local time. A day with a clock change has 23 or 25 hours.
    begin = datetime(day.year, day.month, day.day)
    return begin.astimezone(), (begin + timedelta(days=1)).astimezone()


def to_microseconds(moment: datetime) -> int:
    """Return the microseconds since 1970, as in a journal. `moment` is aware."""
    return (moment - _EPOCH) // _MICROSECOND


def from_microseconds(time: int) -> datetime:
    """Return the local time of microseconds since 1970. Raises OverflowError."""
    return (_EPOCH + time * _MICROSECOND).astimezone()


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
