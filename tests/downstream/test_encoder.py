"""Tests for tradeproxy.downstream.encoder, and for what is made once."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.support.journals import memory_journal
from tradeproxy.downstream.encoder import cursor_encoder, plain_encoder
from tradeproxy.hub.account import Account
from tradeproxy.journal.base import Batch, Row


def bracketed(payload: bytes) -> bytes:
    """Stand for a WebSocket frame."""
    return b"<%s>" % payload


class FramingTests(SynchronousTestCase):
    """A burst as the clients are sent it."""

    def setUp(self) -> None:
        clock = Clock()
        self.account = Account("paper", memory_journal(clock), clock)

    def test_is_made_once_for_all(self) -> None:
        """The same bytes, not equal ones."""
        framing = plain_encoder(bracketed)
        burst = Batch((Row(1, b"{}"), Row(2, b"{ }")))
        frames = framing.encode(burst, self.account)
        self.assertEqual(frames, b"<{}><{ }>")
        self.assertIs(framing.encode(burst, self.account), frames)

    def test_adds_a_cursor_where_there_is_one(self) -> None:
        """A row that is not on the disk has none."""
        burst = Batch((Row(1, b'{"a":1}'), Row(2, b'{"b":1}', durable=False)))
        cursor = self.account.cursor_after(burst.rows[0])
        expected = f'<{{"a":1,"cursor":"{cursor}"}}><{{"b":1}}>'.encode()
        self.assertEqual(cursor_encoder(bracketed).encode(burst, self.account), expected)

    def test_a_burst_with_a_hole_has_no_frames(self) -> None:
        """Nobody shall pass over it unaware."""
        self.assertIsNone(
            plain_encoder(bracketed).encode(Batch((Row(1, b"{}"), Row(2, None))), self.account)
        )
