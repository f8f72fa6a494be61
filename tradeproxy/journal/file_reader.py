"""Reads an account's journal from its file, while the proxy may write it.

The file is opened read-only, and the proxy's writes are not blocked.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

from tradeproxy.journal.backlog import Entry
from tradeproxy.journal.connection import DamageError
from tradeproxy.journal.schema import (
    MIGRATIONS,
    Header,
    SchemaError,
    check_header,
    check_tables,
    distrust_schema,
    refuse_code,
)
from tradeproxy.journal.spool import find_spool, read_spool
from tradeproxy.wire.frame import is_frame

PAGE_SIZE = 500
"""Rows per query.

SQLite cannot reuse its write-ahead log from the start while a query is open. One query for all
rows would let the log grow for as long as standard output is slow.
"""

# `high` is the highest time of a row and all earlier rows (journal/schema.py). So the first row
# whose `high` is at least T is the first row with a time of at least T. `high` is NULL before
# the first event with a time. Those rows can match by their time of arrival.
_FIRST_QUERY = """
    SELECT min(seq) FROM (
        SELECT min(seq) AS seq FROM events WHERE high IS NULL
        UNION ALL SELECT * FROM (SELECT seq FROM events WHERE high >= ? ORDER BY high, seq LIMIT 1)
    )
"""
_EPOCH_QUERY = "SELECT value FROM meta WHERE key = 'epoch'"
_NEWEST_QUERY = """
    SELECT coalesce(time, high, received) FROM events WHERE payload IS NOT NULL
    ORDER BY seq DESC LIMIT 1
"""
_LAST_QUERY = "SELECT coalesce(max(seq), 0) FROM events"
# An event without a time counts at the highest time before it, or else at its time of arrival.
_PAGE_QUERY = """
    SELECT seq, payload FROM events
    WHERE seq >= ? AND seq <= ? AND payload IS NOT NULL
        AND coalesce(time, high, received) >= ? AND coalesce(time, high, received) < ?
    ORDER BY seq LIMIT ?
"""


def open_read_only(path: Path) -> sqlite3.Connection:
    """Open a journal that may be in use. Nothing can be written through the connection.

    Raises SchemaError for a file of another program or version or with code, and sqlite3.Error.
    """
    connection = sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, isolation_level=None)
    try:
        distrust_schema(connection)
        [application_id] = connection.execute("PRAGMA application_id").fetchone()
        [version] = connection.execute("PRAGMA user_version").fetchone()
        check_header(Header(application_id, version))
        if version < len(MIGRATIONS):
            raise SchemaError(
                "an older tradeproxy has written it; start this version's proxy once to upgrade it"
            )
        refuse_code(connection)
        check_tables(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def read_payloads(
    connection: sqlite3.Connection,
    path: Path,
    begin: int,
    end: int,
    on_progress: Callable[[float], None] = lambda _: None,
) -> Iterator[bytes]:
    """Yield the events of a time, in the order of the journal, in which every client got them.

    The time is from `begin` to before `end`, both in microseconds since 1970. The newest events may
    be in the spool only. `on_progress` is called after each page with how much of the journal is
    read, from 0 to 1. Raises OSError or sqlite3.Error.
    """
    # First: what the proxy moves from the spool to the database meanwhile is in both.
    [epoch] = connection.execute(_EPOCH_QUERY).fetchone() or [""]
    spooled = read_spool(find_spool(path), epoch)
    [last] = connection.execute(_LAST_QUERY).fetchone()
    [seq] = connection.execute(_FIRST_QUERY, (begin,)).fetchone()
    first, [newest] = seq, connection.execute("SELECT max(seq) FROM events").fetchone()
    while seq is not None:
        # Before the page: rows that come after this query may be missing in the page.
        [last] = connection.execute(_LAST_QUERY).fetchone()
        page = connection.execute(_PAGE_QUERY, (seq, last, begin, end, PAGE_SIZE)).fetchall()
        for row, payload in page:
            if not is_frame(payload):
                raise DamageError(f"event {row} is no event")
            yield payload
        if page and newest > first:
            on_progress(min((page[-1][0] - first) / (newest - first), 1.0))
        seq = page[-1][0] + 1 if len(page) == PAGE_SIZE else None
    for entry in spooled:
        if entry.seq > last and entry.event is not None and begin <= _time_of(entry) < end:
            yield entry.event.payload


def _time_of(entry: Entry) -> int:
    """Return the time at which an entry counts, as in _PAGE_QUERY."""
    own = None if entry.event is None else entry.event.time
    return next(time for time in (own, entry.max_time, entry.received) if time is not None)


def find_newest_time(connection: sqlite3.Connection, path: Path) -> int | None:
    """Return the time of the newest event (microseconds since 1970); None if there is none.

    Raises OSError or sqlite3.Error.
    """
    [time] = connection.execute(_NEWEST_QUERY).fetchone() or [None]
    [epoch] = connection.execute(_EPOCH_QUERY).fetchone() or [""]
    for entry in read_spool(find_spool(path), epoch):
        if entry.event is not None:
            time = max(time or 0, _time_of(entry))
    return None if time is None else int(time)
