"""Tests for what commands write in an encoding that lacks characters."""

from __future__ import annotations

import io
import json

from twisted.trial.unittest import SynchronousTestCase

from tradeproxy.cli.export_formats import write_csv, write_lines
from tradeproxy.cli.streams import JSON_ESCAPE, replace_unencodable
from tradeproxy.cli.tail_output import Table
from tradeproxy.client import Update
from tradeproxy.tradelog.columns import LoggedEvent

DATA = {"event": "fill", "order": {"symbol": "A\u00e9\u20ac\U0001f600B"}}


class EncodingTests(SynchronousTestCase):
    """A stream in ASCII, as under LC_ALL=C or after `PYTHONIOENCODING=ascii`."""

    def setUp(self) -> None:
        self.raw = io.BytesIO()
        self.out = io.TextIOWrapper(self.raw, encoding="ascii")

    def get_text(self) -> str:
        self.out.flush()
        return self.raw.getvalue().decode("ascii")

    def test_table_replaces_character(self) -> None:
        """The row is there, with a mark for each character."""
        replace_unencodable(self.out, "replace")
        Table(self.out, {}).show(Update(json.dumps(DATA, ensure_ascii=False).encode(), None))
        self.assertTrue(self.get_text().endswith(" A???B\n"))

    def test_export_escapes_character_as_json_does(self) -> None:
        """A spreadsheet shows the escape, and JSON lines have the same content."""
        raw = json.dumps(DATA, ensure_ascii=False).encode()
        replace_unencodable(self.out, JSON_ESCAPE)
        exported = LoggedEvent(raw, DATA, None)
        self.assertEqual(write_csv(iter([exported]), self.out, lambda _: "(none)"), 1)
        self.assertEqual(write_lines(iter([exported]), self.out), 1)
        _, row, line = self.get_text().splitlines()
        self.assertIn(",A\\u00e9\\u20ac\\ud83d\\ude00B,", row)
        self.assertEqual(json.loads(line), DATA)
