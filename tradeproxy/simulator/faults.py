"""The faults that can be ordered: what goes wrong at Alpaca, at the moment that suits a test."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from math import inf

MOST_EVENTS = 10_000
"""The largest `count`: a burst of so many takes the reactor more than a second."""


class FaultKind(Enum):
    """What goes wrong. Those marked (lasting) are still in force for connections to come."""

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


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault. `count` and `seconds` say how often or how long; `seconds`, where given, wins."""

    kind: FaultKind
    count: int = 1
    seconds: float | None = None
    retry_after: int | None = None


@dataclass(frozen=True, slots=True)
class InvalidFault:
    """A fault that was not understood. `problem` is one line, and names the field."""

    problem: str


def parse_fault(document: object) -> Fault | InvalidFault:
    """Read a fault from a JSON document."""
    if not isinstance(document, dict):
        return InvalidFault("a fault is a JSON object")
    if unknown := sorted(set(document) - {"kind", "count", "seconds", "retry_after"}):
        return InvalidFault(f"{unknown[0]!r}: no such field")
    kind = next((kind for kind in FaultKind if kind.value == document.get("kind")), None)
    count, seconds, retry_after = (
        document.get("count", 1),
        document.get("seconds"),
        document.get("retry_after"),
    )
    if kind is None:
        return InvalidFault(f"kind: one of {', '.join(kind.value for kind in FaultKind)}")
    if not _is_whole(count) or not 1 <= count <= MOST_EVENTS:
        return InvalidFault(f"count: a whole number from 1 to {MOST_EVENTS}")
    if seconds is not None and not (_is_number(seconds) and 0 < seconds < inf):
        return InvalidFault("seconds: a number above 0")
    if retry_after is not None and not (_is_whole(retry_after) and retry_after >= 0):
        return InvalidFault("retry_after: a whole number of seconds, 0 or more")
    return Fault(kind, count, seconds, retry_after)


class Spell:
    """A fault that lasts: for its next `count` occasions, or until its seconds are over."""

    def __init__(self, fault: Fault, now: float) -> None:
        self.fault = fault
        self._until = None if fault.seconds is None else now + fault.seconds
        self._left = fault.count

    def strikes(self, now: float) -> bool:
        """Whether the fault befalls this occasion, which thereby counts."""
        if self._until is not None:
            return now < self._until
        self._left -= 1
        return self._left >= 0


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
