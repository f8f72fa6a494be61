"""Tests for tradeproxy.wire.amount."""

from __future__ import annotations

import json
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.support.properties import examples
from tradeproxy.wire.amount import (
    is_more,
    normalize_amount,
    parse_amount,
    read_float,
    read_int,
)
from tradeproxy.wire.messages import TradeUpdate, parse_server

DIGITS = "1234567890" * 4


class AmountTests(SynchronousTestCase):
    """Numbers of Alpaca, of clients and of files."""

    def test_number_within_the_bounds_is_parsed(self) -> None:
        """At most 40 digits, and an exponent of at most 30 in either direction."""
        for text in (
            *("0", "-0", "10", "10.50", ".5", "5.", "+1", "1e3", "1E+30", "1e-30", "1e030"),
            *(DIGITS, f"-{DIGITS[:20]}.{DIGITS[20:]}", f"0.{DIGITS[:39]}e-30"),
        ):
            self.assertEqual(parse_amount(text), Decimal(text), text)

    def test_other_text_is_no_number(self) -> None:
        """The first two took gigabytes, or ended the recovery."""
        for text in (
            *("1e-999999999", "1e50000000", "1e31", "1e-31", "1e0000", DIGITS + "1", f"0.{DIGITS}"),
            *(
                "",
                ".",
                "1.2.3",
                "NaN",
                "sNaN",
                "Infinity",
                "-inf",
                "1_0",
                " 1",
                "1\n",
                "0x1",
                "\u0661",
            ),
            *("1e", "e1", "1e1.5", "--1", "1" * 10_000_000),
        ):
            self.assertIsNone(parse_amount(text), text[:50])

    def test_hash_of_an_execution_stays_as_it_was(self) -> None:
        """Stored journals depend on it: equal amounts have one text, which has not changed."""
        for written, normal in (
            *(("10", "1E+1"), ("10.0", "1E+1"), ("0.50", "0.5"), ("0", "0"), ("0.00", "0")),
            *(("1e3", "1E+3"), ("-5", "-5"), ("123.4500", "123.45"), ("", ""), ("x", "x")),
            *(("0.000000001", "1E-9"), ("NaN", "NaN"), ("1E+30", "1E+30")),
        ):
            self.assertEqual(normalize_amount(written), normal)
        self.assertEqual(normalize_amount("1e31"), "1e31")
        frame = (
            b'{"stream":"trade_updates","data":{"event":"fill","event_id":"E","execution_id":"X",'
            b'"qty":%b,"price":"150.50","order":{"id":"O"}}}'
        )
        for qty in (b'"10"', b'"10.0"', b"10", b"1e1"):
            message = parse_server(frame % qty)
            assert isinstance(message, TradeUpdate)
            self.assertEqual(message.event.execution.hex(), "0985c03efa9849b9ab8c64261bf551eb")

    def test_comparison_needs_two_numbers(self) -> None:
        """What cannot be compared is not newer."""
        self.assertTrue(is_more("10", "9.5"))
        for text, other in (("9.5", "10"), ("1", "1.0"), ("x", "1"), ("1", "x"), ("1e99", "1")):
            self.assertFalse(is_more(text, other))

    def test_json_number_beyond_the_bounds_stays_text(self) -> None:
        """Python raises an error for a whole number of 4301 digits, and makes inf of 1e999."""
        document = json.loads(
            f"[1, -20, 1.5, 1e3, {DIGITS}, {DIGITS}1, {'9' * 5000}, 1e999, -1e-999]",
            parse_int=read_int,
            parse_float=read_float,
        )
        texts = [f"{DIGITS}1", "9" * 5000, "1e999", "-1e-999"]
        self.assertEqual(document, [1, -20, 1.5, 1e3, int(DIGITS), *texts])

    @staticmethod
    def normalize(text: str) -> str:
        """Return what Decimal makes of a number: `normalize_amount` has a shorter way for most."""
        if (number := parse_amount(text)) is None:
            return text
        return str(number.normalize()) if number else "0"

    @examples()
    @given(st.from_regex(r"[0-9]{1,12}(\.[0-9]{1,12})?", fullmatch=True))
    def test_usual_amount_is_normalized_as_any_other(self, text: str) -> None:
        """Most quantities and prices do not need Decimal. Stored journals have its text."""
        self.assertEqual(normalize_amount(text), self.normalize(text))

    @examples()
    @given(st.text("0123456789.eE+-", max_size=60) | st.text() | st.decimals().map(str))
    def test_any_text_is_safe(self, text: str) -> None:
        """No text raises an error, and every number is small enough to compute with."""
        number = parse_amount(text)
        self.assertEqual(normalize_amount(text), self.normalize(text))
        if number is not None:
            self.assertLess(len(f"{number - 1:f}"), 120)
