"""Tests for tradeproxy.wire.quote."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tradeproxy.wire.credentials import Secret
from tradeproxy.wire.quote import MAX_QUOTE, quote_text


class QuoteTests(SynchronousTestCase):
    """A text of a peer that knows our secrets."""

    def test_text_is_cut_and_escaped(self) -> None:
        """A log line and a terminal get no control character, and no endless text."""
        self.assertEqual(quote_text("a\x1b[2J é\n b", []), "a\\x1b[2J \\xe9\\n b")
        self.assertEqual(quote_text("a " * 1000, []), ("a " * (MAX_QUOTE // 2)).strip())

    def test_longer_words_are_quoted_on_request(self) -> None:
        """Except words with a part of a secret."""
        for word, quote in (("x" * 36, "x" * 36), ("x" * 37, "..."), ("xxSECRxx", "...")):
            self.assertEqual(quote_text(word, [Secret("SECRET")], 36), quote)
