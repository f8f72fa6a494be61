"""The time as events tell it: in UTC, never backwards, and written as Alpaca writes it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from tradeproxy.simulator.ulid import UlidSequence

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_CLOSE_OF_MARKET = 20
_GOOD_TILL_CANCELED = 90


class EventClock:
    """Stamps events and orders. It holds still while `now` is behind what was told already."""

    def __init__(self, now: Callable[[], datetime], random: Random) -> None:
        self._now = now
        self._random = random
        self._ulids = UlidSequence(random)
        self._last = now()

    def stamp(self) -> tuple[str, str]:
        """Return `at` and `event_id`: ids ascend strictly, and hold the millisecond of `at`."""
        time = self._time()
        return rfc3339(time), self._ulids.next((time - _EPOCH) // timedelta(milliseconds=1))

    def timestamp(self) -> str:
        """Return the time with nine digits of a second, the last three made up."""
        return f"{rfc3339(self._time()).removesuffix('Z')}{self._random.randrange(1000):03}Z"

    def expiry(self, time_in_force: str) -> str:
        """Return the next close of the market, at 20:00 UTC; for `gtc` that of 90 days later."""
        time = self._time()
        close = time.replace(hour=_CLOSE_OF_MARKET, minute=0, second=0, microsecond=0)
        days = (_GOOD_TILL_CANCELED if time_in_force == "gtc" else 0) + (time >= close)
        return rfc3339(close + timedelta(days=days))

    def _time(self) -> datetime:
        self._last = max(self._last, self._now())
        return self._last


def rfc3339(time: datetime) -> str:
    """Write a time in UTC with its microseconds."""
    return time.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
