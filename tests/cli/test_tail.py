"""Tests for what `tradeproxy tail` shows, and where it connects."""

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
from tradeproxy.cli import tail, tail_output
from tradeproxy.cli.terminal import fit, width
from tradeproxy.cli.times import parse_time_argument
from tradeproxy.client import Update
from tradeproxy.config.env import Environment
from tradeproxy.wire.frame import extract_data

EVIL = "\x1b[2J\x1b]0;owned\x07\x9b31m\u202e\n"
SGR = re.compile(r"\x1b\[[0-9]*m")


class Screen(io.StringIO):
    """Standard output, or error, on a terminal."""

    def isatty(self) -> bool:
        return True


def update(
    recovered: str | None = None, at: str = "2026-07-24T14:42:50.132734Z", **fields: Any
) -> Update:
    """Return an update; what is no field of an event is its order's."""
    own = {"event": fields.pop("event", "new"), "at": at}
    own |= {name: fields.pop(name) for name in ("price", "qty") if name in fields}
    return Update(json.dumps({**own, "order": fields}).encode(), None, recovered)


class TailCase(SynchronousTestCase):
    """New York's clock, and a terminal of so many columns."""

    columns = 100

    def setUp(self) -> None:
        self.patch(
            tail_output, "get_terminal_size", lambda: type("Size", (), {"columns": self.columns})
        )
        self.environ(TZ="America/New_York")
        time.tzset()
        self.addCleanup(time.tzset)

    def environ(self, **variables: str) -> None:
        before = {name: os.environ.get(name) for name in variables}
        os.environ.update(variables)

        def restore() -> None:
            for name, value in before.items():
                os.environ.pop(name, None) if value is None else os.environ.update({name: value})

        self.addCleanup(restore)

    def table(
        self,
        *updates: Update,
        screen: io.StringIO | None = None,
        environ: dict[str, str] | None = None,
    ) -> list[str]:
        """Return the lines that a table of these is."""
        out = Screen() if screen is None else screen
        table = tail_output.Table(out, environ or {})
        for each in updates:
            table.show(each)
        return out.getvalue().split("\n")[:-1]


class TableTests(TailCase):
    """The columns."""

    def test_shows_what_an_event_is_about(self) -> None:
        """By this machine's clock; of a fill its own quantity and price, of an order its limit."""
        fill = update(
            event="fill",
            qty="2",
            price="512.33",
            side="buy",
            symbol="SPY",
            status="filled",
            client_order_id="a-1",
        )
        head, day, line = self.table(fill, environ={"NO_COLOR": "1"})
        self.assertEqual(head.split(), [*tail_output.NARROW_CELLS, "order"])
        self.assertEqual(day, "2026-07-24")
        self.assertEqual(
            line.split(), ["10:42:50.132", "fill", "buy", "2", "SPY", "512.33", "filled", "a-1"]
        )

    def test_every_column_begins_where_it_did(self) -> None:
        """Whatever comes: real events, long words, wide characters, none at all, and a restart's notices."""
        for self.columns in (80, 109, 110, 200):
            lines = self.table(
                *(Update(extract_data(frame)[0], None) for frame in TRADE_UPDATES),
                update(
                    event="order_replace_rejected",
                    symbol="東京証券取引所の株式会社",
                    status="x" * 50,
                    qty="1" * 50,
                ),
                update(symbol="AAPL260717C00200000", client_order_id="e\u0301" * 90),
                Update(b"{}", None),
                Update(b'{"order":[],"event":{"a":1}}', None),
                environ={"NO_COLOR": "1"},
            )
            rows = [line for line in lines if not re.fullmatch("[0-9-]{10}", line)]
            begin = tail_output.WIDE_CELLS if self.columns >= 110 else tail_output.NARROW_CELLS
            at = 0
            for cells in begin.values():
                at += cells + 1
                for row in rows:
                    self.assertEqual(cell_at(row, at - 1), " ", (at, row))
            self.assertEqual([row for row in rows if width(row) > self.columns], [])

    def test_a_cell_is_filled_or_cut_to_its_width(self) -> None:
        """In cells of the terminal, of which a wide character takes two and a combining one none."""
        for text, cells, expected in (
            ("ab", 4, "ab  "),
            ("東京", 5, "東京 "),
            ("東京証", 5, "東京…"),
            ("東京証", 4, "東… "),
            ("e\u0301e\u0301", 2, "e\u0301e\u0301"),
            ("abcde", 4, "abc…"),
            ("a", 0, ""),
        ):
            self.assertEqual(fit(text, cells), expected, text)
        self.assertEqual(fit("1.5", 5, right=True), "  1.5")

    def test_no_text_steers_the_terminal(self) -> None:
        """Whoever can place an order chooses its id, and Alpaca, or who stands in for it, all else."""
        hostile = update(
            event=EVIL, side=EVIL, symbol=EVIL, status=EVIL, client_order_id=EVIL, at=EVIL
        )
        self.columns = 400
        screen = Screen()
        self.table(hostile, update(recovered=EVIL), screen=screen)
        tail_output.JsonLines(screen).show(Update(b'{"a":"\xc2\x9b31m\xe2\x80\xae\x7f"}', None))
        notices = tail_output.Notices(screen, {})
        notices.show_status({"event": "upstream", "state": "down", "reason": EVIL})
        notices.write(EVIL)
        plain = SGR.sub("", screen.getvalue())
        self.assertEqual({each for each in plain if not each.isprintable()}, {"\n"})
        self.assertIn("\\u001b[2J\\u001b]0;owned\\u0007\\u009b31m\\u202e\\u000a", plain)

    def test_colour_is_for_terminals_that_want_it(self) -> None:
        """By the kind of event; not with NO_COLOR, not in a file, and not in a terminal that cannot."""
        fill = update(event="fill")
        self.assertTrue(self.table(fill)[-1].startswith("\x1b[32m"))
        for environ in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):
            self.assertNotIn("\x1b", "".join(self.table(fill, environ=environ)))
        self.assertNotIn("\x1b", "".join(self.table(fill, screen=io.StringIO())))

    def test_a_file_has_whole_lines(self) -> None:
        """With the date in each, no heads, and nothing cut at the width of some terminal."""
        self.columns = 20
        [line] = self.table(update(client_order_id="x" * 300), screen=io.StringIO())
        self.assertTrue(line.startswith("2026-07-24 10:42:50.132 "))
        self.assertTrue(line.endswith(" " + "x" * 300))

    def test_an_event_that_came_late_is_marked(self) -> None:
        """With where it was found."""
        self.columns = 200
        self.assertTrue(
            self.table(update("orders", client_order_id="a"), environ={"NO_COLOR": "1"})[-1].find(
                "[recovered: orders] a"
            )
            > 0
        )

    def test_json_is_byte_for_byte_in_a_file(self) -> None:
        """Even what a terminal is not shown."""
        out = io.StringIO()
        raw = '{"qty": 1.10,"a":"\x7f\u202e"}'
        tail_output.JsonLines(out).show(Update(raw.encode(), None))
        self.assertEqual(out.getvalue(), raw + "\n")
        screen = Screen()
        tail_output.JsonLines(screen).show(Update(raw.encode(), None))
        self.assertEqual(json.loads(screen.getvalue()), json.loads(raw))


