"""The time as events tell it: in UTC, never backwards, and written as Alpaca writes it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from tradeproxy.simulator.ids import UlidSequence

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class EventClock:
    """Stamps events and orders; `seconds` gives Unix time. It stands still while that has gone back."""

    def __init__(self, seconds: Callable[[], float], random: Random) -> None:
        self._seconds = seconds
        self._random = random
        self._ulids = UlidSequence(random)
        self._last = _EPOCH

    def stamp(self) -> tuple[str, str]:
        """Return `at` and `event_id`: ids ascend strictly, and hold the millisecond of `at`."""
        time = self._time()
        return f"{_text(time)}Z", self._ulids.next((time - _EPOCH) // timedelta(milliseconds=1))

    def timestamp(self, days: int = 0) -> str:
        """Return the time some `days` from now, with nine digits of a second, the last three made up."""
        return f"{_text(self._time() + timedelta(days))}{self._random.randrange(1000):03}Z"

    def _time(self) -> datetime:
        self._last = max(self._last, datetime.fromtimestamp(self._seconds(), UTC))
        return self._last


def _text(time: datetime) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S.%f")
