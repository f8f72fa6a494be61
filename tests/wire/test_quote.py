"""Tests for tradeproxy.wire.quote."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tradeproxy.wire.credentials import Secret
from tradeproxy.wire.quote import MAX_QUOTE, hide_keys, quote_text


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

    def test_four_characters_of_a_secret_make_a_word_unfit(self) -> None:
        """In any place of the word; fewer may be by chance. A shorter secret counts as a whole."""
        for word, shown in (
            *(("xSECRx", "..."), ("xECREx", "..."), ("xCRETx", "..."), ("xSECx", "xSECx")),
            *(("xRETx", "xRETx"), ("xabcx", "..."), ("xbcx", "xbcx")),
        ):
            self.assertEqual(quote_text(word, [Secret("SECRET"), Secret("abc")]), shown, word)

    def test_secret_split_into_words_hides_the_whole_text(self) -> None:
        """As it is, or as hexadecimal digits."""
        for text in ("a SE CR b", "S-E-C-R", "a 53 45 43 52 b", "4a 53:45:43:52"):
            self.assertEqual(quote_text(text, [Secret("SECRET")]), "...", text)
        self.assertEqual(quote_text("a SE C b", [Secret("SECRET")]), "a SE C b")


class KeyTests(SynchronousTestCase):
    """A value of a setting, in the line about its error."""

    def test_what_may_be_a_key_is_hidden(self) -> None:
        """A user may put a key into the wrong variable. Case does not matter."""
        key = "PKABCDEFGHIJ0123"
        for given in (key, f"http://{key}@host", f"a,{key},b", f"{key}+/-_"):
            shown = hide_keys(f"'{given.lower()}' is not a number", given)
            self.assertNotIn(key.lower(), shown)
            self.assertIn("...", shown)
            self.assertTrue(shown.endswith("is not a number"))

    def test_words_and_numbers_stay(self) -> None:
        """They say what is wrong. So does a part of the line that is not of the value."""
        for given in ("PKABCDEFGHIJ012", "a-very-long-name_of/a-path", "1234567890123456"):
            self.assertEqual(hide_keys(f"{given} is wrong", given), f"{given} is wrong")
        line = "ALPACA_API_SECRET_KEY2 is wrong"
        self.assertEqual(hide_keys(line, "x"), line)

    def test_key_within_another_is_hidden_with_it(self) -> None:
        """The longer one first: its rest would show a part of it."""
        short, long = "PKABCDEFGHIJ0123", "PKABCDEFGHIJ0123XYZ9"
        self.assertEqual(hide_keys(f"{long} {short}", f"{short} {long}"), "... ...")
