"""The part of a log that a request for server-sent events names, or why it is rejected."""

from __future__ import annotations

from dataclasses import dataclass

from tradeproxy.downstream.admission import Rejection
from tradeproxy.downstream.subscription import NOT_KEPT
from tradeproxy.hub.account import Account
from tradeproxy.hub.locate import UnrecoverablePositionError, locate
from tradeproxy.journal.base import UnreadableError
from tradeproxy.query.stream import HistoryQuery, UntilId, UntilTime
from tradeproxy.wire.close_codes import CloseCode
from tradeproxy.wire.position import AfterId


@dataclass(frozen=True, slots=True)
class LogRange:
    """The part of the log that one response sends. Without `last` and `until` it has no end."""

    after: int
    """The sequence number of the row before the first one."""
    last: int | None = None
    """The sequence number of the last row; None means no such bound."""
    until: int | None = None
    """Later events are left out (microseconds since 1970); None means no such bound."""


def resolve_query(account: Account, query: HistoryQuery) -> LogRange | Rejection:
    """Return the range of the account's log that the query describes, or a Rejection.

    410: the position is unknown or no longer stored, or events of the range were not stored. 404:
    the end is unknown. 503: the log cannot be read now.
    """
    try:
        return _find_range(account, query)
    except UnreadableError:
        return Rejection(503, CloseCode.UNREADABLE.reason)


def _find_range(account: Account, query: HistoryQuery) -> LogRange | Rejection:
    try:
        after = account.log.last if query.position is None else locate(account, query.position)
    except UnrecoverablePositionError as error:
        return Rejection(410, f"position unknown: {error}")
    last = until = None
    match query.until:
        case UntilId(text):
            try:
                last = locate(account, AfterId(text))
            except UnrecoverablePositionError as error:
                return Rejection(404, f"until_id: {error}")
        case UntilTime(time):
            until = time
    # The stream has no frame that reports a hole. The connection would be dropped there, and a
    # client that reconnects would come to the same hole forever. Status 410 makes it stop.
    hole = account.log.next_hole(after)
    if hole is None or (last is not None and hole > last):
        return LogRange(after, last, until)
    if after < hole - 1 and _makes_progress(account, query, hole):
        return LogRange(after)
    cursor = account.cursor_at(hole - 1)
    reason = NOT_KEPT if cursor is None else f"events after {cursor} were not kept"
    return Rejection(410, f"position unknown: {reason}")


def _makes_progress(account: Account, query: HistoryQuery, hole: int) -> bool:
    """Whether the client gets each event before `hole` once, and next asks for the hole itself.

    It needs an exact position, every event, and the id of the last one. A time may be before
    events that the client has. With a filter, or before rows are durable, its id may be an older
    one. Two events may have one `event_id`, which then stands for the first one.
    """
    if not isinstance(query.position, AfterId) or query.filter is not None or query.until:
        return False
    last = account.log.row(hole - 1)
    if last is None or last.payload is None or not last.durable:
        return False
    return query.position.text.encode() not in last.payload
