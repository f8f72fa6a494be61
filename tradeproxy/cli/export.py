"""`tradeproxy export`: a day of an account's journal as JSON lines or CSV, while the proxy writes on."""

from __future__ import annotations

import csv
import json
import os
import re
import sqlite3
import sys
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TextIO
from urllib.parse import quote

from tradeproxy.cli.terminal import escape_unprintable, exit_on_broken_pipe
from tradeproxy.cli.times import (
    get_day_bounds,
    parse_date_argument,
    parse_time_argument,
    to_microseconds,
)
from tradeproxy.config.env import Environment
from tradeproxy.config.storage import read_journal
from tradeproxy.journal.schema import MIGRATIONS, Header, SchemaError, check_header
from tradeproxy.wire.frame import extract_data

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Iterator

TRADES = frozenset({"fill", "partial_fill", "trade_bust", "trade_correct"})
"""The kinds of event that tell of an execution, or take one back."""

PAGE = 500
"""Rows that are read at once: a reader that stays would keep the write-ahead log from being reused."""

_ACCOUNT = re.compile("[a-z0-9_]{1,64}")

# The first row with a time of at least T is the first with such a `high`; see hub/schema.py.
_FIRST = """
    SELECT min(seq) FROM (
        SELECT min(seq) AS seq FROM events WHERE high IS NULL
        UNION ALL SELECT * FROM (SELECT seq FROM events WHERE high >= ? ORDER BY high, seq LIMIT 1)
    )
"""
# An event without a time is put to the last one before it that has one, and without such to when it came.
_PAGE = """
    SELECT seq, payload FROM events
    WHERE seq >= ? AND coalesce(time, high, received) >= ? AND coalesce(time, high, received) < ?
        AND payload IS NOT NULL
    ORDER BY seq LIMIT ?
"""

# Each column, and where it is found in an event's data.
COLUMNS = {
    "time": ("at",),
    "event": ("event",),
    "event_id": ("event_id",),
    "execution_id": ("execution_id",),
    "order_id": ("order", "id"),
    "client_order_id": ("order", "client_order_id"),
    "symbol": ("order", "symbol"),
    "side": ("order", "side"),
    "qty": ("qty",),
    "price": ("price",),
    "position_qty": ("position_qty",),
    "type": ("order", "type"),
    "order_qty": ("order", "qty"),
    "limit_price": ("order", "limit_price"),
    "filled_qty": ("order", "filled_qty"),
    "filled_avg_price": ("order", "filled_avg_price"),
    "status": ("order", "status"),
}


class ExportedEvent(NamedTuple):
    """An event of the journal."""

    raw: bytes
    """Its data as Alpaca wrote it, on one line."""
    data: Any
    """The same, read; numbers are text, digit for digit."""
    recovered: str | None


def add_arguments(parser: ArgumentParser) -> None:
    """Add what the command takes."""
    parser.add_argument(
        "account", nargs="?", default="paper", help="paper, live or a name; default paper"
    )
    days = "by the clock of this machine (see TZ)"
    parser.add_argument(
        "--date", type=parse_date_argument, metavar="DAY", help=f"a day, {days}; default today"
    )
    parser.add_argument(
        "--from", dest="begin", type=parse_time_argument, metavar="TIME", help="from this time on"
    )
    parser.add_argument(
        "--to", dest="end", type=parse_time_argument, metavar="TIME", help="up to before this time"
    )
    parser.add_argument("--format", choices=("jsonl", "csv"), default="jsonl", help="default jsonl")
    parser.add_argument(
        "--kind", choices=("trades", "all"), default="trades", help="default trades"
    )
    parser.add_argument("--env-file", metavar="FILE", help="the file to read instead of .env")


def main(arguments: Namespace) -> None:
    """Write the events to standard output; what stands in the way is a line, and status 1."""
    begin, end = _period(arguments)
    path = _journal_path(arguments)
    try:
        with closing(open_read_only(path)) as connection:
            events = events_between(connection, to_microseconds(begin), to_microseconds(end))
            if arguments.kind == "trades":
                events = (event for event in events if event.data.get("event") in TRADES)
            write = write_csv if arguments.format == "csv" else write_lines
            write(events, sys.stdout)
        sys.stdout.flush()
    except SchemaError as error:
        raise SystemExit(f"{path}: {error}") from None
    except sqlite3.Error as error:
        raise SystemExit(f"{path}: cannot be read: {error}") from None
    except BrokenPipeError:
        raise exit_on_broken_pipe() from None


