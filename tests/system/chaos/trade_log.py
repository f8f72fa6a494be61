"""Compares the trade log of a run with the journal: no row missing, none twice, none changed."""

from __future__ import annotations

import json
import re
import sqlite3
from collections import Counter
from contextlib import closing
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tradeproxy.journal.spool import find_spool, read_spool
from tradeproxy.wire.position import Cursor, compute_check
from tradeproxy.wire.trade_date import trade_date

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

ACCOUNT = "paper"

DECLARED = re.compile("the trade log lacks ([0-9]+) row")
"""The log line about rows that the trade log does not have."""


class LoggedLine(NamedTuple):
    """A line of the trade log."""

    file: str
    cursor: str
    digest: bytes
    """A hash of the event's data: there may be many events."""


class StoredRow(NamedTuple):
    """A row of the journal."""

    cursor: str
    digest: bytes
    time: int | None


def read_lines(directory: Path) -> list[LoggedLine]:
    """Return all lines of the trade log. A line that is no JSON raises ValueError."""
    lines: list[LoggedLine] = []
    for path in sorted(directory.glob(f"{ACCOUNT}-*.jsonl")):
        for text in path.read_bytes().splitlines():
            data = json.loads(text)
            data.pop("recovered", None)
            lines.append(LoggedLine(path.name, data.pop("cursor"), _digest(data)))
    return lines


def read_rows(journal: Path) -> list[StoredRow]:
    """Return the events in the database, its log and the spool."""
    with closing(sqlite3.connect(f"file:{journal}?mode=ro", uri=True)) as connection:
        [epoch] = connection.execute("SELECT value FROM meta WHERE key = 'epoch'").fetchone()
        found: dict[int, tuple[bytes, int | None]] = {
            row.seq: (row.event.payload, row.event.time)
            for row in read_spool(find_spool(journal), epoch)
            if row.event
        }
        found |= {
            seq: (payload, time)
            for seq, payload, time in connection.execute(
                "SELECT seq, payload, time FROM events WHERE payload IS NOT NULL"
            )
        }
    return [
        StoredRow(
            str(Cursor(ACCOUNT, epoch, seq, compute_check(payload))),
            _digest(json.loads(payload)["data"]),
            time,
        )
        for seq, (payload, time) in sorted(found.items())
    ]


def compare(lines: Collection[LoggedLine], rows: Iterable[StoredRow], declared: int) -> list[str]:
    """Return what is wrong with the lines of a run, one text for each kind; none if all is well.

    Args:
        lines: the lines of all files.
        rows: what the journal has at the end of the run. Earlier journals were lost in it.
        declared: how many rows the proxy has reported as missing. Of earlier journals, rows may be
            missing in the middle only if it did.
    """
    problems: list[str] = []
    by_cursor = {line.cursor: line for line in lines}
    twice = sum(count - 1 for count in Counter(line.cursor for line in lines).values())
    if twice:
        problems.append(f"{twice} rows are in the trade log twice")
    missing = changed = misplaced = 0
    for row in rows:
        line = by_cursor.get(row.cursor)
        missing += line is None
        changed += line is not None and line.digest != row.digest
        if line is not None and row.time is not None:
            misplaced += line.file != f"{ACCOUNT}-{trade_date(row.time)}.jsonl"
    if missing:
        problems.append(f"{missing} rows of the journal are not in the trade log")
    if changed:
        problems.append(f"{changed} rows of the trade log differ from the journal")
    if misplaced:
        problems.append(f"{misplaced} rows are in the file of another date")
    gaps = sum(_count_gaps(_group_by_epoch(by_cursor)).values())
    if gaps > declared:
        problems.append(f"{gaps} rows are missing between others, and {declared} are declared")
    return problems


def _digest(data: dict[str, Any]) -> bytes:
    return blake2b(json.dumps(data, sort_keys=True).encode(), digest_size=16).digest()


def _group_by_epoch(cursors: Iterable[str]) -> dict[str, list[int]]:
    numbers: dict[str, list[int]] = {}
    for cursor in map(Cursor.parse, cursors):
        assert cursor is not None
        numbers.setdefault(cursor.epoch, []).append(cursor.seq)
    return numbers


def _count_gaps(numbers: Mapping[str, list[int]]) -> dict[str, int]:
    return {
        epoch: max(found) - min(found) + 1 - len(set(found)) for epoch, found in numbers.items()
    }
