"""Tests for tradeproxy.wire.position."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.support.properties import examples
from tradeproxy.wire.position import Cursor, compute_check

EPOCH = "0123456789abcdef"


class CursorTests(SynchronousTestCase):
    """Cursors as text."""

    @examples()
    @given(
        st.from_regex(r"[a-z0-9_]{1,64}", fullmatch=True), st.integers(0, 10**18 - 1), st.binary()
    )
    def test_parse_of_formatted_cursor_is_equal(
        self, account: str, seq: int, payload: bytes
    ) -> None:
        """The text needs no escaping in a URL."""
        cursor = Cursor(account, EPOCH, seq, compute_check(payload))
        self.assertRegex(str(cursor), r"\A[a-z0-9_.]+\Z")
        self.assertEqual(Cursor.parse(str(cursor)), cursor)

    def test_parse_other_text_returns_none(self) -> None:
        """Event ids, truncated cursors and surrounding text do not parse."""
        whole = str(Cursor("paper", EPOCH, 7, 1))
        self.assertIsNotNone(Cursor.parse(whole))
        for text in (
            "",
            "01KYA98EMMAHZ1EAE2B7SQVP4M",
            whole[:-1],
            f" {whole}",
            f"{whole}\n",
            whole.upper(),
        ):
            self.assertIsNone(Cursor.parse(text), text)

    def test_check_differs_between_events(self) -> None:
        """A sequence number without an event has 0."""
        self.assertNotEqual(compute_check(b"one"), compute_check(b"other"))
        self.assertEqual(compute_check(None), 0)