def open_read_only(path: Path) -> sqlite3.Connection:
    """Open a journal that may be in use; nothing in it is changed. Raises SchemaError, sqlite3.Error."""
    connection = sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, isolation_level=None)
    try:
        [application_id] = connection.execute("PRAGMA application_id").fetchone()
        [version] = connection.execute("PRAGMA user_version").fetchone()
        check_header(Header(application_id, version))
        if version < len(MIGRATIONS):
            raise SchemaError(
                "an older tradeproxy has written it; this one's has to be started on it once"
            )
    except BaseException:
        connection.close()
        raise
    return connection


def events_between(connection: sqlite3.Connection, begin: int, end: int) -> Iterator[ExportedEvent]:
    """Yield the events whose time is at least `begin` and before `end` (microseconds since 1970).

    They come in the order of the journal, which is that in which every client got them.
    """
    [seq] = connection.execute(_FIRST, (begin,)).fetchone()
    while seq is not None:
        page = connection.execute(_PAGE, (seq, begin, end, PAGE)).fetchall()
        for _, payload in page:
            raw, recovered = extract_data(payload)
            yield ExportedEvent(raw, json.loads(raw, parse_int=str, parse_float=str), recovered)
        seq = page[-1][0] + 1 if len(page) == PAGE else None


def write_lines(events: Iterator[ExportedEvent], out: TextIO) -> None:
    """Write each event's data, byte for byte; on a terminal, so that it cannot steer that."""
    for event in events:
        text = event.raw.decode()
        out.write(f"{escape_unprintable(text) if out.isatty() else text}\n")


def write_csv(events: Iterator[ExportedEvent], out: TextIO) -> None:
    """Write a line of names, and a line an event; what an event does not have is empty."""
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*COLUMNS, "recovered"])
    for event in events:
        row = [_at(event.data, way) for way in COLUMNS.values()]
        row[0] = row[0] or _at(event.data, ("timestamp",))
        row.append(event.recovered or "")
        writer.writerow(map(escape_unprintable, row) if out.isatty() else row)


def _at(data: Any, way: tuple[str, ...]) -> str:
    for name in way:
        data = data.get(name) if isinstance(data, dict) else None
    if isinstance(data, dict | list):
        return json.dumps(data, separators=(",", ":"))
    return "" if data is None else str(data)


def _period(arguments: Namespace) -> tuple[datetime, datetime]:
    given = arguments.begin, arguments.end
    if arguments.date is not None and given != (None, None):
        raise SystemExit("--date: goes with neither --from nor --to")
    now = datetime.now().astimezone()
    try:
        today = get_day_bounds(arguments.date or now.date())
    except OverflowError:
        raise SystemExit("--date: has no day after it") from None
    if given == (None, None):
        return today
    begin, end = arguments.begin or today[0], arguments.end or now
    if begin >= end:
        raise SystemExit("--from: is not before --to, which is now if it is not given")
    return begin, end


def _journal_path(arguments: Namespace) -> Path:
    if not _ACCOUNT.fullmatch(arguments.account):
        raise SystemExit(f"account: {arguments.account!r} is no account's name ([a-z0-9_]+)")
    env = Environment.read(os.environ, Path.cwd(), arguments.env_file)
    if redis := env.find_source("PROXY_REDIS_URL"):
        raise SystemExit(
            f"{redis}: the journal is in Redis; `tradeproxy tail --since TIME` reads it from a node"
        )
    settings = read_journal(env, in_memory=False)
    if env.findings.problems:
        raise SystemExit("\n".join(env.findings.problems))
    path = settings.path(arguments.account)
    assert path is not None, "it is not in memory"
    if not path.exists():
        raise SystemExit(
            f"{settings.source}: there is no journal {path}; `tradeproxy demo` keeps events in memory only"
        )
    return path
