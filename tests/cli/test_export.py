"""Tests for `tradeproxy export`: its output, and that it does not change the journal."""

from __future__ import annotations

import csv
import io
import os
import sqlite3
import sys
from argparse import ArgumentParser
from collections.abc import Iterator
from contextlib import closing
from datetime import date, datetime
from functools import partial
from pathlib import Path
from unittest.mock import patch

from pyarrow import parquet

from tests.support.journals import FIRST_AT, JournalCase, event, event_id_of, time_of
from tradeproxy.cli import export, export_formats
from tradeproxy.cli.order_strategies import apply_rule
from tradeproxy.cli.times import find_zone_name, format_moment, from_microseconds, get_day_bounds
from tradeproxy.config.command import name_command
from tradeproxy.journal import file_reader
from tradeproxy.tradelog.columns import LoggedEvent, read_logged_event
from tradeproxy.tradelog.csv_text import format_cell
from tradeproxy.wire.event import format_time
from tradeproxy.wire.frame import Recovered, frame_event, with_mark
from tradeproxy.wire.messages import TradeUpdate, parse_server
from tradeproxy.wire.strategy_rule import parse_rule

BY_RULE = partial(apply_rule, parse_rule(""))

FAR_FUTURE = 2**62
"""A time after every event, in microseconds since 1970."""


def read_events(
    connection: sqlite3.Connection, path: Path, begin: int, end: int
) -> Iterator[LoggedEvent]:
    """Return the events as export reads them."""
    return map(read_logged_event, file_reader.read_payloads(connection, path, begin, end))


class WriteCsvTests(JournalCase):
    """write_csv."""

    def export(self, data: bytes) -> str:
        """Return the CSV of a journal with one event."""
        update = parse_server(frame_event(data))
        assert isinstance(update, TradeUpdate)
        self.open().append([update.event])
        out = io.StringIO()
        connection = file_reader.open_read_only(self.path)
        self.addCleanup(connection.close)
        export_formats.write_csv(read_events(connection, self.path, 0, FAR_FUTURE), out, BY_RULE)
        return out.getvalue()

    def test_text_is_no_formula_and_number_stays_number(self) -> None:
        """A spreadsheet runs a formula that an order's name holds; a negative number is none."""
        for text in (
            '=HYPERLINK("x")',
            "+1+1",
            "-1+cmd|' /C calc'!A0",
            "@SUM(A1)",
            " =1",
            "\tx",
            "\u200b=1",
        ):
            cell = format_cell(text)
            self.assertEqual(cell.strip('"')[0], "'", text)
            self.assertEqual(next(csv.reader([cell], strict=True)), [f"'{text}"])
        for number in ("-5", "-0.1", "+3", "-1e-9", "-Infinity", "12"):
            self.assertEqual(format_cell(number), number)

    def test_part_behind_a_separator_is_no_formula(self) -> None:
        """Where `;` separates fields, quotes behind a comma have no meaning: the field is cut."""
        for text in (
            *("a;=1+1;b", "; @SUM(A1);", "a\n=1+1\n", "a\t\t-1+1\t", "\t=1\t"),
            *('a;"=1+1', 'a; ""@SUM(A1)', 'a\t"-1+1'),  # an empty text in quotes, and the rest
        ):
            line = f"2026-07-24,{format_cell(text)},fill\n"
            for separator in ";\t,":
                rows = csv.reader(io.StringIO(line), delimiter=separator)
                parts = [part.strip() for row in rows for part in row if part]
                self.assertFalse([part for part in parts if part[0] in "=@-"], (text, separator))
        for text in ("a;b=c", "a-b;c", "buy;5"):
            self.assertEqual(format_cell(text), f'"{text}"')

    def test_field_with_line_break_or_separator_is_quoted(self) -> None:
        """A bare CR ends a line too, and `;` separates fields in some spreadsheets."""
        for text in ("a\rb", "a\nb", "a\r\nb", "a;b", "a\tb", 'a"b', "a,b"):
            self.assertTrue(format_cell(text).startswith('"'), text)
            self.assertEqual(next(csv.reader(io.StringIO(format_cell(text)))), [text])

    def test_lone_surrogate_and_nul_are_escaped(self) -> None:
        """A lone surrogate has no UTF-8 form: it ended the export with a traceback."""
        text = self.export(b'{"event":"fill","order":{"client_order_id":"a\\ud800\\u0000b"}}')
        self.assertIn(r",a\ud800\u0000b,", text)
        self.assertIn(rb"\ud800", text.encode())

    def test_nan_and_infinity_are_written_as_sent(self) -> None:
        """They are no JSON, but a number of Alpaca's may be one."""
        text = self.export(b'{"event":"fill","qty":NaN,"price":-Infinity,"position_qty":Infinity}')
        [row] = csv.DictReader(io.StringIO(text))
        self.assertEqual(
            (row["qty"], row["price"], row["position_qty"]), ("NaN", "-Infinity", "Infinity")
        )

    def test_numbers_have_alpacas_digits(self) -> None:
        """Alpaca may send a number or a string; both are copied digit for digit."""
        journal = self.open()
        data = (
            b'{"event":"fill","timestamp":"2026-07-24T14:42:50Z",'
            b'"qty":"0.100000000000000000001","price":512.330,'
            b'"position_qty":12345678901234567890,'
            b'"order":{"id":"1","client_order_id":"a,\\"b\\"\\n","limit_price":null}}'
        )
        update = parse_server(with_mark(frame_event(data), Recovered.ORDERS))
        assert isinstance(update, TradeUpdate)
        journal.append([update.event])
        out = io.StringIO()
        connection = file_reader.open_read_only(self.path)
        self.addCleanup(connection.close)
        export_formats.write_csv(read_events(connection, self.path, 0, FAR_FUTURE), out, BY_RULE)
        [row] = csv.DictReader(io.StringIO(out.getvalue()))
        self.assertEqual(
            {name: text for name, text in row.items() if text},
            {
                "time": "2026-07-24T14:42:50Z",
                "event": "fill",
                "qty": "0.100000000000000000001",
                "price": "512.330",
                "position_qty": "12345678901234567890",
                "order_id": "1",
                "client_order_id": 'a,"b"\n',
                "recovered": "orders",
                "strategy": "(none)",
            },
        )


