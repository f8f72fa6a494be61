"""`tradeproxy export`: write a period of an account's journal as JSON lines, CSV or Parquet.

The proxy may run meanwhile: export opens the journal read-only and does not block its writes.
"""

from __future__ import annotations

import os
import re
import sqlite3
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from stat import S_ISREG
from typing import TextIO

from tradeproxy.cli import period as periods
from tradeproxy.cli.export_formats import ParquetError, write_csv, write_lines, write_parquet
from tradeproxy.cli.findings import print_findings
from tradeproxy.cli.order_strategies import BookStrategies, apply_rule
from tradeproxy.cli.period import Period
from tradeproxy.cli.progress import ProgressBar
from tradeproxy.cli.streams import JSON_ESCAPE, replace_unencodable
from tradeproxy.cli.terminal import exit_on_broken_pipe
from tradeproxy.config.command import name_command
from tradeproxy.config.env import Environment
from tradeproxy.config.setting import flag
from tradeproxy.config.storage import read_journal
from tradeproxy.journal.access import check_access
from tradeproxy.journal.base import JournalError
from tradeproxy.journal.file_reader import find_newest_time, open_read_only, read_payloads
from tradeproxy.journal.schema import SchemaError
from tradeproxy.tradelog.columns import LoggedEvent, read_logged_event
from tradeproxy.wire.event import AMENDMENT_KINDS, EXECUTION_KINDS, format_time
from tradeproxy.wire.frame import extract_data
from tradeproxy.wire.plural import plural
from tradeproxy.wire.printable import escape_unprintable
from tradeproxy.wire.strategy_rule import parse_rule

_ACCOUNT = re.compile("[a-z0-9_]{1,64}")


def add_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument(
        "account", nargs="?", default="paper", help="paper, live or your own name; default paper"
    )
    periods.add_arguments(parser)
    parser.add_argument(
        "--format", choices=("jsonl", "csv", "parquet"), default="jsonl", help="default jsonl"
    )
    parser.add_argument(
        "--kind", choices=("trades", "all"), default="trades", help="default trades"
    )
    parser.add_argument("--env-file", metavar="FILE", help="read this file instead of .env")


def main(arguments: Namespace) -> None:
    """Write the events to standard output, and their number to standard error.

    Raises SystemExit: each problem is one line on standard error, with status 1. If the reader
    of standard output closes its pipe, the status is 0.
    """
    period = periods.read_period(arguments, datetime.now(UTC))
    if arguments.format == "parquet" and sys.stdout.isatty():
        raise SystemExit("--format: parquet is no text; write it into a file: > trades.parquet")
    env = Environment.read(os.environ, Path.cwd(), arguments.env_file)
    rule = env.parse("PROXY_STRATEGIES", parse_rule, default=parse_rule(""))
    has_book = env.parse("PROXY_BOOK", flag, default=True)
    path = _find_journal(arguments, env)
    replace_unencodable(sys.stdout, JSON_ESCAPE)
    is_shown = sys.stderr.isatty() and not sys.stdout.isatty()
    progress = ProgressBar(sys.stderr, "exporting", is_shown=is_shown)
    try:
        with closing(open_read_only(path)) as connection:
            payloads = read_payloads(connection, path, period.begin, period.end, progress.show)
            events: Iterator[LoggedEvent] = map(_read_event, payloads)
            if arguments.kind == "trades":
                events = filter(is_trade, events)
            find = BookStrategies(connection, rule).find if has_book else partial(apply_rule, rule)
            count = _write(events, arguments, period, find)
            newest = "" if count else _describe_newest(connection, path, period)
        sys.stdout.flush()
    except SchemaError as error:
        raise SystemExit(f"{path}: {error}") from None
    except ParquetError as error:
        raise SystemExit(f"--format parquet: {error}") from None
    except BrokenPipeError:
        raise exit_on_broken_pipe() from None
    except (OSError, sqlite3.Error) as error:
        raise SystemExit(f"{path}: cannot be read: {error}") from None
    finally:
        progress.clear()
    kind = "trade" if arguments.kind == "trades" else "event"
    if count:
        report = f"{plural(count, kind)} {period} written to {_name_output(sys.stdout)}"
    else:
        others = "; --kind all includes other events" if kind == "trade" else ""
        report = f"no {kind}s {period} in {path}, {newest}{others}"
    sys.stderr.write(escape_unprintable(f"{arguments.account}: {report}") + "\n")


def _read_event(payload: bytes) -> LoggedEvent:
    """Return the event in a frame; without its fields if they are nested too deeply."""
    try:
        return read_logged_event(payload)
    except RecursionError:
        raw, recovered = extract_data(payload)
        return LoggedEvent(raw, {}, recovered)


def is_trade(event: LoggedEvent) -> bool:
    """Return whether an event is an execution, or corrects one. Its data may have any types."""
    kind = event.data.get("event") if isinstance(event.data, dict) else None
    return isinstance(kind, str) and kind in EXECUTION_KINDS | AMENDMENT_KINDS


def _write(
    events: Iterator[LoggedEvent],
    arguments: Namespace,
    period: Period,
    find_strategy: Callable[[LoggedEvent], str],
) -> int:
    match arguments.format:
        case "csv":
            return write_csv(events, sys.stdout, find_strategy)
        case "parquet":
            notes = {
                "tradeproxy.account": arguments.account,
                "tradeproxy.from": format_time(period.begin),
                "tradeproxy.until": format_time(period.end),
                "tradeproxy.zone": period.zone,
            }
            return write_parquet(events, sys.stdout.buffer, notes, find_strategy)
        case _:
            return write_lines(events, sys.stdout)


def _describe_newest(connection: sqlite3.Connection, path: Path, period: Period) -> str:
    """Return how old the file is: the proxy that runs now may keep its events elsewhere."""
    time = find_newest_time(connection, path)
    if time is None:
        return "which has no event"
    return f"whose newest event is of {period.format(time)}"


def _name_output(out: TextIO) -> str:
    """Return the name of the file that a shell opened as standard output, where Linux shows it."""
    try:
        descriptor = out.fileno()
        if S_ISREG(os.fstat(descriptor).st_mode):
            return os.readlink(f"/proc/self/fd/{descriptor}")
    except (OSError, ValueError):
        pass
    return "standard output"


def _find_journal(arguments: Namespace, env: Environment) -> Path:
    if not _ACCOUNT.fullmatch(arguments.account):
        raise SystemExit(f"account: {arguments.account!r} is not an account name ([a-z0-9_]+)")
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
