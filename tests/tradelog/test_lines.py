"""Tests for tradeproxy.tradelog.lines."""

from __future__ import annotations

import csv
import io
import json

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.support.journals import event, row, time_of
from tests.support.properties import examples
from tradeproxy.config.trade_log import TradeLogFormat
from tradeproxy.journal.base import Row
from tradeproxy.tradelog.columns import COLUMNS
from tradeproxy.tradelog.lines import LineFormat, read_cursor
from tradeproxy.wire.frame import Recovered, frame_event, with_mark
from tradeproxy.wire.position import Cursor

CURSOR = "paper.0123456789abcdef.7.89abcdef"


class LineTests(SynchronousTestCase):
    """An event is one line, which ends with its cursor."""

    def make(self, kind: TradeLogFormat, payload: bytes) -> bytes:
        """Return the line of an event, without its end."""
        line = LineFormat("paper", kind).make_line(Row(7, payload), time_of(1), CURSOR)
        self.assertEqual(line.cursor, CURSOR)
        self.assertTrue(line.text.endswith(b"\n"))
        return line.text[:-1]

    def test_json_line_is_the_data_with_two_members(self) -> None:
        """The data is as Alpaca sent it."""
        payload = with_mark(frame_event(b'{"a": 1.50 }'), Recovered.EVENTS)
        self.assertEqual(
            self.make(TradeLogFormat.JSONL, payload),
            b'{"a": 1.50,"recovered":"events","cursor":"%s"}' % CURSOR.encode(),
        )
        self.assertEqual(
            json.loads(self.make(TradeLogFormat.JSONL, frame_event(b"{ }"))), {"cursor": CURSOR}
        )

    def test_name_has_the_trade_date(self) -> None:
        """An event after 20:00 in New York is of the next day."""
        line_format = LineFormat("desk_1", TradeLogFormat.JSONL)
        self.assertEqual(line_format.name_file(time_of(0)), "desk_1-2026-09-21.jsonl")
        evening = time_of(10 * 3600)  # 20:13 in New York
        self.assertEqual(line_format.name_file(evening), "desk_1-2026-09-22.jsonl")

    def test_names_of_other_files_do_not_match(self) -> None:
        """Another account's, of the other format, or the user's own."""
        pattern = LineFormat("paper", TradeLogFormat.CSV).pattern
        self.assertTrue(pattern.fullmatch("paper-2026-09-21.csv"))
        for name in ("live-2026-09-21.csv", "paper-2026-09-21.jsonl", "paper-2026-09-21.csv.gz"):
            self.assertFalse(pattern.fullmatch(name))

    @given(st.text(max_size=20))
    @examples()
    def test_any_text_is_one_line_that_is_read_back(self, text: str) -> None:
        """A client chooses its client_order_id, with line breaks and what looks like a cursor."""
        payload = row(7, event(1, reason=f"{text}\n,{CURSOR}")).payload
        assert payload is not None
        for kind in TradeLogFormat:
            line = self.make(kind, payload)
            self.assertNotIn(b"\n", line)
            self.assertEqual(read_cursor(line), Cursor.parse(CURSOR))
        line = self.make(TradeLogFormat.CSV, payload)
        [cells] = csv.reader(io.StringIO(line.decode(), newline=""))
        self.assertEqual(len(cells), len(COLUMNS) + 1)

    def test_part_of_a_line_has_no_cursor(self) -> None:
        """So a line that was cut off anywhere is found."""
        payload = event(1).payload
        for kind in TradeLogFormat:
            line = self.make(kind, payload)
            found = [size for size in range(len(line) + 1) if read_cursor(line[:size])]
            self.assertEqual(found, [len(line)])

    @given(st.binary(max_size=200) | st.binary(max_size=40).map(lambda end: CURSOR.encode() + end))
    @examples()
    def test_any_line_can_be_read(self, line: bytes) -> None:
        """Another program, or a damaged disk, may have written it."""
        read_cursor(line)