class ExportCommandTests(JournalCase):
    """The command."""

    def setUp(self) -> None:
        super().setUp()
        self.journal = self.open()
        self.journal.append(
            [event(1), event(2, event="fill", price="1.50"), event(3, event="trade_bust")]
        )
        self.environ = {"PROXY_DATA_DIR": str(self.path.parent.resolve())}
        self.patch(os, "environ", self.environ)

    def run_export(self, *arguments: str) -> str:
        """Return the output of the command."""
        out, self.err = io.StringIO(), io.StringIO()
        self.patch(sys, "stdout", out)
        self.patch(sys, "stderr", self.err)
        parser = ArgumentParser()
        export.add_arguments(parser)
        export.main(parser.parse_args(arguments))
        return out.getvalue()

    def run_failing(self, *arguments: str) -> str:
        """Return the error line of the command."""
        return str(self.assertRaises(SystemExit, self.run_export, *arguments))

    def describe(self, day: date) -> str:
        """Return how the report names a local day."""
        begin, end = (format_moment(from_microseconds(time)) for time in get_day_bounds(day))
        return f"from {begin} to {end} ({find_zone_name()})"

    def test_kind_default_is_trades(self) -> None:
        """By default the output has executions and their corrections; `all` has every event."""
        period = ("--from", format_time(FIRST_AT), "--to", format_time(time_of(10)))
        lines = self.run_export(*period).splitlines()
        self.assertEqual(
            [event_id_of(n) in line for n, line in zip((2, 3), lines, strict=True)], [True, True]
        )
        self.assertEqual(len(self.run_export(*period, "--kind", "all").splitlines()), 3)
        self.assertEqual(len(self.run_export(*period, "--format", "csv").splitlines()), 1 + 2)

    def test_number_of_events_is_reported(self) -> None:
        """On standard error; nothing found says so, and where and how to find more."""
        day = datetime.fromtimestamp(FIRST_AT / 1_000_000).date()
        period = self.describe(day)
        self.run_export("--date", str(day))
        self.assertEqual(
            self.err.getvalue(),
            f"paper: 2 trades {period} written to standard output\n",
        )
        self.run_export("--from", format_time(time_of(3)), "--to", format_time(time_of(4)))
        self.assertTrue(self.err.getvalue().startswith("paper: 1 trade from "))

    def test_file_without_such_events_is_named_with_its_newest_time(self) -> None:
        """Beside a demo, which keeps its events in memory, the file is that of an older proxy."""
        period = self.describe(date(1999, 12, 31))
        self.run_export("--date", "1999-12-31")
        newest = format_moment(from_microseconds(time_of(3)))
        self.assertEqual(
            self.err.getvalue(),
            f"paper: no trades {period} in {self.path.resolve()}, whose newest event"
            f" is of {newest}; --kind all includes other events\n",
        )

    def test_file_of_the_output_is_named(self) -> None:
        """The shell has opened it."""
        target = Path(self.mktemp())
        self.run_export()  # patches the streams
        with target.open("w") as out:
            self.patch(sys, "stdout", out)
            parser = ArgumentParser()
            export.add_arguments(parser)
            export.main(parser.parse_args(("--from", "2000-01-01", "--kind", "all")))
        self.assertTrue(self.err.getvalue().endswith(f"written to {target.resolve()}\n"))

    def test_date_is_local_day(self) -> None:
        """The period is from one local midnight to the next."""
        day = datetime.fromtimestamp(FIRST_AT / 1_000_000).date()
        self.assertEqual(len(self.run_export("--date", str(day)).splitlines()), 2)
        self.assertEqual(self.run_export("--date", "1999-12-31"), "")

    def test_wrong_argument_is_named(self) -> None:
        """The line begins with the option, the argument or the variable."""
        self.assertTrue(
            self.run_failing("--date", "2026-07-24", "--to", "2026-07-25").startswith("--date: ")
        )
        for day in ("0001-01-01", "9999-12-31"):
            self.assertEqual(self.run_failing("--date", day), "--date: is out of range")
        self.assertTrue(
            self.run_failing("--from", "2026-07-24", "--to", "2026-07-24").startswith("--from: ")
        )
        self.assertTrue(self.run_failing("../paper").startswith("account: "))
        missing = self.run_failing("desk")
        self.assertTrue(missing.startswith("PROXY_DATA_DIR: "), missing)
        self.assertIn(f"`{name_command('demo')}` keeps events in memory only", missing)

    def test_journal_in_redis_suggests_tail(self) -> None:
        """The line has the variable and the command for Redis, and not the password."""
        self.patch(os, "environ", {**os.environ, "PROXY_REDIS_URL": "redis://:hush@localhost"})
        problem = self.run_failing()
        self.assertIn(f"PROXY_REDIS_URL: the journal is in Redis; `{name_command('tail')}", problem)
        self.assertNotIn("hush", problem)

    def test_file_that_is_no_database_is_named(self) -> None:
        """The line begins with its path."""
        path = Path(self.path.with_name("desk.sqlite3"))
        path.write_bytes(b"this is no database" * 100)
        self.assertTrue(self.run_failing("desk").startswith(f"{path.resolve()}: "))

    def test_row_that_is_no_event_is_named(self) -> None:
        """The proxy has not read it yet, or has set the file aside. It was a traceback."""
        self.journal.close()
        for spoiled in ("x'7b'", "x'7bff7d'", "x''", "'{}'", "5"):
            with closing(sqlite3.connect(self.path)) as connection, connection:
                connection.execute(f"UPDATE events SET payload = {spoiled} WHERE seq = 2")
            self.assertEqual(
                self.run_failing("--from", format_time(FIRST_AT)),
                f"{self.path.resolve()}: cannot be read: event 2 is no event",
            )


