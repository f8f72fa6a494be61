"""The faults that can be ordered: what goes wrong at Alpaca, at the moment that suits a test."""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import Enum
from typing import TYPE_CHECKING

from tradeproxy.simulator.errors import ApiError

if TYPE_CHECKING:
    from tradeproxy.simulator.orders import Document

MOST_EVENTS = 10_000
"""The largest `count`: a burst of so many takes the reactor more than a second."""

LONGEST = 1_000_000_000
"""The most `seconds`, `delay`, `events` and `dropped`."""


class FaultKind(Enum):
    """What goes wrong. Those marked (lasting) are still in force for connections and requests to come."""

    DROP = "drop"
    """TCP ends without a close frame."""
    RESET = "reset"
    """TCP is reset."""
    SILENCE = "silence"
    """The connection stays, and nothing more is said on it: no event, no reply, no pong."""
    CLOSE = "close"
    """A clean close frame, 1000."""
    THROTTLE = "throttle"
    """Handshakes get HTTP 429 (lasting)."""
    REFUSE = "refuse"
    """Logins get `unauthorized` (lasting)."""
    REPEAT = "repeat"
    """The last `count` events once more, the same bytes."""
    GARBAGE = "garbage"
    """`count` frames that no client should have to read."""
    BURST = "burst"
    """`count` events in one write."""
    REST_REFUSE = "rest_refuse"
    """GET requests to the trading API, that for the history among them, get `status` (lasting)."""
    HISTORY_REFUSE = "history_refuse"
    """Requests for the history get `status` (lasting)."""
    HISTORY_DELAY = "history_delay"
    """Requests for the history are held for `delay` seconds before an answer begins (lasting)."""
    HISTORY_TRUNCATE = "history_truncate"
    """The history is cut off after `events` events, in the middle of the response (lasting)."""
    HISTORY_DROP = "history_drop"
    """After `events` events of the history it is said that `dropped` are left out, and they are (lasting)."""

    @property
    def lasting(self) -> bool:
        """Whether it is in force for a while, instead of happening at once."""
        return self in _LASTING


_LASTING = frozenset(
    {
        FaultKind.THROTTLE,
        FaultKind.REFUSE,
        FaultKind.REST_REFUSE,
        FaultKind.HISTORY_REFUSE,
        FaultKind.HISTORY_DELAY,
        FaultKind.HISTORY_TRUNCATE,
        FaultKind.HISTORY_DROP,
    }
)


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault. `count` and `seconds` say how often or how long; `seconds`, where given, wins.

    `retry_after`, in seconds, is the header of that name of what is refused with an HTTP status.
    """

    kind: FaultKind
    count: int = 1
    seconds: float | None = None
    retry_after: int | None = None
    status: int = 403
    delay: float = 1
    events: int = 1
    dropped: int = 1


def parse_fault(document: object) -> Fault:
    """Read a fault from a JSON value; the Refusal of a bad one names the field."""
    if not isinstance(document, dict):
        raise _refusal("a fault is a JSON object")
    if unknown := sorted(document.keys() - {field.name for field in fields(Fault)}):
        raise _refusal(f"{unknown[0]!r}: no such field")
    kinds = [kind.value for kind in FaultKind]
    if (kind := document.get("kind")) not in kinds:
        raise _refusal(f"kind: one of {', '.join(kinds)}")
    retry_after = document.get("retry_after")
    # By type(), since True is an int as well.
    if retry_after is not None and not (type(retry_after) is int and retry_after >= 0):
        raise _refusal("retry_after: a whole number of seconds, 0 or more")
    return Fault(
        FaultKind(kind),
        _whole(document, "count", 1, 1, MOST_EVENTS),
        None if document.get("seconds") is None else _duration(document, "seconds"),
        retry_after,
        _whole(document, "status", 403, 400, 599),
        _duration(document, "delay") if "delay" in document else 1,
        _whole(document, "events", 1, 0, LONGEST),
        _whole(document, "dropped", 1, 1, LONGEST),
    )


def _whole(document: Document, name: str, default: int, least: int, most: int) -> int:
    value = document.get(name, default)
    if type(value) is not int or not least <= value <= most:
        raise _refusal(f"{name}: a whole number from {least} to {most}")
    return value


def _duration(document: Document, name: str) -> float:
    value = document[name]
    if type(value) not in (int, float) or not 0 < value <= LONGEST:
        raise _refusal(f"{name}: a number above 0, at most {LONGEST}")
    return float(value)


class LastingFault:
    """A fault that lasts: for its next `count` occasions, or until its seconds are over."""

    def __init__(self, fault: Fault, now: float) -> None:
        self.fault = fault
        self._until = None if fault.seconds is None else now + fault.seconds
        self._left = fault.count

    def applies(self, now: float) -> bool:
        """Whether this occasion goes wrong, which thereby counts."""
        if self._until is not None:
            return now < self._until
        self._left -= 1
        return self._left >= 0


def _refusal(problem: str) -> ApiError:
    return ApiError(400, 40010000, problem)
