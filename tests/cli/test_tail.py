"""Tests for the output of `tradeproxy tail`, and for its arguments."""

from __future__ import annotations

import io
import json
import os
import re
import time
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from pathlib import Path
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.support.frames import TRADE_UPDATES
from tradeproxy.cli import proxy, tail, tail_output
from tradeproxy.cli.terminal import cut, width
from tradeproxy.cli.times import parse_time_argument
from tradeproxy.client import Update
from tradeproxy.config.env import Environment
from tradeproxy.config.files import MAX_SIZE
from tradeproxy.wire.frame import extract_data

URL = "ws://localhost:1/trade-updates-paper"
HOSTILE = "\x1b[2J\x1b]0;owned\x07\x9b31m\u202e\n"
SGR = re.compile(r"\x1b\[[0-9]*m")


class FakeTerminal(io.StringIO):
    """Standard output or standard error on a terminal."""

    def isatty(self) -> bool:
        return True


def update(
    recovered: str | None = None, at: str = "2026-07-24T14:42:50.132734Z", **fields: Any
) -> Update:
    """Return an update. Fields other than event, at, price and qty are its order's."""
    data = {"event": fields.pop("event", "new"), "at": at}
    data |= {name: fields.pop(name) for name in ("price", "qty") if name in fields}
    return Update(json.dumps({**data, "order": fields}).encode(), None, recovered)


class TailTestCase(SynchronousTestCase):
    """Base class: the time zone is New York's, and the terminal has `columns` columns."""

    columns = 100

    def setUp(self) -> None:
        self.patch(
            tail_output, "get_terminal_size", lambda: type("Size", (), {"columns": self.columns})
        )
        self.set_environ(TZ="America/New_York")
        time.tzset()
        self.addCleanup(time.tzset)

    def set_environ(self, **variables: str) -> None:
        before = {name: os.environ.get(name) for name in variables}
        os.environ.update(variables)

        def restore() -> None:
            for name, value in before.items():
                os.environ.pop(name, None) if value is None else os.environ.update({name: value})

        self.addCleanup(restore)

    def print_table(
        self,
        *updates: Update,
        out: io.StringIO | None = None,
        environ: dict[str, str] | None = None,
    ) -> list[str]:
        """Return the lines of a table with these updates."""
        out = FakeTerminal() if out is None else out
        table = tail_output.Table(out, environ or {})
        for each in updates:
            table.show(each)
        return out.getvalue().split("\n")[:-1]


