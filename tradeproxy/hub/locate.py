"""Where in the log a client's position is, or why it cannot be told."""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from tradeproxy.wire.event import format_time
from tradeproxy.wire.position import AfterId, Cursor, FromTime, LastEvents, Position, compute_check

if TYPE_CHECKING:
    from tradeproxy.hub.account import Account
    from tradeproxy.journal.base import Journal


class UnrecoverablePositionError(Exception):
    """What follows the position cannot be had whole; the text says why, in at most 90 ASCII characters."""


def locate(account: Account, position: Position) -> int:
    """Return the number of the row after which the client's stream begins.

    Raises LostPositionError, or UnreadableError.
    """
    journal = account.journal
    match position:
        case AfterId(text) if (cursor := Cursor.parse(text)) is not None:
            return _after_cursor(account, cursor)
        case AfterId(text):
            if (seq := journal.find(text)) is None:
                raise UnrecoverablePositionError(
                    "no such event is in the journal: it never was, or is no longer kept"
                )
            return seq
        case FromTime(time):
            if time < journal.complete_from:
                raise UnrecoverablePositionError(
                    f"the journal begins at {format_time(journal.complete_from)}"
                )
            seq = journal.first_since(time)
            return journal.last if seq is None else seq - 1
        case LastEvents(count):
            return max(journal.last - count, journal.first - 1)
        case _:  # pragma: no cover
            assert_never(position)


def _after_cursor(account: Account, cursor: Cursor) -> int:
    journal = account.journal
    if cursor.account != account.name:
        raise UnrecoverablePositionError("it is a cursor of another account")
    if cursor.epoch != journal.epoch:
        raise UnrecoverablePositionError(
            "it is a cursor of an earlier journal, which this account has no more"
        )
    if cursor.seq < journal.first - 1:
        raise UnrecoverablePositionError(
            f"it is no longer kept: the journal begins at {format_time(journal.complete_from)}"
        )
    if not journal.reaches(cursor.seq) or not _fits(journal, cursor):
        raise UnrecoverablePositionError("the journal has no such event at this cursor")
    return cursor.seq


def _fits(journal: Journal, cursor: Cursor) -> bool:
    if cursor.seq < journal.first:
        return True  # the event has been trimmed, those behind it have not
    row = journal.row(cursor.seq)
    return row is not None and compute_check(row.payload) == cursor.check
