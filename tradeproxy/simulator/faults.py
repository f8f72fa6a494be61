"""The faults of Alpaca that a test can inject."""

from __future__ import annotations

from enum import Enum
from typing import Annotated, TypeAlias

from msgspec import Meta, Struct, ValidationError, convert

from tradeproxy.simulator.errors import bad_request

MOST_EVENTS = 10_000
"""The maximum of `count`. A burst of this size blocks the reactor for over a second."""

LONGEST = 1_000_000_000
"""The maximum of `seconds`, `delay`, `events` and `dropped`."""

YEAR = 365 * 24 * 3600
"""In seconds."""

LARGEST_OFFSET = 50 * YEAR
"""The maximum of `offset` in both directions, in seconds."""

LONGEST_TEXT = 10_000
"""The maximum of `message`, `content_type` and `body`, in characters."""

ERROR_PAGE = "<html><body>Please try again later.</body></html>"
"""A web page, as a gateway in front of an API sends it."""


class FaultKind(Enum):
    """The kind of fault. A lasting one applies to later connections, requests or events."""

    DROP = "drop"
    """TCP closes (FIN) without a close frame."""
    RESET = "reset"
    """TCP is reset (RST)."""
    SILENCE = "silence"
    """The connection stays open, but the server sends nothing: no event, no reply, no pong."""
    MUTE = "mute"
    """The connection stays open and gets replies and pongs, but no event. The next one does."""
    OMIT = "omit"
    """Events are not sent on the stream; the history has them (lasting)."""
    CLOSE = "close"
    """A clean close frame, 1000."""
    OUTAGE = "outage"
    """The connection is reset, and handshakes get HTTP 502, while orders go on (lasting)."""
    THROTTLE = "throttle"
    """Handshakes get HTTP 429 (lasting)."""
    REFUSE = "refuse"
    """Logins get `unauthorized` with `message` (lasting)."""
    LIMIT = "limit"
    """Logins get an error with `message` (lasting): with `code` an array as on market data."""
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
    HISTORY_NOT_SSE = "history_not_sse"
    """Requests for the history get 200 with `content_type` and `body` (lasting)."""
    HISTORY_HANG = "history_hang"
    """Requests for the history get no response at all (lasting)."""
    HISTORY_STALL = "history_stall"
    """History responses send nothing after the headers and `events` events (lasting)."""
    HISTORY_DELAY = "history_delay"
    """Responses to history requests start after `delay` seconds (lasting)."""
    HISTORY_TRUNCATE = "history_truncate"
    """History responses are cut off after `events` events (lasting)."""
    HISTORY_DROP = "history_drop"
    """After `events` events, history responses report and omit `dropped` events (lasting)."""
    UNREPORTED = "unreported"
    """Changes of orders give no event, neither on the stream nor in the history (lasting)."""
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
        return self not in _ONCE


_ONCE = (
    *(FaultKind.DROP, FaultKind.RESET, FaultKind.CLOSE, FaultKind.SILENCE, FaultKind.MUTE),
    *(FaultKind.REPEAT, FaultKind.GARBAGE, FaultKind.BURST),
    *(FaultKind.REISSUE, FaultKind.CORRECT, FaultKind.BUST_CORRECT),
)

_Text: TypeAlias = Annotated[str, Meta(max_length=LONGEST_TEXT)]
# A line break would begin another header.
_HeaderText: TypeAlias = Annotated[str, Meta(max_length=LONGEST_TEXT, pattern=r"^[ -~]*\Z")]
_Duration: TypeAlias = Annotated[float, Meta(gt=0, le=LONGEST)]


class Fault(Struct, frozen=True, forbid_unknown_fields=True):
    """One fault. It lasts for `seconds` if that is set, else it applies `count` times.

    `retry_after` is the value of the Retry-After header in error responses, in seconds. `delay`
    and `offset` are in seconds too; a negative `offset` means the past. Without a `message`, each
    kind has its default. `content_type` and `body` are those of an HTTP response.
    """

    kind: FaultKind
    count: Annotated[int, Meta(ge=1, le=MOST_EVENTS)] = 1
    seconds: _Duration | None = None
    retry_after: Annotated[int, Meta(ge=0)] | None = None
    status: Annotated[int, Meta(ge=400, le=599)] = 403
    delay: _Duration = 1
    events: Annotated[int, Meta(ge=0, le=LONGEST)] = 1
    dropped: Annotated[int, Meta(ge=1, le=LONGEST)] = 1
    offset: Annotated[float, Meta(ge=-LARGEST_OFFSET, le=LARGEST_OFFSET)] = YEAR
    message: _Text = ""
    code: Annotated[int, Meta(ge=1, le=999)] | None = None
    content_type: _HeaderText = "text/html"
    body: _Text = ERROR_PAGE


def parse_kind(text: object) -> FaultKind:
    """Parse the name of a kind. Raises ApiError with the names of all."""
    kinds = {kind.value: kind for kind in FaultKind}
    if not isinstance(text, str) or text not in kinds:
        raise bad_request(f"kind: one of {', '.join(kinds)}")
    return kinds[text]


def parse_fault(document: object) -> Fault:
    """Parse a fault from a JSON value. Raises ApiError with the name of an invalid field."""
    if not isinstance(document, dict):
        raise bad_request("a fault is a JSON object")
    parse_kind(document.get("kind"))
    try:
        return convert(document, Fault)
    except ValidationError as error:
        reason, _, place = str(error).partition(" - at `$.")
        raise bad_request(f"{place[:-1]}: {reason}" if place else reason) from None


class LastingFault:
    """A fault in force: until its `seconds` elapse, or for the next `count` requests or events.

    `now` is in seconds of any clock that does not go back.
    """

    def __init__(self, fault: Fault, now: float) -> None:
        self.fault = fault
        self._until = None if fault.seconds is None else now + fault.seconds
        self._remaining = fault.count

    def in_force(self, now: float) -> bool:
        """Whether the fault would apply to a request or event now."""
        return self._remaining > 0 if self._until is None else now < self._until

    def applies(self, now: float) -> bool:
        """Return whether the fault applies to this request or event, and count it."""
        if self._until is not None:
            return now < self._until
        self._remaining -= 1
        return self._remaining >= 0
