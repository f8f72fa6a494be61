"""Tests for `tradeproxy export`: what it takes from a journal, and that it leaves that alone."""

from __future__ import annotations

import csv
import io
import os
import sqlite3
import sys
from argparse import ArgumentParser
from datetime import datetime
from pathlib import Path

from tests.support.journals import FIRST_AT, NOW, JournalCase, event, event_id_of, events, time_of
from tradeproxy.cli import export
from tradeproxy.journal.schema import SchemaError
from tradeproxy.wire.event import format_time
from tradeproxy.wire.frame import Recovered, extract_data, frame_event, with_mark
from tradeproxy.wire.messages import TradeUpdate, parse_server

EVER = 2**62


class EventsTests(JournalCase):
    """The events of a span of time, read while the journal is open and written to."""

    def found(self, begin: int = 0, end: int = EVER) -> list[bytes]:
        connection = export.open_read_only(self.path)
        self.addCleanup(connection.close)
        return [found.raw for found in export.read_events(connection, begin, end)]

    def test_from_a_time_on_and_before_another(self) -> None:
        """In the journal's order, byte for byte; the first moment belongs to it, the last does not."""
        journal = self.open()
        journal.append(events(*range(2000)))
        expected = [extract_data(each.payload)[0] for each in events(*range(300, 1700))]
        self.assertEqual(self.found(time_of(300), time_of(1700)), expected)

    def test_an_event_that_came_late_is_where_its_time_says(self) -> None:
        """Found in Alpaca's history after newer ones: it belongs to the day on which it happened."""
        journal = self.open()
        journal.append(events(1, 9, 2))
        found = self.found(time_of(2), time_of(5))
        self.assertEqual(found, [extract_data(event(2).payload)[0]])

    def test_an_event_without_a_time_is_not_left_out(self) -> None:
        """It counts to the one before it; where there is none, to the moment at which it came."""
        journal = self.open()
        timeless = [event(n, at=None) for n in (0, 2)]
        journal.append([timeless[0], event(1), timeless[1], event(3)])
        came = round(NOW * 1_000_000)
        self.assertEqual(self.found(came, came + 1), [extract_data(timeless[0].payload)[0]])
        expected = [extract_data(each.payload)[0] for each in (event(1), timeless[1])]
        self.assertEqual(self.found(time_of(1), time_of(2)), expected)

    def test_nothing_is_there(self) -> None:
        """An empty journal, and a time after the last event."""
        journal = self.open()
        self.assertEqual(self.found(), [])
        journal.append(events(1))
        self.assertEqual(self.found(time_of(2)), [])

    def test_the_proxy_writes_on_meanwhile(self) -> None:
        """In the midst of a page it can commit, carry over its write-ahead log and use that anew."""
        journal = self.open()
        journal.append(events(*range(1200)))
        reading = export.read_events(export.open_read_only(self.path), 0, EVER)
        next(reading)
        journal.append(events(*range(1200, 1300)))
        self.assertTrue(journal.status.durable)
        writer = sqlite3.connect(self.path, timeout=0)
        [busy, _, _] = writer.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        writer.close()
        self.assertEqual(busy, 0)
        self.assertEqual(len(list(reading)), 1299)

    def test_the_file_cannot_be_written_to(self) -> None:
        """Whatever this program does."""
        self.open()
        connection = export.open_read_only(self.path)
        self.addCleanup(connection.close)
        error = self.assertRaises(
            sqlite3.OperationalError, connection.execute, "DELETE FROM events"
        )
        self.assertIn("readonly", str(error))

    def test_another_schema_is_not_touched(self) -> None:
        """A newer one is not understood, and an older one is not for a reader to bring up to date."""
        self.open().close()
        for version, word in ((99, "newer"), (0, "older")):
            with sqlite3.connect(self.path) as connection:
                connection.execute(f"PRAGMA user_version = {version}")
            connection.close()
            before = self.path.read_bytes()
            error = self.assertRaises(SchemaError, export.open_read_only, self.path)
            self.assertIn(word, str(error))
            self.assertEqual(self.path.read_bytes(), before)


