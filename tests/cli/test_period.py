"""Tests for the period of an export: days of zones whose clocks change, and trade dates."""

from __future__ import annotations

import io
import json
import os
import sys
import time
from argparse import ArgumentParser
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from tests.support.journals import JournalCase, event
from tradeproxy.cli import export
from tradeproxy.cli.period import Period, add_arguments, read_period
from tradeproxy.cli.times import get_day_bounds, to_microseconds
from tradeproxy.wire.event import format_time

CHANGES = {
    "America/New_York": (date(2026, 3, 8), date(2026, 11, 1)),
    "Europe/Berlin": (date(2026, 3, 29), date(2026, 10, 25)),
    "America/Havana": (date(2026, 3, 8), date(2026, 11, 1)),  # no midnight; midnight twice
    "Africa/Cairo": (date(2026, 4, 24), date(2026, 10, 29)),  # no midnight; 23:00 twice
    "Australia/Lord_Howe": (date(2026, 10, 4), date(2026, 4, 5)),  # half an hour
}
"""The days of 2026 on which the clock goes forward, and back."""

NOW = datetime(2026, 7, 24, 12, tzinfo=UTC)


def set_zone(case: JournalCase, name: str) -> None:
    """Have the local time be that of a zone."""
    case.patch(os, "environ", {**os.environ, "TZ": name})
    os.putenv("TZ", name)
    time.tzset()
    case.addCleanup(time.tzset)
    case.addCleanup(os.unsetenv, "TZ")


class PeriodCase(JournalCase):
    """Reads the arguments of the command."""

    def read(self, *arguments: str, now: datetime = NOW) -> Period:
        """Return the period of these arguments."""
        parser = ArgumentParser()
        add_arguments(parser)
        return read_period(parser.parse_args(arguments), now)

    def read_texts(self, *arguments: str) -> tuple[str, str]:
        """Return the begin and the end in UTC, to the minute."""
        period = self.read(*arguments)
        begin, end = (format_time(each)[:16] for each in (period.begin, period.end))
        return begin, end


class DayTests(PeriodCase):
    """`--date` is the day on the clock of the user's zone."""

    def test_day_without_midnight_begins_when_the_clock_skips_it(self) -> None:
        """In Havana at 0:00 it is 1:00; an hour earlier is still the day before."""
        set_zone(self, "America/Havana")
        self.assertEqual(
            self.read_texts("--date", "2026-03-08"), ("2026-03-08T05:00", "2026-03-09T04:00")
        )
        self.assertEqual(
            self.read_texts("--date", "2026-03-07"), ("2026-03-07T05:00", "2026-03-08T05:00")
        )
        set_zone(self, "Africa/Cairo")
        self.assertEqual(
            self.read_texts("--date", "2026-04-24"), ("2026-04-23T22:00", "2026-04-24T21:00")
        )

    def test_day_with_two_midnights_begins_at_the_first(self) -> None:
        """In Havana it is 0:00 again after an hour; the day has 25 hours."""
        set_zone(self, "America/Havana")
        self.assertEqual(
            self.read_texts("--date", "2026-11-01"), ("2026-11-01T04:00", "2026-11-02T05:00")
        )

    def test_day_that_does_not_exist_is_empty(self) -> None:
        """Samoa went from 29 to 31 December 2011."""
        set_zone(self, "Pacific/Apia")
        begin, end = get_day_bounds(date(2011, 12, 30))
        self.assertEqual(begin, end)
        self.assertEqual(format_time(begin)[:16], "2011-12-30T10:00")

    def test_days_of_five_zones_have_what_their_clocks_say(self) -> None:
        """Each day around a change begins where the one before ends, and has only its own date."""
        for name, changes in CHANGES.items():
            set_zone(self, name)
            zone = ZoneInfo(name)
            for change in changes:
                for day in (change + timedelta(days=offset) for offset in range(-2, 3)):
                    begin, end = get_day_bounds(day)
                    with self.subTest(f"{name} {day}"):
                        self.assertEqual(begin, get_day_bounds(day - timedelta(days=1))[1])
                        for moment in range(begin, end, 60_000_000 * 10):
                            local = datetime.fromtimestamp(moment / 1e6, zone)
                            self.assertEqual(local.date(), day)

    def test_default_is_today(self) -> None:
        """By the clock of the zone: noon in UTC is tomorrow on Kiribati."""
        set_zone(self, "Pacific/Kiritimati")
        self.assertEqual(self.read_texts(), ("2026-07-24T10:00", "2026-07-25T10:00"))
        self.assertEqual(self.read_texts("--utc"), ("2026-07-24T00:00", "2026-07-25T00:00"))

    def test_time_that_the_clock_skips_is_when_it_does_that(self) -> None:
        """A time that comes twice is the first one."""
        set_zone(self, "Europe/Berlin")
        self.assertEqual(
            self.read_texts("--from", "2026-03-29T02:30", "--until", "2026-03-29T03:30"),
            ("2026-03-29T01:00", "2026-03-29T01:30"),
        )
        self.assertEqual(
            self.read_texts("--from", "2026-10-25T02:30", "--until", "2026-10-25T03:00"),
            ("2026-10-25T00:30", "2026-10-25T02:00"),
        )


