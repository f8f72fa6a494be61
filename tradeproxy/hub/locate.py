"""The row of the log at which a client's position is, or why the position cannot be used."""

from __future__ import annotations

from typing import TYPE_CHECKING, assert_never

from tradeproxy.wire.event import format_time
from tradeproxy.wire.position import (
    AfterId,
    AfterTime,
    Cursor,
    FromTime,
    LastEvents,
    Position,
    compute_check,
)

if TYPE_CHECKING:
    from tradeproxy.hub.account import Account
    from tradeproxy.journal.base import Journal


class UnrecoverablePositionError(Exception):
    """The log does not have every event after the position.

    The text is the reason, in at most 90 ASCII characters: it is part of a close frame, whose
    reason has at most 123 bytes (RFC 6455, 5.5).
    """


def locate(account: Account, position: Position) -> int:
    """Return the number of the row after which the client's stream begins.

    Raises UnrecoverablePositionError, or UnreadableError if the log cannot be read now.
    """
    journal = account.journal
    match position:
        # An id is a cursor or one of Alpaca's event ids; cursors have a syntax of their own.
        case AfterId(text) if (cursor := Cursor.parse(text)) is not None:
            return _locate_cursor(account, cursor)
        case AfterId(text):
            if (seq := journal.find(text)) is None:
                raise UnrecoverablePositionError(
                    "no such event is in the journal: it never was, or is no longer kept"
                )
            return seq
        case FromTime(time):
            return _locate_time(journal, time)
        case AfterTime(time):
            return _locate_after_time(account, time)
        case LastEvents(count):
            return max(journal.last - count, journal.first - 1)
        case _:  # pragma: no cover
            assert_never(position)


def _locate_time(journal: Journal, time: int) -> int:
    if time < journal.complete_from:
        raise UnrecoverablePositionError(
            f"the journal begins at {format_time(journal.complete_from)}"
        )
    seq = journal.first_since(time)
    return journal.last if seq is None else seq - 1


def _locate_after_time(account: Account, time: int) -> int:
    journal = account.journal
    # Later rows may have the same time or an earlier one, and the client may lack them. So its
    # stream begins behind the first event of that time, and may repeat some that it has.
    if time < journal.complete_from and journal.first > 1:
        return _locate_after_trimmed(journal, time)
    seq = journal.first_at(time)
    reached = journal.first_since(time)
    if reached is None and account.dates.is_ahead(time):
        # The log has the time of receipt for an event of this time: see Account. From the end of
        # the log, the client would miss what followed that event.
        raise UnrecoverablePositionError("it is a time that lies in the future")
    after = _locate_time(journal, time + 1) if seq is None else seq
    # The client's event may have been one of a hole. All events of its time are in or behind the
    # first row that reaches this time.
    hole = None if reached is None else journal.next_hole(reached - 1)
    return after if hole is None else min(after, hole - 1)


def _locate_after_trimmed(journal: Journal, time: int) -> int:
    # The first event of that time may be trimmed, with events after it, unless it is the newest
    # one that is. If that is not known, at least no stored row may be skipped.
    begin, trimmed = journal.first - 1, journal.newest_trimmed
    is_valid = _locate_time(journal, time + 1) == begin if trimmed is None else trimmed.time == time
    return begin if is_valid else _locate_time(journal, time)


def _locate_cursor(account: Account, cursor: Cursor) -> int:
    journal = account.journal
    if cursor.account != account.name:
        raise UnrecoverablePositionError("it is a cursor of another account")
    if cursor.epoch != journal.epoch:
        raise UnrecoverablePositionError("it is a cursor of an earlier journal, now replaced")
    if cursor.seq < journal.first - 1:
        raise UnrecoverablePositionError(
            f"it is no longer kept: the journal begins at {format_time(journal.complete_from)}"
        )
    if not journal.reaches(cursor.seq) or not _matches_row(journal, cursor):
        raise UnrecoverablePositionError("the journal has no such event at this cursor")
    return cursor.seq


def _matches_row(journal: Journal, cursor: Cursor) -> bool:
    # A log can lose its end: a power cut while commits are not synced, or a restored backup. It
    # then reuses numbers within one epoch. The checksum detects a cursor of a lost event.
    if cursor.seq < journal.first:
        # The row itself is trimmed, so there is nothing to compare. The rows after it are stored.
        return True
    row = journal.row(cursor.seq)
    return row is not None and compute_check(row.payload) == cursor.check
