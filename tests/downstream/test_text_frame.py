"""The frame of a text: that of tradeproxy.downstream.encoder."""

from __future__ import annotations

from autobahn.twisted.websocket import WebSocketServerFactory
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tradeproxy.downstream.encoder import encode_text


class TextFrameTests(SynchronousTestCase):
    """encode_text makes the frame that Autobahn makes."""

    def test_frame_equals_autobahns(self) -> None:
        """For every form of the length."""
        factory = WebSocketServerFactory(reactor=Clock())
        for size in (0, 1, 125, 126, 127, 65_535, 65_536, 100_000):
            payload = b"x" * size
            expected = factory.prepareMessage(payload).payloadHybi
            self.assertEqual(encode_text(payload), expected, size)
