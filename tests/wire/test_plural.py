"""Tests for tradeproxy.wire.plural: numbers with a noun."""

from __future__ import annotations

import re
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

import tradeproxy
from tradeproxy.wire.plural import plural

PACKAGE = Path(tradeproxy.__file__).parent
COUNTED = re.compile(
    r"""\{(?:count|clients|number|events|connected|left|account\['events_today'\])\}"""
    r""" (?:\w+ )?(?:events|clients|trades|accounts|gaps)\b"""
)


class PluralTests(SynchronousTestCase):
    """The log and the commands had "closed 1 clients" and "1 events found"."""

    def test_one_has_no_ending(self) -> None:
        """Only one."""
        self.assertEqual(
            [plural(number, "event") for number in (0, 1, 2)], ["0 events", "1 event", "2 events"]
        )

    def test_no_text_has_a_fixed_ending_behind_a_number(self) -> None:
        """The formats of log lines and the output of commands."""
        found = [
            match[0]
            for path in PACKAGE.rglob("*.py")
            for match in COUNTED.finditer(path.read_text(encoding="utf-8"))
        ]
        self.assertEqual(found, [])
