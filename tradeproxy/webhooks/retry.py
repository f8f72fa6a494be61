"""What follows an attempt to send a message, and when the next attempt begins."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, auto

INITIAL_CEILING = 1.0
"""Seconds: the maximum delay after the first failure. It doubles with every further failure."""

MAX_CEILING = 300.0
"""Seconds: the maximum delay after any failure, unless the receiver asks for a longer one."""

_STOPPED = frozenset({401, 403, 404, 410})
_TEMPORARY = frozenset({408, 429})


class Verdict(Enum):
    """What follows an answer."""

    DELIVERED = auto()
    RETRY = auto()
    REJECTED = auto()
    """The event is skipped: the receiver would answer the same again."""
    STOP = auto()
    """The receiver knows neither the URL nor its token. Somebody must change one of them."""


def judge(status: int | None) -> Verdict:
    """Return what follows an answer with this HTTP status, or no answer (None).

    A redirect is not followed: it would lead to an address that the operator did not choose. It
    may be temporary, such as that of a proxy before the receiver, so it is tried again.
    """
    if status is None or status < 200 or 300 <= status < 400 or status >= 500:
        return Verdict.RETRY
    if status < 300:
        return Verdict.DELIVERED
    if status in _STOPPED:
        return Verdict.STOP
    return Verdict.RETRY if status in _TEMPORARY else Verdict.REJECTED


class RetrySchedule:
    """Computes the delays of the attempts for one message."""

    def __init__(self, random: Callable[[], float]) -> None:
        """`random` returns floats from 0 to 1."""
        self._random = random
        self._ceiling = INITIAL_CEILING
        self.failures = 0
        """How many attempts have failed."""

    def delay(self, retry_after: float | None) -> float:
        """Count a failure, and return the seconds to the next attempt.

        It is between half of the ceiling and the ceiling, and never before `retry_after` (seconds).
        """
        self.failures += 1
        wait = self._ceiling * (1 + self._random()) / 2
        self._ceiling = min(2 * self._ceiling, MAX_CEILING)
        return wait if retry_after is None else max(wait, retry_after + self._random())
