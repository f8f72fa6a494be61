"""`tradeproxy export`: write a day of an account's journal as JSON lines or CSV.

The proxy may run meanwhile: export opens the journal read-only and does not block its writes.
"""

from __future__ import annotations

import json
import os
import re
import sqlite3
import sys
from contextlib import closing
from datetime import datetime
from pathlib import Path
from stat import S_ISREG
from typing import TYPE_CHECKING, Any, NamedTuple, TextIO
from urllib.parse import quote

from tradeproxy.cli.findings import print_findings
from tradeproxy.cli.progress import ProgressBar
from tradeproxy.cli.streams import JSON_ESCAPE, replace_unencodable
from tradeproxy.cli.terminal import escape_unprintable, exit_on_broken_pipe
from tradeproxy.cli.times import (
    format_moment,
    from_microseconds,
    get_day_bounds,
    parse_date_argument,
    parse_time_argument,
    to_microseconds,
)
from tradeproxy.config.command import name_command
from tradeproxy.config.env import Environment
from tradeproxy.config.storage import read_journal
from tradeproxy.journal.access import check_access
from tradeproxy.journal.base import JournalError
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
from tradeproxy.wire.frame import extract_data
from tradeproxy.wire.plural import plural

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Callable, Iterator

    from tradeproxy.journal.backlog import Entry

TRADES = frozenset({"fill", "partial_fill", "trade_bust", "trade_correct"})
"""The kinds of event that report, cancel or correct an execution."""

PAGE_SIZE = 500
"""Rows per query.

SQLite cannot reuse its write-ahead log from the start while a query is open. One query for all
rows would let the log grow for as long as standard output is slow.
"""

# Spreadsheets take a field for a formula by its first character, some after white space, and some
# with the full-width forms. Lone surrogates cannot be encoded; NUL ends a cell or a file.
_FORMULA = re.compile(r"\s*[=+\-@\uff1d\uff0b\uff0d\uff20]|[\t\r\n]")
# Where `;` or a tab separates fields, a part of a field may be one: quotes count only at the start
# of a field, which begins elsewhere then.
_INNER_FORMULA = re.compile(r"([;\t\r\n][^\S\t\r\n]*)(?=[=+\-@\uff1d\uff0b\uff0d\uff20])")
_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?|Infinity)")
_UNWRITABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ud800-\udfff]")
# `;` and tab separate fields in some spreadsheets.
_SPECIAL = re.compile(r'[",;\t\r\n]')

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
    """The parsed `data`. Numbers, NaN and Infinity are strings, as Alpaca wrote them."""
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
    """Write the events to standard output, and their number to standard error.

    Raises SystemExit: each problem is one line on standard error, with status 1. If the reader
    of standard output closes its pipe, the status is 0.
    """
    begin, end = _read_period(arguments)
    path = _find_journal(arguments)
    replace_unencodable(sys.stdout, JSON_ESCAPE)
    is_shown = sys.stderr.isatty() and not sys.stdout.isatty()
    progress = ProgressBar(sys.stderr, "exporting", is_shown=is_shown)
    try:
        with closing(open_read_only(path)) as connection:
            events = read_events(
                connection, path, to_microseconds(begin), to_microseconds(end), progress.show
            )
            if arguments.kind == "trades":
                events = (event for event in events if event.data.get("event") in TRADES)
            write = write_csv if arguments.format == "csv" else write_lines
            count = write(events, sys.stdout)
            newest = "" if count else _describe_newest(connection, path)
        sys.stdout.flush()
    except SchemaError as error:
        raise SystemExit(f"{path}: {error}") from None
    except BrokenPipeError:
        raise exit_on_broken_pipe() from None
    except (OSError, sqlite3.Error) as error:
        raise SystemExit(f"{path}: cannot be read: {error}") from None
    finally:
        progress.clear()
    kind = "trade" if arguments.kind == "trades" else "event"
    period = f"from {format_moment(begin)} to {format_moment(end)}"
    if count:
        report = f"{plural(count, kind)} {period} written to {_name_output(sys.stdout)}"
    else:
        others = "; --kind all includes other events" if kind == "trade" else ""
        report = f"no {kind}s {period} in {path}, {newest}{others}"
    sys.stderr.write(escape_unprintable(f"{arguments.account}: {report}") + "\n")


def _describe_newest(connection: sqlite3.Connection, path: Path) -> str:
    """Return how old the file is: the proxy that runs now may keep its events elsewhere."""
    [time] = connection.execute(_NEWEST_QUERY).fetchone() or [None]
    [epoch] = connection.execute(_EPOCH_QUERY).fetchone() or [""]
    for entry in read_spool(find_spool(path), epoch):
        if entry.event is not None:
            time = max(time or 0, _time_of(entry))
    if time is None:
        return "which has no event"
    return f"whose newest event is of {format_moment(from_microseconds(time))}"


