"""The row of the log at which a client's position is, or why the position cannot be used."""

from __future__ import annotations

from typing import assert_never

from tradeproxy.hub.account import Account
from tradeproxy.journal.base import Log
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


class UnrecoverablePositionError(Exception):
    """The log does not have every event after the position.

    The text is the reason, in at most 90 ASCII characters: it is part of a close frame, whose
    reason has at most 123 bytes (RFC 6455, 5.5).
    """


def locate(account: Account, position: Position) -> int:
    """Return the number of the row after which the client's stream begins.

    Raises UnrecoverablePositionError, or UnreadableError if the log cannot be read now.
    """
    log = account.log
    match position:
        # An id is a cursor or one of Alpaca's event ids; cursors have a syntax of their own.
        case AfterId(text) if (cursor := Cursor.parse(text)) is not None:
            return _locate_cursor(account, cursor)
        case AfterId(text):
            if (seq := log.find(text)) is None:
                raise UnrecoverablePositionError(
                    "no such event is in the journal: it never was, or is no longer kept"
                )
            return seq
        case FromTime(time):
            return _locate_time(log, time)
        case AfterTime(time):
            return _locate_after_time(account, time)
        case LastEvents(count):
            return max(log.last - count, log.first - 1)
        case _:  # pragma: no cover
            assert_never(position)


def _locate_time(log: Log, time: int) -> int:
    if time < log.complete_from:
        raise UnrecoverablePositionError(f"the journal begins at {format_time(log.complete_from)}")
    seq = log.first_since(time)
    return log.last if seq is None else seq - 1


def _locate_after_time(account: Account, time: int) -> int:
    log = account.log
    # Later rows may have the same time or an earlier one, and the client may lack them. So its
    # stream begins behind the first event of that time, and may repeat some that it has.
    if time < log.complete_from and log.first > 1:
        return _locate_after_trimmed(log, time)
    seq = log.first_at(time)
    reached = log.first_since(time)
    if reached is None and account.dates.is_ahead(time):
        # The log has the time of receipt for an event of this time: see Account. From the end of
        # the log, the client would miss what followed that event.
        raise UnrecoverablePositionError("it is a time that lies in the future")
    after = _locate_time(log, time + 1) if seq is None else seq
    # The client's event may have been one of a hole. All events of its time are in or behind the
    # first row that reaches this time.
    hole = None if reached is None else log.next_hole(reached - 1)
    return after if hole is None else min(after, hole - 1)


def _locate_after_trimmed(log: Log, time: int) -> int:
    # The first event of that time may be trimmed, with events after it, unless it is the newest
    # one that is. If that is not known, at least no stored row may be skipped.
    begin, trimmed = log.first - 1, log.newest_trimmed
    is_valid = _locate_time(log, time + 1) == begin if trimmed is None else trimmed.time == time
    return begin if is_valid else _locate_time(log, time)


def _locate_cursor(account: Account, cursor: Cursor) -> int:
    log = account.log
    if cursor.account != account.name:
        raise UnrecoverablePositionError("it is a cursor of another account")
    if cursor.epoch != log.epoch:
        raise UnrecoverablePositionError("it is a cursor of an earlier journal, now replaced")
    if cursor.seq < log.first - 1:
        raise UnrecoverablePositionError(
            f"it is no longer kept: the journal begins at {format_time(log.complete_from)}"
        )
    if not log.reaches(cursor.seq) or not _matches_row(log, cursor):
        raise UnrecoverablePositionError("the journal has no such event at this cursor")
    return cursor.seq


def _matches_row(log: Log, cursor: Cursor) -> bool:
    # A log can lose its end: a power cut while commits are not synced, or a restored backup. It
    # then reuses numbers within one epoch. The checksum detects a cursor of a lost event.
    if cursor.seq < log.first:
        # The row itself is trimmed, so there is nothing to compare. The rows after it are stored.
        return True
    row = log.row(cursor.seq)
    return row is not None and compute_check(row.payload) == cursor.check
