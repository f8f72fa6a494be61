"""The faults that can be ordered: what goes wrong at Alpaca, at the moment that suits a test."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from tradeproxy.simulator.refusal import Refusal

MOST_EVENTS = 10_000
"""The largest `count`: a burst of so many takes the reactor more than a second."""

LONGEST = 1_000_000_000
"""The most `seconds`."""


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


def parse_fault(document: object) -> Fault:
    """Read a fault from a JSON value; the Refusal of a bad one names the field."""
    if not isinstance(document, dict):
        raise _refusal("a fault is a JSON object")
    if unknown := sorted(document.keys() - {"kind", "count", "seconds", "retry_after"}):
        raise _refusal(f"{unknown[0]!r}: no such field")
    kind, count = document.get("kind"), document.get("count", 1)
    seconds, retry_after = document.get("seconds"), document.get("retry_after")
    kinds = [kind.value for kind in FaultKind]
    if kind not in kinds:
        raise _refusal(f"kind: one of {', '.join(kinds)}")
    # By type(), since True is an int as well.
    if type(count) is not int or not 1 <= count <= MOST_EVENTS:
        raise _refusal(f"count: a whole number from 1 to {MOST_EVENTS}")
    if seconds is not None and not (type(seconds) in (int, float) and 0 < seconds <= LONGEST):
        raise _refusal(f"seconds: a number above 0, at most {LONGEST}")
    if retry_after is not None and not (type(retry_after) is int and retry_after >= 0):
        raise _refusal("retry_after: a whole number of seconds, 0 or more")
    return Fault(FaultKind(kind), count, seconds, retry_after)


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


def _refusal(problem: str) -> Refusal:
    return Refusal(400, 40010000, problem)
