"""Tests for tradeproxy.wire.printable."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.support.properties import examples
from tradeproxy.wire.printable import escape_character, escape_unprintable, replace_surrogates


class PrintableTests(SynchronousTestCase):
    """Texts of others, on a terminal and in a file."""

    def test_what_controls_a_terminal_is_escaped(self) -> None:
        """Such as an escape sequence, or a character that turns the direction of the text."""
        for text, escaped in (
            ("a ~é漢😀", "a ~é漢😀"),
            ("\x1b[2J\n\x7f", "\\u001b[2J\\u000a\\u007f"),
            ("\u202e\u200b\xa0", "\\u202e\\u200b\\u00a0"),
            ("\ud800", "\\ud800"),
            ("\uffff\U000e0001", "\\uffff\\udb40\\udc01"),
        ):
            self.assertEqual(escape_unprintable(text), escaped)

    def test_character_beyond_16_bits_is_a_surrogate_pair(self) -> None:
        """JSON has no other form of it."""
        for character in ("\U00010000", "\U0010ffff", "😀", "\uffff"):
            self.assertEqual(json.loads(f'"{escape_character(character)}"'), character)

    @examples()
    @given(st.text(st.characters(min_codepoint=0x20)))
    def test_escaped_json_has_the_same_content(self, text: str) -> None:
        """A program may read what is shown."""
        document = json.dumps(text, ensure_ascii=False)
        self.assertEqual(json.loads(escape_unprintable(document)), text)

    def test_lone_surrogate_is_replaced(self) -> None:
        """JSON can contain one, and no file in UTF-8 can."""
        for text, replaced in (("a", "a"), ("é😀", "é😀"), ("é\ud800b", "é?b")):
            self.assertEqual(replace_surrogates(text), replaced)
