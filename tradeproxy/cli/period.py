"""The period of an export, in local time, in UTC, or as a trade date of New York."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from zoneinfo import ZoneInfo

from tradeproxy.cli import times
from tradeproxy.wire.trade_date import NEW_YORK, trade_date_bounds, utc_date_bounds


@dataclass(frozen=True, slots=True)
class Period:
    """From `begin` to just before `end`, in microseconds since 1970."""

    begin: int
    end: int
    zone: str
    """The name of the zone in which the user gave the period, such as America/New_York."""
    _tzinfo: tzinfo | None = None

    def __str__(self) -> str:
        return f"from {self.format(self.begin)} to {self.format(self.end)} ({self.zone})"

    def format(self, time: int) -> str:
        """Return a time (microseconds since 1970) in the zone of this period."""
        return times.format_moment(times.from_microseconds(time, self._tzinfo))


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments that choose a period."""
    parser.add_argument(
        "--date",
        type=times.parse_date_argument,
        metavar="DAY",
        help="a day in local time (see TZ); default today",
    )
    parser.add_argument(
        "--trade-date",
        type=times.parse_date_argument,
        metavar="DAY",
        help="a trade date: from 20:00 New York time on the day before to 20:00",
    )
    parser.add_argument(
        "--from",
        dest="begin",
        type=times.parse_plain_time_argument,
        metavar="TIME",
        help="first time to include",
    )
    parser.add_argument(
        "--until",
        "--to",
        dest="end",
        type=times.parse_plain_time_argument,
        metavar="TIME",
        help="first time to exclude; default now",
    )
    parser.add_argument(
        "--utc", action="store_true", help="days and times are in UTC, such as for crypto"
    )


def read_period(arguments: Namespace, now: datetime) -> Period:
    """Return the period that the arguments choose; by default the day of `now`, an aware time.

    Raises SystemExit with a line that begins with the option.
    """
    bounds = arguments.begin, arguments.end
    if arguments.date is not None and bounds != (None, None):
        raise SystemExit("--date: cannot be combined with --from or --until")
    if arguments.trade_date is not None and (arguments.date or bounds != (None, None)):
        raise SystemExit("--trade-date: cannot be combined with --date, --from or --until")
    zone, tz = ("UTC", UTC) if arguments.utc else (times.find_zone_name(), None)
    if arguments.trade_date is not None and not arguments.utc:
        with _in_range("--trade-date"):
            begin, end = trade_date_bounds(arguments.trade_date)
        return Period(begin, end, NEW_YORK, ZoneInfo(NEW_YORK))
    option = "--trade-date" if arguments.trade_date is not None else "--date"
    day = arguments.trade_date or arguments.date or now.astimezone(tz).date()
    with _in_range(option):
        begin, end = utc_date_bounds(day) if arguments.utc else times.get_day_bounds(day)
    if bounds != (None, None):
        if arguments.begin is not None:
            begin = _read_moment("--from", arguments.begin, is_utc=arguments.utc)
        end = times.to_microseconds(now)
        if arguments.end is not None:
            end = _read_moment("--until", arguments.end, is_utc=arguments.utc)
        if begin >= end:
            raise SystemExit("--from: must be before --until, which defaults to now")
    return Period(begin, end, zone, tz)


@contextmanager
def _in_range(option: str) -> Iterator[None]:
    try:
        yield
    except (OverflowError, ValueError):  # which of them depends on the version of Python
        raise SystemExit(f"{option}: is out of range") from None


def _read_moment(option: str, moment: datetime, *, is_utc: bool) -> int:
    with _in_range(option):
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC) if is_utc else times.to_local(moment)
        return times.to_microseconds(moment)
