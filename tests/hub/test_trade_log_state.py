"""Tests for tradeproxy.hub.trade_log_state."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tradeproxy.hub.trade_log_state import TradeLogState


class TradeLogStateTests(SynchronousTestCase):
    """What metrics show of a trade log."""

    def test_new_trade_log_has_every_count_at_zero(self) -> None:
        """Prometheus computes no rate from a series that begins with its first row."""
        state = TradeLogState()
        self.assertEqual((state.rows, state.missing, state.position), (0, 0, None))