class TradeDateTests(PeriodCase):
    """`--trade-date` is the day of Alpaca's sessions, wherever the user is."""

    def test_trade_date_is_from_20_to_20_in_new_york(self) -> None:
        """On the days of a change it has 23 or 25 hours."""
        for zone in CHANGES:
            set_zone(self, zone)
            for day, bounds in {
                "2026-07-24": ("2026-07-24T00:00", "2026-07-25T00:00"),
                "2026-03-08": ("2026-03-08T01:00", "2026-03-09T00:00"),
                "2026-11-01": ("2026-11-01T00:00", "2026-11-02T01:00"),
            }.items():
                self.assertEqual(self.read_texts("--trade-date", day), bounds)

    def test_trade_date_of_crypto_is_a_day_in_utc(self) -> None:
        """`--utc` also reads times without an offset as UTC."""
        set_zone(self, "Europe/Berlin")
        day = ("2026-07-24T00:00", "2026-07-25T00:00")
        self.assertEqual(self.read_texts("--trade-date", "2026-07-24", "--utc"), day)
        self.assertEqual(self.read_texts("--date", "2026-07-24", "--utc"), day)
        self.assertEqual(
            self.read_texts("--from", "2026-07-24", "--to", "2026-07-25", "--utc"), day
        )

    def test_zone_is_named(self) -> None:
        """The line on standard error says which day it was."""
        set_zone(self, "Europe/Berlin")
        for arguments, text in (
            (("--date", "2026-07-24"), "00:00:00+02:00 (Europe/Berlin)"),
            (("--date", "2026-07-24", "--utc"), "00:00:00+00:00 (UTC)"),
            (("--trade-date", "2026-07-24"), "20:00:00-04:00 (America/New_York)"),
        ):
            self.assertTrue(str(self.read(*arguments)).endswith(text), arguments)

    def test_options_that_contradict_each_other_are_named(self) -> None:
        """A line that begins with the option."""
        for arguments in (
            ("--trade-date", "2026-07-24", "--date", "2026-07-24"),
            ("--trade-date", "2026-07-24", "--from", "2026-07-24"),
            ("--trade-date", "9999-12-31"),
            ("--trade-date", "9999-12-31", "--utc"),
        ):
            error = self.assertRaises(SystemExit, self.read, *arguments)
            self.assertTrue(str(error).startswith("--trade-date: "))
        error = self.assertRaises(SystemExit, self.read, "--from", "0001-01-01")
        self.assertEqual(str(error), "--from: is out of range")


class ExportedDayTests(JournalCase):
    """The command, with events around the changes of five zones."""

    def run_export(self, *arguments: str) -> list[int]:
        """Return the numbers of the exported events."""
        out = io.StringIO()
        self.patch(sys, "stdout", out)
        self.patch(sys, "stderr", io.StringIO())
        parser = ArgumentParser()
        export.add_arguments(parser)
        export.main(parser.parse_args((*arguments, "--kind", "all")))
        orders = (json.loads(line)["order"] for line in out.getvalue().splitlines())
        return [int(order["id"][-12:]) for order in orders]

    def test_each_event_is_in_the_export_of_its_day(self) -> None:
        """Two days before a change to two days after it, an event every 45 minutes."""
        for name, changes in CHANGES.items():
            set_zone(self, name)
            for change in changes:
                self.check_days(name, change)

    def check_days(self, name: str, change: date) -> None:
        self.path = Path(self.mktemp()) / "paper.sqlite3"
        os.environ["PROXY_DATA_DIR"] = str(self.path.parent.resolve())
        begin = datetime.combine(change - timedelta(days=2), datetime.min.time(), UTC)
        moments = [begin + timedelta(minutes=45 * n) for n in range(160)]
        times = map(to_microseconds, moments)
        journal = self.open(max_age=1e9)
        journal.append([event(n, at=format_time(at)) for n, at in enumerate(times)])
        journal.close()
        for option, zone, ahead in (
            ("--date", ZoneInfo(name), 0),
            ("--trade-date", ZoneInfo("America/New_York"), 4),
        ):
            for day in (change + timedelta(days=offset) for offset in (-1, 0, 1)):
                expected = [
                    n
                    for n, moment in enumerate(moments)
                    if (moment.astimezone(zone) + timedelta(hours=ahead)).date() == day
                ]
                with self.subTest(f"{name} {option} {day}"):
                    self.assertEqual(self.run_export(option, day.isoformat()), expected)