def _name_output(out: TextIO) -> str:
    """Return the name of the file that a shell opened as standard output, where Linux shows it."""
    try:
        descriptor = out.fileno()
        if S_ISREG(os.fstat(descriptor).st_mode):
            return os.readlink(f"/proc/self/fd/{descriptor}")
    except (OSError, ValueError):
        pass
    return "standard output"


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


def read_events(
    connection: sqlite3.Connection,
    path: Path,
    begin: int,
    end: int,
    on_progress: Callable[[float], None] = lambda _: None,
) -> Iterator[ExportedEvent]:
    """Yield the events of a time, in the order of the journal, in which every client got them.

    The newest ones may be in the spool only. Raises OSError or sqlite3.Error.

    Args:
        connection: the open journal.
        path: its file.
        begin: the first time to include, in microseconds since 1970.
        end: the first time to exclude.
        on_progress: called after each page with how much of the journal is read, from 0 to 1.
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
        for _, payload in page:
            yield _read_event(payload)
        if page and newest > first:
            on_progress(min((page[-1][0] - first) / (newest - first), 1.0))
        seq = page[-1][0] + 1 if len(page) == PAGE_SIZE else None
    for entry in spooled:
        if entry.seq > last and entry.event is not None and begin <= _time_of(entry) < end:
            yield _read_event(entry.event.payload)


def _time_of(entry: Entry) -> int:
    """Return the time at which an entry counts, as in _PAGE_QUERY."""
    own = None if entry.event is None else entry.event.time
    return next(time for time in (own, entry.max_time, entry.received) if time is not None)


def _read_event(payload: bytes) -> ExportedEvent:
    raw, recovered = extract_data(payload)
    data = json.loads(raw, parse_int=str, parse_float=str, parse_constant=str)
    return ExportedEvent(raw, data, recovered)


def write_lines(events: Iterator[ExportedEvent], out: TextIO) -> int:
    """Write the data of each event on one line: escaped on a terminal, else byte for byte.

    Returns the number of events.
    """
    count = 0
    for count, event in enumerate(events, 1):  # noqa: B007  # it is the last one that counts
        text = event.raw.decode()
        out.write(f"{escape_unprintable(text) if out.isatty() else text}\n")
    return count


def write_csv(events: Iterator[ExportedEvent], out: TextIO) -> int:
    """Write a header line, and one line for each event. A missing field is empty.

    No field is a formula in a spreadsheet. Control characters and lone surrogates are escaped as in
    JSON, except for tab, CR and LF in a file. Returns the number of events.
    """
    count = 0
    out.write(f"{','.join([*COLUMNS, 'recovered'])}\n")
    for count, event in enumerate(events, 1):  # noqa: B007  # it is the last one that counts
        row = [_get_text(event.data, path) for path in COLUMNS.values()]
        # As in wire/event.py: the time is `at`, else `timestamp`.
        row[0] = row[0] or _get_text(event.data, ("timestamp",))
        row.append(event.recovered or "")
        cells = map(escape_unprintable, row) if out.isatty() else row
        out.write(f"{','.join(map(format_cell, cells))}\n")
    return count


def format_cell(text: str) -> str:
    """Return a field of a CSV line: quoted if it must be, and never a formula.

    A field that begins as a formula gets a leading apostrophe, by which spreadsheets show it as
    text. So does a part of it behind a separator. A number stays a number.
    """
    text = _UNWRITABLE.sub(lambda match: escape_unprintable(match[0]), text)
    if _FORMULA.match(text) and not _NUMBER.fullmatch(text):
        text = f"'{text}"
    text = _INNER_FORMULA.sub(r"\1'", text)
    # Not csv.writer: it quotes a CR only if the line terminator contains one.
    return '"' + text.replace('"', '""') + '"' if _SPECIAL.search(text) else text


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
            f"{redis}: the journal is in Redis;"
            f" `{name_command('tail --since TIME')}` reads it from a node"
        )
    settings = read_journal(env, in_memory=False)
    print_findings(env.findings)
    path = settings.path(arguments.account)
    assert path is not None, "None means in memory"
    if not path.exists():
        raise SystemExit(
            f"{settings.source}: there is no journal {path};"
            f" `{name_command('demo')}` keeps events in memory only"
        )
    try:
        check_access(path)
    except (JournalError, OSError) as error:
        raise SystemExit(f"{settings.source}: {error}") from None
    return path
