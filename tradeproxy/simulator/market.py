"""The market's clock and calendar: open on every day, from midnight to 23:59 in New York. Pure.

The simulator fills orders at any hour, so its market is always open. The minute before midnight
counts as open too: Alpaca's calendar has no 24:00.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from tradeproxy.simulator.errors import unprocessable
from tradeproxy.simulator.orders import Document

OPEN, CLOSE = time(0, 0), time(23, 59)

LONGEST_CALENDAR = 3660
"""The maximum of days in one calendar: ten years."""

GTC_DAYS = 90
"""The days after which Alpaca cancels an order that is good till canceled."""

DEFAULT_CALENDAR = 30
"""The days of a calendar without an end."""


def read_clock(seconds: float) -> Document:
    """Return GET /v2/clock at a Unix time in seconds."""
    now = _new_york(seconds)
    closes = _at(now.date(), CLOSE)
    if closes <= now:
        closes = _at(now.date() + timedelta(1), CLOSE)
    return {
        "timestamp": now.isoformat(),
        "is_open": True,
        "next_open": _at(now.date() + timedelta(1), OPEN).isoformat(),
        "next_close": closes.isoformat(),
    }


def find_expiry(time_in_force: str, seconds: float) -> str:
    """Return when an order that is submitted at a Unix time expires: at the market's close.

    An order that is good till canceled expires after GTC_DAYS.
    """
    days = GTC_DAYS if time_in_force == "gtc" else 0
    closes = datetime.fromisoformat(read_clock(seconds)["next_close"]) + timedelta(days)
    return f"{closes.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def list_days(fields: Mapping[str, str], seconds: float) -> list[Document]:
    """Return GET /v2/calendar: the days from `start` to `end`, inclusive; from today by default.

    Raises ApiError with the name of an invalid parameter.
    """
    start = _read_date(fields, "start", _new_york(seconds).date())
    last = start + timedelta(min(DEFAULT_CALENDAR, (date.max - start).days))
    end = _read_date(fields, "end", last)
    count = (end - start).days + 1
    if count > LONGEST_CALENDAR:
        raise unprocessable(f"end must be at most {LONGEST_CALENDAR} days after start")
    return [_describe(start + timedelta(number)) for number in range(count)]


def _describe(day: date) -> Document:
    return {
        "date": day.isoformat(),
        "open": f"{OPEN:%H:%M}",
        "close": f"{CLOSE:%H:%M}",
        "session_open": f"{OPEN:%H%M}",
        "session_close": f"{CLOSE:%H%M}",
    }


def _read_date(fields: Mapping[str, str], name: str, default: date) -> date:
    if name not in fields:
        return default
    try:
        # alpaca-py sends a date, other SDKs a whole time.
        return date.fromisoformat(fields[name][:10])
    except ValueError:
        raise unprocessable(f"{name} must be a date such as 2026-12-31") from None


def _new_york(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, ZoneInfo("America/New_York"))


def _at(day: date, moment: time) -> datetime:
    return datetime.combine(day, moment, ZoneInfo("America/New_York"))