class CsvTests(JournalCase):
    """The table."""

    def test_decimals_are_what_alpaca_wrote(self) -> None:
        """Text or number, digit for digit."""
        journal = self.open()
        data = (
            b'{"event":"fill","timestamp":"2026-07-24T14:42:50Z","qty":"0.100000000000000000001","price":512.330,'
            b'"position_qty":12345678901234567890,"order":{"id":"1","client_order_id":"a,\\"b\\"\\n","limit_price":null}}'
        )
        update = parse_server(with_mark(frame_event(data), Recovered.ORDERS))
        assert isinstance(update, TradeUpdate)
        journal.append([update.event])
        out = io.StringIO()
        connection = export.open_read_only(self.path)
        self.addCleanup(connection.close)
        export.write_csv(export.read_events(connection, 0, EVER), out)
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
            },
        )


class CommandTests(JournalCase):
    """The command line."""

    def setUp(self) -> None:
        super().setUp()
        journal = self.open()
        journal.append(
            [event(1), event(2, event="fill", price="1.50"), event(3, event="trade_bust")]
        )
        self.environ = {"PROXY_DATA_DIR": str(self.path.parent.resolve())}
        self.patch(os, "environ", self.environ)

    def run_export(self, *arguments: str) -> str:
        """Return what the command writes."""
        out = io.StringIO()
        self.patch(sys, "stdout", out)
        parser = ArgumentParser()
        export.add_arguments(parser)
        export.main(parser.parse_args(arguments))
        return out.getvalue()

    def problem(self, *arguments: str) -> str:
        return str(self.assertRaises(SystemExit, self.run_export, *arguments))

    def test_trades_are_what_it_is_for(self) -> None:
        """Executions, and what takes one back; `all` is all."""
        begin = ("--from", format_time(FIRST_AT), "--to", format_time(time_of(10)))
        lines = self.run_export(*begin).splitlines()
        self.assertEqual(
            [event_id_of(n) in line for n, line in zip((2, 3), lines, strict=True)], [True, True]
        )
        self.assertEqual(len(self.run_export(*begin, "--kind", "all").splitlines()), 3)
        self.assertEqual(len(self.run_export(*begin, "--format", "csv").splitlines()), 1 + 2)

    def test_a_day_is_this_machines(self) -> None:
        """From midnight to midnight."""
        day = datetime.fromtimestamp(FIRST_AT / 1_000_000).date()
        self.assertEqual(len(self.run_export("--date", str(day)).splitlines()), 2)
        self.assertEqual(self.run_export("--date", "1999-12-31"), "")

    def test_what_is_wrong_is_named(self) -> None:
        """The option, the argument or the variable."""
        self.assertTrue(
            self.problem("--date", "2026-07-24", "--to", "2026-07-25").startswith("--date: ")
        )
        self.assertTrue(self.problem("--date", "9999-12-31").startswith("--date: "))
        self.assertTrue(
            self.problem("--from", "2026-07-24", "--to", "2026-07-24").startswith("--from: ")
        )
        self.assertTrue(self.problem("../paper").startswith("account: "))
        absent = self.problem("desk")
        self.assertTrue(absent.startswith("PROXY_DATA_DIR: "), absent)
        self.assertIn("`tradeproxy demo` keeps events in memory only", absent)

    def test_a_journal_in_redis_is_not_here(self) -> None:
        """The line says how to read it, and nothing of what opens it."""
        self.patch(os, "environ", {**os.environ, "PROXY_REDIS_URL": "redis://:hush@localhost"})
        problem = self.problem()
        self.assertIn("PROXY_REDIS_URL: the journal is in Redis; `tradeproxy tail", problem)
        self.assertNotIn("hush", problem)

    def test_what_is_no_journal_is_named(self) -> None:
        """By its path."""
        path = Path(self.path.with_name("desk.sqlite3"))
        path.write_bytes(b"this is no database" * 100)
        self.assertTrue(self.problem("desk").startswith(f"{path.resolve()}: "))
