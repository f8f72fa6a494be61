"""`tradeproxy export`: write a day of an account's journal as JSON lines or CSV.

The proxy may run meanwhile: export opens the journal read-only and does not block its writes.
"""

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
"""The kinds of event that report, cancel or correct an execution."""

PAGE_SIZE = 500
"""Rows per query.

SQLite cannot reuse its write-ahead log from the start while a query is open. One query for all
rows would let the log grow for as long as standard output is slow.
"""

_ACCOUNT = re.compile("[a-z0-9_]{1,64}")

# `high` is the highest time of a row and all earlier rows (journal/schema.py). So the first row
# whose `high` is at least T is the first row with a time of at least T. `high` is NULL before
# the first event with a time. Those rows can match by their time of arrival.
_FIRST_QUERY = """
    SELECT min(seq) FROM (
        SELECT min(seq) AS seq FROM events WHERE high IS NULL
        UNION ALL SELECT * FROM (SELECT seq FROM events WHERE high >= ? ORDER BY high, seq LIMIT 1)
    )
"""
# An event without a time counts at the highest time before it, or else at its time of arrival.
_PAGE_QUERY = """
    SELECT seq, payload FROM events
    WHERE seq >= ? AND coalesce(time, high, received) >= ? AND coalesce(time, high, received) < ?
        AND payload IS NOT NULL
    ORDER BY seq LIMIT ?
"""

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
"""The CSV columns, each with its path in an event's data."""


class ExportedEvent(NamedTuple):
    """An event from the journal."""

    raw: bytes
    """The bytes of `data` as Alpaca sent them, on one line."""
    data: Any
    """The parsed `data`. Numbers are strings with the digits that Alpaca sent."""
    recovered: str | None
    """The source of an event that the stream missed: `events` or `orders`."""


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument(
        "account", nargs="?", default="paper", help="paper, live or your own name; default paper"
    )
    parser.add_argument(
        "--date",
        type=parse_date_argument,
        metavar="DAY",
        help="a day in local time (see TZ); default today",
    )
    parser.add_argument(
        "--from",
        dest="begin",
        type=parse_time_argument,
        metavar="TIME",
        help="first time to include",
    )
    parser.add_argument(
        "--to",
        dest="end",
        type=parse_time_argument,
        metavar="TIME",
        help="first time to exclude; default now",
    )
    parser.add_argument("--format", choices=("jsonl", "csv"), default="jsonl", help="default jsonl")
    parser.add_argument(
        "--kind", choices=("trades", "all"), default="trades", help="default trades"
    )
    parser.add_argument("--env-file", metavar="FILE", help="read this file instead of .env")


def main(arguments: Namespace) -> None:
    """Write the events to standard output.

    Raises SystemExit: each problem is one line on standard error, with status 1. If the reader
    of standard output closes its pipe, the status is 0.
    """
    begin, end = _read_period(arguments)
    path = _find_journal(arguments)
    try:
        with closing(open_read_only(path)) as connection:
            events = read_events(connection, to_microseconds(begin), to_microseconds(end))
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
    """Open a journal that may be in use. Nothing can be written through the connection.

    Raises SchemaError for a file of another program or version, and sqlite3.Error.
    """
    connection = sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, isolation_level=None)
    try:
        [application_id] = connection.execute("PRAGMA application_id").fetchone()
        [version] = connection.execute("PRAGMA user_version").fetchone()
        check_header(Header(application_id, version))
        if version < len(MIGRATIONS):
            raise SchemaError(
                "an older tradeproxy has written it; start this version's proxy once to upgrade it"
            )
    except BaseException:
        connection.close()
        raise
    return connection


def read_events(connection: sqlite3.Connection, begin: int, end: int) -> Iterator[ExportedEvent]:
    """Yield the events whose time is at least `begin` and before `end` (microseconds since 1970).

    They are in the order of the journal, in which every client got them. Raises sqlite3.Error.
    """
    [seq] = connection.execute(_FIRST_QUERY, (begin,)).fetchone()
    while seq is not None:
        page = connection.execute(_PAGE_QUERY, (seq, begin, end, PAGE_SIZE)).fetchall()
        for _, payload in page:
            raw, recovered = extract_data(payload)
            yield ExportedEvent(raw, json.loads(raw, parse_int=str, parse_float=str), recovered)
        seq = page[-1][0] + 1 if len(page) == PAGE_SIZE else None


def write_lines(events: Iterator[ExportedEvent], out: TextIO) -> None:
    """Write the data of each event on one line: escaped on a terminal, else byte for byte."""
    for event in events:
        text = event.raw.decode()
        out.write(f"{escape_unprintable(text) if out.isatty() else text}\n")


def write_csv(events: Iterator[ExportedEvent], out: TextIO) -> None:
    """Write a header line, and one line for each event. A missing field is empty.

    On a terminal, the fields are escaped.
    """
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*COLUMNS, "recovered"])
    for event in events:
        row = [_get_text(event.data, path) for path in COLUMNS.values()]
        # As in wire/event.py: the time is `at`, else `timestamp`.
        row[0] = row[0] or _get_text(event.data, ("timestamp",))
        row.append(event.recovered or "")
        writer.writerow(map(escape_unprintable, row) if out.isatty() else row)


def _get_text(data: Any, path: tuple[str, ...]) -> str:
    for name in path:
        data = data.get(name) if isinstance(data, dict) else None
    if isinstance(data, dict | list):
        return json.dumps(data, separators=(",", ":"))
    return "" if data is None else str(data)


def _read_period(arguments: Namespace) -> tuple[datetime, datetime]:
    bounds = arguments.begin, arguments.end
    if arguments.date is not None and bounds != (None, None):
        raise SystemExit("--date: cannot be combined with --from or --to")
    now = datetime.now().astimezone()
    try:
        day = get_day_bounds(arguments.date or now.date())
    except (OverflowError, ValueError):  # which of them depends on the version of Python
        raise SystemExit("--date: is out of range") from None
    if bounds == (None, None):
        return day
    begin, end = arguments.begin or day[0], arguments.end or now
    if begin >= end:
        raise SystemExit("--from: must be before --to, which defaults to now")
    return begin, end


def _find_journal(arguments: Namespace) -> Path:
    if not _ACCOUNT.fullmatch(arguments.account):
        raise SystemExit(f"account: {arguments.account!r} is not an account name ([a-z0-9_]+)")
    env = Environment.read(os.environ, Path.cwd(), arguments.env_file)
    if redis := env.find_source("PROXY_REDIS_URL"):
        raise SystemExit(
            f"{redis}: the journal is in Redis; `tradeproxy tail --since TIME` reads it from a node"
        )
    settings = read_journal(env, in_memory=False)
    if env.findings.problems:
        raise SystemExit("\n".join(env.findings.problems))
    path = settings.path(arguments.account)
    assert path is not None, "None means in memory"
    if not path.exists():
        raise SystemExit(
            f"{settings.source}: there is no journal {path};"
            " `tradeproxy demo` keeps events in memory only"
        )
    return path