class TableTests(TailTestCase):
    """Table."""

    def test_fill_shows_local_time_and_own_quantity(self) -> None:
        """The line of a fill has its own quantity and price, and the local time."""
        fill = update(
            event="fill",
            qty="2",
            price="512.33",
            side="buy",
            symbol="SPY",
            status="filled",
            client_order_id="a-1",
        )
        header, day, line = self.print_table(fill, environ={"NO_COLOR": "1"})
        self.assertEqual(header.split(), [*tail_output.MEDIUM_CELLS, "order"])
        self.assertEqual(day, "2026-07-24")
        self.assertEqual(line.split(), ["10:42:50.132", "fill", "buy", "2", "SPY", "512.33", "a-1"])

    def test_nan_and_infinity_are_shown(self) -> None:
        """They are no JSON, but an event of Alpaca's may have them."""
        self.assertEqual(
            tail_output.read_cells(Update(b'{"qty":NaN,"price":-Infinity}', None).data),
            {"qty": "nan", "price": "-inf"},
        )

    def test_usual_updates_keep_columns_aligned(self) -> None:
        """At every width the columns of real events are under their headers."""
        for self.columns in (60, 79, 80, 109, 110, 200):
            header, *lines = self.print_table(
                *(Update(extract_data(frame)[0], None) for frame in TRADE_UPDATES),
                update(symbol="BTC/USD", side="buy", client_order_id="e\u0301" * 90),
                Update(b'{"event":"new","order":[]}', None),
                environ={"NO_COLOR": "1"},
            )
            rows = [line for line in lines if not re.fullmatch("[0-9-]{10}", line)]
            for name in ("event", "side", "symbol"):
                before = header.index(name) - 1
                self.assertEqual({character_at(row, before) for row in rows}, {" "}, rows)
            self.assertEqual([row for row in rows if width(row) > self.columns], [])

    def test_numbers_and_symbols_are_never_cut(self) -> None:
        """At any width: `10523…` for 105234.25 is a wrong price."""
        option = {"symbol": "AAPL260717C00200000", "side": "sell"}
        crypto = {"symbol": "BTC/USDT", "side": "buy", "status": "partially_filled"}
        for fields in (option, crypto):
            fields["client_order_id"] = "an-id-that-takes-all-the-room-that-is-left"
        for self.columns in range(10, 200):
            for shown, texts in (
                (
                    update(event="fill", price="105234.25", qty="0.123456789", **crypto),
                    ("105234.25", "0.123456789", "BTC/USDT", "fill"),
                ),
                (
                    update(event="order_replace_rejected", limit_price="105234.255", **option),
                    ("limit 105234.255", option["symbol"], "sell", "order_replace_rejected"),
                ),
            ):
                lines = self.print_table(shown, environ={"NO_COLOR": "1"})
                for text in texts:
                    self.assertIn(text, "\n".join(lines), self.columns)
                widest = max(map(len, (*texts, "2026-07-24"))) + len(tail_output.INDENT)
                self.assertLessEqual(max(map(width, lines)), max(self.columns, widest))

    def test_limit_is_not_shown_as_price_of_a_fill(self) -> None:
        """A price without a word is that of an execution, and a quantity that of shares."""
        for data, price in (
            ({"event": "fill", "price": "512.33", "order": {"limit_price": "513"}}, "512.33"),
            ({"event": "new", "order": {"limit_price": "513"}}, "limit 513"),
            ({"event": "new", "order": {"stop_price": "500"}}, "stop 500"),
            ({"event": "canceled", "order": {"limit_price": "9", "stop_price": "8"}}, "limit 9"),
            ({"event": "fill", "order": {"limit_price": "513"}}, None),
        ):
            self.assertEqual(tail_output.read_cells(data).get("price"), price, data)
        order = {"qty": None, "notional": "1000"}
        self.assertEqual(tail_output.read_cells({"order": order})["qty"], "$1000")

    def test_cut_counts_terminal_cells(self) -> None:
        """A wide character takes two terminal cells, a combining character none."""
        for text, cells, expected in (
            ("東京", 5, "東京"),
            ("東京証", 5, "東京…"),
            ("東京証", 4, "東…"),
            ("e\u0301e\u0301", 2, "e\u0301e\u0301"),
            ("abcde", 4, "abc…"),
            ("a", 0, ""),
        ):
            self.assertEqual(cut(text, cells), expected, text)

    def test_hostile_text_on_terminal_is_escaped(self) -> None:
        """Every field is escaped: a bot chooses the order ids, and a server the other fields."""
        hostile = update(
            event=HOSTILE,
            side=HOSTILE,
            symbol=HOSTILE,
            status=HOSTILE,
            client_order_id=HOSTILE,
            at=HOSTILE,
        )
        self.columns = 400
        terminal = FakeTerminal()
        self.print_table(hostile, update(recovered=HOSTILE), out=terminal)
        tail_output.JsonLines(terminal).show(Update(b'{"a":"\xc2\x9b31m\xe2\x80\xae\x7f"}', None))
        notices = tail_output.Notices(terminal, {}, URL)
        notices.show_status({"event": "upstream", "state": "down", "reason": HOSTILE})
        notices.write(HOSTILE)
        plain = SGR.sub("", terminal.getvalue())
        self.assertEqual({character for character in plain if not character.isprintable()}, {"\n"})
        self.assertIn("\\u001b[2J\\u001b]0;owned\\u0007\\u009b31m\\u202e\\u000a", plain)

    def test_colour_is_used_only_on_capable_terminal(self) -> None:
        """A fill is green; NO_COLOR, TERM=dumb and a file have no colour."""
        fill = update(event="fill")
        self.assertTrue(self.print_table(fill)[-1].startswith("\x1b[32m"))
        for environ in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):
            self.assertNotIn("\x1b", "".join(self.print_table(fill, environ=environ)))
        self.assertNotIn("\x1b", "".join(self.print_table(fill, out=io.StringIO())))

    def test_file_output_is_not_cut(self) -> None:
        """In a file, each line has the date, and there is no header."""
        self.columns = 20
        [line] = self.print_table(update(client_order_id="x" * 300), out=io.StringIO())
        self.assertTrue(line.startswith("2026-07-24 10:42:50.132 "))
        self.assertTrue(line.endswith(" " + "x" * 300))

    def test_recovered_event_is_marked(self) -> None:
        """The mark has the source of the event."""
        self.columns = 200
        self.assertTrue(
            self.print_table(update("orders", client_order_id="a"), environ={"NO_COLOR": "1"})[
                -1
            ].find("[recovered: orders] a")
            > 0
        )

    def test_json_in_file_is_byte_for_byte(self) -> None:
        """A terminal gets the same JSON with unprintable characters escaped."""
        out = io.StringIO()
        raw = '{"qty": 1.10,"a":"\x7f\u202e"}'
        tail_output.JsonLines(out).show(Update(raw.encode(), None))
        self.assertEqual(out.getvalue(), raw + "\n")
        terminal = FakeTerminal()
        tail_output.JsonLines(terminal).show(Update(raw.encode(), None))
        self.assertEqual(json.loads(terminal.getvalue()), json.loads(raw))