class NoticesTests(TailCase):
    """What goes to standard error."""

    def told(self, *statuses: dict[str, Any]) -> list[str]:
        """Return what is said of these, without the time."""
        err = io.StringIO()
        notices = tail_output.Notices(err, {})
        for status in statuses:
            notices.show_status(status)
        return [line[13:] for line in err.getvalue().splitlines()]

    def test_one_line_a_change(self) -> None:
        """In words, with the reason."""
        begin, end = "2026-07-24T14:42:50.132734Z", "2026-07-24T14:43:00.000000Z"
        gap = {"event": "gap", "begin": begin, "end": end, "reason": ""}
        self.assertEqual(
            self.told(
                {"event": "connection", "state": "up"},
                {"event": "upstream", "state": "down", "since": begin, "reason": "connection lost"},
                {**gap, "end": None, "outcome": "pending", "events": 0},
                {**gap, "outcome": "recovered", "events": 3},
                {**gap, "outcome": "lost", "events": 0, "reason": "HTTP 403"},
                {"event": "journal", "state": "not durable", "since": begin, "reason": "disk full"},
                {"event": "replay", "state": "complete", "cursor": "x", "reason": ""},
                {"event": "something new"},
            ),
            [
                "connected to the proxy",
                "upstream down: connection lost",
                "gap: begins at 2026-07-24 10:42:50",
                "gap: recovered, 3 events found since 2026-07-24 10:42:50",
                "gap: lost, 0 events found since 2026-07-24 10:42:50: HTTP 403",
                "journal not durable: disk full",
            ],
        )

    def test_a_hello_tells_what_is_wrong(self) -> None:
        """What is well needs no words."""
        well = {"event": "hello", "upstream": {"state": "up"}, "journal": {"state": "durable"}}
        bad = {
            "event": "hello",
            "upstream": {"state": "down", "reason": "HTTP 429"},
            "journal": {"state": "durable"},
        }
        self.assertEqual(self.told(well, bad), ["upstream down: HTTP 429"])

    def test_a_hello_tells_of_gaps_that_are_news(self) -> None:
        """At first those that are still open; after a reconnect also what began or ended meanwhile."""

        def hello(*gaps: tuple[int, str]) -> dict[str, Any]:
            end = "2026-07-24T15:00:00.000000Z"
            told = [
                {
                    "begin": f"2026-07-24T14:0{n}:00Z",
                    "end": end,
                    "outcome": outcome,
                    "events": n,
                    "reason": "",
                }
                for n, outcome in gaps
            ]
            well = {"upstream": {"state": "up"}, "journal": {"state": "durable"}}
            return {"event": "hello", **well, "gaps": told}

        before = hello((1, "lost"), (2, "open"))
        after = hello((1, "lost"), (2, "recovered"), (3, "recovered"))
        lines = self.told(before, before, after, after)
        self.assertEqual(
            [line.partition(" events")[0] for line in lines],
            ["gap: open, 2", "gap: recovered, 2", "gap: recovered, 3"],
        )

    def test_one_trouble_is_told_once(self) -> None:
        """A proxy that is away for an hour does not fill the screen."""
        down = {"event": "connection", "state": "down", "reason": "refused", "retry_in": 0.5}
        up = {"event": "connection", "state": "up"}
        lines = self.told(down, down, {**down, "reason": "no route"}, down, down, up, down)
        said = [line.partition("next attempt now: ")[2] or line for line in lines]
        self.assertEqual(
            said, ["refused", "no route", "refused", "connected to the proxy", "refused"]
        )

    def test_a_trouble_that_goes_on_is_told_every_minute(self) -> None:
        """The reason comes last: Twisted's are long, and a terminal cuts off what is behind them."""
        clock, err = Clock(), io.StringIO()
        notices = tail_output.Notices(err, {}, clock.seconds)
        down = {
            "event": "connection",
            "state": "down",
            "reason": "cannot connect: x",
            "retry_in": 12.3,
        }
        for _ in range(13):
            notices.show_status(down)
            clock.advance(15)
        lines = [line[13:] for line in err.getvalue().splitlines()]
        self.assertEqual(
            lines, ["no connection to the proxy, next attempt in 12 s: cannot connect: x"] * 4
        )


