"""The lines of the trade log: an event's line, and the cursor at the end of a line.

Each event is one line, which ends with its cursor. So a line that was cut off by a crash has none.
"""

from __future__ import annotations

import re
from typing import NamedTuple, assert_never

from tradeproxy.config.trade_log import TradeLogFormat
from tradeproxy.journal.base import Row
from tradeproxy.tradelog.columns import COLUMNS, list_cells, read_logged_event
from tradeproxy.tradelog.csv_text import format_line
from tradeproxy.wire.position import Cursor
from tradeproxy.wire.printable import escape_unprintable
from tradeproxy.wire.trade_date import trade_date

_TEXT = rb"([a-z0-9_]{1,64}\.[0-9a-f]{16}\.[0-9]{1,18}\.[0-9a-f]{8})"
_CURSOR = re.compile(rb',%b\r?\Z|"%b"\}\r?\Z' % (_TEXT, _TEXT))


class Line(NamedTuple):
    """A line of the trade log."""

    file: str
    """The name of the file to which it belongs: `<account>-<date>.<format>`."""
    cursor: str
    """The cursor behind its event."""
    text: bytes
    """The line with its end."""


class LineFormat:
    """Makes the lines of one account."""

    def __init__(self, account: str, kind: TradeLogFormat) -> None:
        self._account = account
        self._kind = kind
        self.header = b""
        """The first line of a file."""
        if kind is TradeLogFormat.CSV:
            self.header = f"{format_line([*COLUMNS, 'cursor'])}\n".encode()
        date = "[0-9]{4}-[0-9]{2}-[0-9]{2}"
        self.pattern = re.compile(rf"{re.escape(account)}-{date}\.{kind.value}")
        """The names of the account's files."""
        trade_date(0)  # reads the zone of New York now: the first event is not the time for that

    def make_line(self, row: Row, time: int, cursor: str) -> Line:
        """Return the line of an event; `time` (microseconds since 1970) decides the trade date.

        Control characters in a field of CSV, such as line breaks, are escaped as in JSON. Raises
        RecursionError or ValueError for data that cannot be written.
        """
        assert row.payload is not None
        event = read_logged_event(row.payload)
        match self._kind:
            case TradeLogFormat.CSV:
                cells = map(escape_unprintable, list_cells(event))
                text = format_line([*cells, cursor]).encode()
            case TradeLogFormat.JSONL:
                mark = "" if event.recovered is None else f'"recovered":"{event.recovered}",'
                start = event.raw.rstrip()[:-1].rstrip()
                comma = b"" if start == b"{" else b","
                text = start + comma + f'{mark}"cursor":"{cursor}"}}'.encode()
            case _:  # pragma: no cover
                assert_never(self._kind)
        return Line(self.name_file(time), cursor, text + b"\n")

    def name_file(self, time: int) -> str:
        """Return the name of the file for events of a time (microseconds since 1970)."""
        return f"{self._account}-{trade_date(time).isoformat()}.{self._kind.value}"


def read_cursor(line: bytes) -> Cursor | None:
    """Return the cursor at the end of a line, which has no line end; None if there is none."""
    match = _CURSOR.search(line[-160:])
    return None if match is None else Cursor.parse((match[1] or match[2]).decode())