class NoticesTests(TailTestCase):
    """Notices."""

    def print_notices(self, *statuses: dict[str, Any]) -> list[str]:
        """Return the lines for these status frames, without the time."""
        err = io.StringIO()
        notices = tail_output.Notices(err, {}, URL)
        for status in statuses:
            notices.show_status(status)
        return [line[13:] for line in err.getvalue().splitlines()]

    def test_each_change_is_one_line(self) -> None:
        """The line has the new state and the reason; other frames have none.

        The line of a gap had no end and no zone, and "1 events".
        """
        period = "from 2026-07-24 10:42:50-04:00 to 2026-07-24 10:43:00-04:00"
        begin, end = "2026-07-24T14:42:50.132734Z", "2026-07-24T14:43:00.000000Z"
        gap = {"event": "gap", "begin": begin, "end": end, "reason": ""}
        self.assertEqual(
            self.print_notices(
                {"event": "connection", "state": "up"},
                {"event": "upstream", "state": "down", "since": begin, "reason": "connection lost"},
                {**gap, "end": None, "outcome": "pending", "events": 0},
                {**gap, "outcome": "recovered", "events": 3},
                {**gap, "outcome": "lost", "events": 0, "reason": "HTTP 403"},
                {**gap, "begin": None, "end": None, "outcome": "pending", "events": 0},
                {**gap, "begin": None, "outcome": "lost", "events": 1},
                {"event": "journal", "state": "not durable", "since": begin, "reason": "disk full"},
                {"event": "replay", "state": "complete", "cursor": "x", "reason": ""},
                {"event": "something new"},
            ),
            [
                "connected to the proxy",
                "upstream down: connection lost",
                "gap: begins at 2026-07-24 10:42:50-04:00",
                f"gap: recovered, 3 events found {period}",
                f"gap: lost, 0 events found {period}: HTTP 403",
                "gap: begins at an unknown time",
                "gap: lost, 1 event found to 2026-07-24 10:43:00-04:00",
                "journal not durable: disk full",
            ],
        )

    def test_hello_shows_only_problems(self) -> None:
        """A hello without a problem prints nothing."""
        healthy = {"event": "hello", "upstream": {"state": "up"}, "journal": {"state": "durable"}}
        failing = {
            "event": "hello",
            "upstream": {"state": "down", "reason": "HTTP 429"},
            "journal": {"state": "durable"},
        }
        self.assertEqual(self.print_notices(healthy, failing), ["upstream down: HTTP 429"])

    def test_hello_shows_changed_gaps(self) -> None:
        """The first hello shows open gaps; a later one those that began or ended since."""

        def hello(*gaps: tuple[int, str]) -> dict[str, Any]:
            end = "2026-07-24T15:00:00.000000Z"
            gap_data = [
                {
                    "begin": f"2026-07-24T14:0{n}:00Z",
                    "end": end,
                    "outcome": outcome,
                    "events": n,
                    "reason": "",
                }
                for n, outcome in gaps
            ]
            states = {"upstream": {"state": "up"}, "journal": {"state": "durable"}}
            return {"event": "hello", **states, "gaps": gap_data}

        before = hello((1, "lost"), (2, "open"))
        after = hello((1, "lost"), (2, "recovered"), (3, "recovered"))
        lines = self.print_notices(before, before, after, after)
        self.assertEqual(
            [line.partition(" events")[0] for line in lines],
            ["gap: open, 2", "gap: recovered, 2", "gap: recovered, 3"],
        )

    def test_repeated_connection_problem_is_one_line(self) -> None:
        """A long outage does not fill the screen: only a new reason or a reconnect adds a line."""
        down = {"event": "connection", "state": "down", "reason": "refused", "retry_in": 0.5}
        up = {"event": "connection", "state": "up"}
        lines = self.print_notices(down, down, {**down, "reason": "no route"}, down, down, up, down)
        reasons = [re.sub(f".*{URL}: (.*); retrying", r"\1", line) for line in lines]
        self.assertEqual(
            reasons, ["refused", "no route", "refused", "connected to the proxy", "refused"]
        )

    def test_lasting_connection_problem_is_repeated_every_minute(self) -> None:
        """The line names the URL, and the cause in one phrase.

        It names no time: the attempts until the next line are silent.
        """
        clock, err = Clock(), io.StringIO()
        notices = tail_output.Notices(err, {}, URL, clock.seconds)
        down = {
            "event": "connection",
            "state": "down",
            "reason": "cannot connect: connection refused",
            "retry_in": 12.3,
        }
        for _ in range(13):
            notices.show_status(down)
            clock.advance(15)
        lines = [line[13:] for line in err.getvalue().splitlines()]
        self.assertEqual(
            lines,
            [f"no connection to the proxy at {URL}: connection refused; retrying"] * 4,
        )


