"""Tests for tradeproxy.downstream.encoder."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.support.journals import memory_journal
from tradeproxy.downstream.encoder import FrameEncoder, add_cursor
from tradeproxy.hub.account import Account
from tradeproxy.journal.base import Batch, Row


def frame_in_brackets(payload: bytes) -> bytes:
    """Return a stand-in for a WebSocket frame."""
    return b"<%s>" % payload


class FrameEncoderTests(SynchronousTestCase):
    """FrameEncoder encodes a batch for clients."""

    def setUp(self) -> None:
        clock = Clock()
        self.account = Account("paper", memory_journal(clock), clock)

    def test_encode_second_call_returns_the_cached_bytes(self) -> None:
        """The same object is returned, not only equal bytes."""
        encoder = FrameEncoder(frame_in_brackets)
        batch = Batch((Row(1, b"{}"), Row(2, b"{ }")))
        frames = encoder.encode(batch, self.account)
        self.assertEqual(frames, b"<{}><{ }>")
        self.assertIs(encoder.encode(batch, self.account), frames)

    def test_add_cursor_row_not_durable_has_no_cursor(self) -> None:
        """A row that is not on the disk yet has no cursor; every other row has one."""
        batch = Batch((Row(1, b'{"a":1}'), Row(2, b'{"b":1}', durable=False)))
        cursor = self.account.cursor_after(batch.rows[0])
        expected = f'<{{"a":1,"cursor":"{cursor}"}}><{{"b":1}}>'.encode()
        self.assertEqual(
            FrameEncoder(frame_in_brackets, add_cursor).encode(batch, self.account), expected
        )

    def test_encode_batch_with_hole_returns_none(self) -> None:
        """A hole cannot be encoded, so that no caller skips it unnoticed."""
        self.assertIsNone(
            FrameEncoder(frame_in_brackets).encode(
                Batch((Row(1, b"{}"), Row(2, None))), self.account
            )
        )