class ArgumentTests(TailCase):
    """The command line and the environment."""

    def env(self, text: str = "", **variables: str) -> Environment:
        directory = Path(self.mktemp())
        directory.mkdir()
        Path(directory, ".env").write_text(text)
        Path(directory, ".env").chmod(0o600)
        return Environment.read(variables, directory, None)

    def parse(self, *arguments: str) -> Namespace:
        parser = ArgumentParser()
        tail.add_arguments(parser)
        return parser.parse_args(arguments)

    def test_the_proxy_is_this_machines(self) -> None:
        """At its own port, from where it has it too; --url can name another, or a whole stream."""
        read = tail._find_url
        self.assertEqual(read(self.env(), None, None), "ws://localhost:8099/trade-updates-paper")
        self.assertEqual(
            read(self.env("PROXY_PORT=9"), None, "live"), "ws://localhost:9/trade-updates-live"
        )
        self.assertEqual(
            read(self.env(), "wss://far/", "a/b?c"), "wss://far/trade-updates-a%2Fb%3Fc"
        )
        self.assertEqual(read(self.env(), "wss://far/desk/stream", None), "wss://far/desk/stream")
        self.assertEqual(read(self.env(), "https://far", None), "wss://far/trade-updates-paper")
        self.assertEqual(read(self.env(), "http://[::1]:9/http", None), "ws://[::1]:9/http")
        error = self.assertRaises(SystemExit, read, self.env(), "wss://far/desk", "live")
        self.assertTrue(str(error).startswith("--url: "), error)

    def test_a_token_is_never_an_argument(self) -> None:
        """It comes from a variable or a file; what is wrong with that names it, and not its content."""
        read = tail._read_token
        self.assertEqual(read(self.env(), None), "any")
        self.assertEqual(read(self.env(PROXY_TOKEN="hush"), None), "hush")
        file = Path(self.mktemp())
        for content, line in (
            (b"hush\n", ""),
            (b" \n", "is empty"),
            (b"\xff", "cannot be read (it is not text)"),
        ):
            file.write_bytes(content)
            if not line:
                self.assertEqual(read(self.env(PROXY_TOKEN="other"), str(file)), "hush")
                continue
            error = self.assertRaises(SystemExit, read, self.env(), str(file))
            self.assertEqual(str(error), f"--token-file: {line}")
        mistaken = self.parse("--token", "hush").token_file
        self.assertNotIn("hush", str(self.assertRaises(SystemExit, read, self.env(), mistaken)))

    def test_a_time_without_an_offset_is_this_machines(self) -> None:
        """As the times that it shows."""
        for text in ("2026-07-24T10:30", "2026-07-24T14:30:00Z", "2026-07-24 16:30+02:00"):
            self.assertEqual(self.parse("--since", text).since.timestamp(), 1784903400, text)
        self.assertEqual(self.parse("--since", "2026-07-24").since.timestamp(), 1784865600)
        self.assertRaises(ArgumentTypeError, parse_time_argument, "half past ten")


def cell_at(line: str, cell: int) -> str:
    """Return the character in one cell of a line; a blank behind its end."""
    at = 0
    for each in line:
        if at == cell and width(each):
            return each
        at += width(each)
    return " "