class ParquetTests(JournalCase):
    """`--format parquet`, read with pyarrow."""

    def setUp(self) -> None:
        super().setUp()
        self.open().append(
            [event(1), event(2, event="fill", price="1.50"), event(3, event="rejected", reason="r")]
        )
        self.patch(os, "environ", {"PROXY_DATA_DIR": str(self.path.parent.resolve())})

    def export(self, *arguments: str) -> bytes:
        """Return the output of the command; it goes into a pipe, in which nobody can seek."""
        read, write = os.pipe()
        parser = ArgumentParser()
        export.add_arguments(parser)
        with open(read, "rb") as reader, open(write, "w") as out:
            self.patch(sys, "stdout", out)
            self.patch(sys, "stderr", io.StringIO())
            arguments = ("--format", "parquet", "--utc", *arguments)
            export.main(parser.parse_args(arguments))
            out.close()
            return reader.read()

    def test_columns_are_those_of_csv_and_the_zone_is_in_the_metadata(self) -> None:
        """A program reads amounts digit for digit, and the time as a time."""
        day = "2026-09-21"
        table = parquet.read_table(io.BytesIO(self.export("--date", day, "--kind", "all")))
        self.assertEqual(table.column_names, list(export_formats.EXPORTED))
        rows = table.to_pylist()
        self.assertEqual([row["price"] for row in rows], [None, "1.50", None])
        self.assertEqual(rows[2]["reason"], "r")
        self.assertEqual(
            rows[0]["time"], datetime.fromtimestamp(time_of(1) / 1_000_000).astimezone()
        )
        self.assertEqual(
            {name: text for name, text in table.schema.metadata.items() if b"zone" in name},
            {b"tradeproxy.zone": b"UTC"},
        )

    def test_file_without_events_has_the_columns(self) -> None:
        """A program that reads every day's file needs no special case."""
        table = parquet.read_table(io.BytesIO(self.export("--date", "1999-12-31")))
        self.assertEqual((table.num_rows, table.column_names), (0, list(export_formats.EXPORTED)))

    def test_many_events_are_several_row_groups(self) -> None:
        """The memory does not hold all of them."""
        self.patch(export_formats, "ROW_GROUP", 2)
        found = parquet.ParquetFile(
            io.BytesIO(self.export("--date", "2026-09-21", "--kind", "all"))
        )
        self.assertEqual((found.num_row_groups, found.metadata.num_rows), (2, 3))

    def test_missing_library_is_one_line(self) -> None:
        """It is an extra."""
        with patch.dict(sys.modules, {"pyarrow": None}):
            error = str(self.assertRaises(SystemExit, self.export))
        self.assertTrue(error.startswith("--format parquet: needs a library: "), error)
        self.assertTrue(error.endswith("-m pip install pyarrow"), error)