class TailArgumentTests(TailTestCase):
    """The arguments and the environment."""

    def make_environment(self, text: str = "", **variables: str) -> Environment:
        directory = Path(self.mktemp())
        directory.mkdir()
        Path(directory, ".env").write_text(text)
        Path(directory, ".env").chmod(0o600)
        return Environment.read(variables, directory, None)

    def parse(self, *arguments: str) -> Namespace:
        parser = ArgumentParser()
        tail.add_arguments(parser)
        return parser.parse_args(arguments)

    def test_url_default_is_local_proxy(self) -> None:
        """The port is PROXY_PORT's. --url overrides the proxy, or the whole path."""
        find = proxy.find_url
        self.assertEqual(
            find(self.make_environment(), None, None), "ws://localhost:8099/trade-updates-paper"
        )
        self.assertEqual(
            find(self.make_environment("PROXY_PORT=9"), None, "live"),
            "ws://localhost:9/trade-updates-live",
        )
        self.assertEqual(
            find(self.make_environment(), "wss://far/", "a/b?c"),
            "wss://far/trade-updates-a%2Fb%3Fc",
        )
        self.assertEqual(
            find(self.make_environment(), "wss://far/desk/stream", None), "wss://far/desk/stream"
        )
        self.assertEqual(
            find(self.make_environment(), "https://far", None), "wss://far/trade-updates-paper"
        )
        self.assertEqual(
            find(self.make_environment(), "http://[::1]:9/http", None), "ws://[::1]:9/http"
        )
        error = self.assertRaises(
            SystemExit, find, self.make_environment(), "wss://far/desk", "live"
        )
        self.assertTrue(str(error).startswith("--url: "), error)

    def test_token_is_read_from_variable_or_file(self) -> None:
        """No argument is a token. An error names the source and not its content."""
        read = proxy.read_token
        self.assertEqual(read(self.make_environment(), None), "")
        self.assertEqual(read(self.make_environment(PROXY_TOKEN="hush"), None), "hush")
        file = Path(self.mktemp())
        for content, line in (
            (b"hush\n", ""),
            (b" \n", "is empty"),
            (b"\xff", "cannot be read (it is not text)"),
            (bytes(MAX_SIZE + 1), "cannot be read (File too large)"),
        ):
            file.write_bytes(content)
            if not line:
                self.assertEqual(
                    read(self.make_environment(PROXY_TOKEN="other"), str(file)), "hush"
                )
                continue
            error = self.assertRaises(SystemExit, read, self.make_environment(), str(file))
            self.assertEqual(str(error), f"--token-file: {line}")
        mistaken = self.parse("--token", "hush").token_file
        self.assertNotIn(
            "hush", str(self.assertRaises(SystemExit, read, self.make_environment(), mistaken))
        )

    def test_time_without_offset_is_local(self) -> None:
        """The times in the output are local too."""
        for text in ("2026-07-24T10:30", "2026-07-24T14:30:00Z", "2026-07-24 16:30+02:00"):
            self.assertEqual(self.parse("--since", text).since.timestamp(), 1784903400, text)
        self.assertEqual(self.parse("--since", "2026-07-24").since.timestamp(), 1784865600)
        self.assertRaises(ArgumentTypeError, parse_time_argument, "half past ten")


def character_at(line: str, cell: int) -> str:
    """Return the character in one terminal cell of a line; a space after its end."""
    position = 0
    for character in line:
        if position == cell and width(character):
            return character
        position += width(character)
    return " "
