"""Times as people type them at a prompt and read them there: by the clock of this machine."""

from __future__ import annotations

from argparse import ArgumentTypeError
from datetime import UTC, date, datetime, timedelta

from tradeproxy.wire.event import parse_time

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def parse_time_argument(text: str) -> datetime:
    """Read an argument: a date, or a time of a date; without an offset from UTC it is this machine's."""
    try:
        return datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError):
        raise ArgumentTypeError(
            f"{text!r} is not a time such as 2026-07-24T09:30 or 2026-07-24"
        ) from None


def parse_date_argument(text: str) -> date:
    """Read an argument that is a day."""
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is not a date such as 2026-07-24") from None


def get_day_bounds(day: date) -> tuple[datetime, datetime]:
    """Return this machine's midnight before a day, and the one after it. Raises OverflowError."""
    begin = datetime(day.year, day.month, day.day)  # astimezone takes it for local
    return begin.astimezone(), (begin + timedelta(days=1)).astimezone()


def to_microseconds(moment: datetime) -> int:
    """Return a time as journals have it: microseconds since 1970."""
    return (moment - _EPOCH) // _MICROSECOND


def parse_local_time(text: str) -> datetime | None:
    """Read a time of Alpaca's or the proxy's, and return it by the clock of this machine."""
    try:
        return (_EPOCH + parse_time(text) * _MICROSECOND).astimezone()
    except (ValueError, OverflowError):
        return None


def format_local_time(text: str) -> str:
    """Write a time of the proxy's as its reader's clock shows it."""
    moment = parse_local_time(text)
    return text if moment is None else f"{moment:%Y-%m-%d %H:%M:%S}"
