"""The faults of Alpaca that a test can inject."""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import Enum
from typing import TYPE_CHECKING

from tradeproxy.simulator.errors import ApiError

if TYPE_CHECKING:
    from tradeproxy.simulator.orders import Document

MOST_EVENTS = 10_000
"""The maximum of `count`. A burst of this size blocks the reactor for over a second."""

LONGEST = 1_000_000_000
"""The maximum of `seconds`, `delay`, `events` and `dropped`."""

YEAR = 365 * 24 * 3600
"""In seconds."""

LARGEST_OFFSET = 50 * YEAR
"""The maximum of `offset` in both directions, in seconds."""


class FaultKind(Enum):
    """The kind of fault. A lasting one applies to later connections, requests or events."""

    DROP = "drop"
    """TCP closes (FIN) without a close frame."""
    RESET = "reset"
    """TCP is reset (RST)."""
    SILENCE = "silence"
    """The connection stays open, but the server sends nothing: no event, no reply, no pong."""
    CLOSE = "close"
    """A clean close frame, 1000."""
    THROTTLE = "throttle"
    """Handshakes get HTTP 429 (lasting)."""
    REFUSE = "refuse"
    """Logins get `unauthorized` (lasting)."""
    REPEAT = "repeat"
    """The last `count` events are sent again, with the same bytes."""
    GARBAGE = "garbage"
    """`count` invalid frames."""
    BURST = "burst"
    """`count` events in one write."""
    REST_REFUSE = "rest_refuse"
    """GET requests to the trading API get `status`, history included (lasting)."""
    HISTORY_REFUSE = "history_refuse"
    """Requests for the history get `status` (lasting)."""
    HISTORY_DELAY = "history_delay"
    """Responses to history requests start after `delay` seconds (lasting)."""
    HISTORY_TRUNCATE = "history_truncate"
    """History responses are cut off after `events` events (lasting)."""
    HISTORY_DROP = "history_drop"
    """After `events` events, history responses report and omit `dropped` events (lasting)."""
    DATE_SHIFT = "date_shift"
    """The Date header of responses is wrong by `offset` seconds (lasting)."""
    STREAM_WITHOUT_IDS = "stream_without_ids"
    """Events lack `event_id` and `at` on the stream; the history has both (lasting)."""
    WITHOUT_IDS = "without_ids"
    """Events lack `event_id` and `at`; their copy in the history has `account_id` (lasting)."""
    SAME_TIME = "same_time"
    """The `at` of events equals that of the event before (lasting)."""
    OLDER_TIME = "older_time"
    """The `at` of events is a millisecond older than that of the event before (lasting)."""
    TIME_SHIFT = "time_shift"
    """The `at` and `timestamp` of events are wrong by `offset` seconds (lasting)."""
    REISSUE = "reissue"
    """The last `count` fills are sent again, each under a new event id and with a new `at`."""
    CORRECT = "correct"
    """The last fill is sent again with the same ids and another price."""
    BUST_CORRECT = "bust_correct"
    """A trade_bust and a trade_correct of the last fill, both under one new event id."""

    @property
    def lasting(self) -> bool:
        """Whether the fault lasts, instead of occurring once at injection."""
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
        FaultKind.DATE_SHIFT,
        FaultKind.STREAM_WITHOUT_IDS,
        FaultKind.WITHOUT_IDS,
        FaultKind.SAME_TIME,
        FaultKind.OLDER_TIME,
        FaultKind.TIME_SHIFT,
    }
)


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault. It lasts for `seconds` if that is set, else it applies `count` times.

    `retry_after` is the value of the Retry-After header in error responses, in seconds. `delay`
    and `offset` are in seconds too; a negative `offset` means the past.
    """

    kind: FaultKind
    count: int = 1
    seconds: float | None = None
    retry_after: int | None = None
    status: int = 403
    delay: float = 1
    events: int = 1
    dropped: int = 1
    offset: float = YEAR


def parse_fault(document: object) -> Fault:
    """Parse a fault from a JSON value. Raises ApiError with the name of an invalid field."""
    if not isinstance(document, dict):
        raise _build_error("a fault is a JSON object")
    if unknown := sorted(document.keys() - {field.name for field in fields(Fault)}):
        raise _build_error(f"{unknown[0]!r}: no such field")
    kinds = [kind.value for kind in FaultKind]
    if (kind := document.get("kind")) not in kinds:
        raise _build_error(f"kind: one of {', '.join(kinds)}")
    retry_after = document.get("retry_after")
    # type(), not isinstance(): bool is a subclass of int.
    if retry_after is not None and not (type(retry_after) is int and retry_after >= 0):
        raise _build_error("retry_after: a whole number of seconds, 0 or more")
    return Fault(
        FaultKind(kind),
        _read_integer(document, "count", 1, 1, MOST_EVENTS),
        None if document.get("seconds") is None else _read_duration(document, "seconds"),
        retry_after,
        _read_integer(document, "status", 403, 400, 599),
        _read_duration(document, "delay") if "delay" in document else 1,
        _read_integer(document, "events", 1, 0, LONGEST),
        _read_integer(document, "dropped", 1, 1, LONGEST),
        _read_offset(document),
    )


def _read_integer(document: Document, name: str, default: int, least: int, most: int) -> int:
    value = document.get(name, default)
    if type(value) is not int or not least <= value <= most:
        raise _build_error(f"{name}: a whole number from {least} to {most}")
    return value


def _read_duration(document: Document, name: str) -> float:
    value = document[name]
    if type(value) not in (int, float) or not 0 < value <= LONGEST:
        raise _build_error(f"{name}: a number above 0, at most {LONGEST}")
    return float(value)


def _read_offset(document: Document) -> float:
    value = document.get("offset", YEAR)
    if type(value) not in (int, float) or not -LARGEST_OFFSET <= value <= LARGEST_OFFSET:
        raise _build_error(f"offset: a number from -{LARGEST_OFFSET} to {LARGEST_OFFSET}")
    return float(value)


class LastingFault:
    """A fault in force: until its `seconds` elapse, or for the next `count` requests or events.

    `now` is in seconds of any clock that does not go back.
    """

    def __init__(self, fault: Fault, now: float) -> None:
        self.fault = fault
        self._until = None if fault.seconds is None else now + fault.seconds
        self._remaining = fault.count

    def applies(self, now: float) -> bool:
        """Return whether the fault applies to this request or event, and count it."""
        if self._until is not None:
            return now < self._until
        self._remaining -= 1
        return self._remaining >= 0


def _build_error(problem: str) -> ApiError:
    return ApiError(400, 40010000, problem)
