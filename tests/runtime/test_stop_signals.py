"""Tests for tradeproxy.runtime.stop_signals; tests/integration/test_stop_signals.py sends some."""

from __future__ import annotations

from twisted.application.service import MultiService, Service
from twisted.trial.unittest import SynchronousTestCase

from tradeproxy.runtime.stop_signals import shorten_stop


class WaitingService(Service):
    """A service that waits for the other side at its stop."""

    def __init__(self) -> None:
        self.shortened = 0

    def shorten_stop(self) -> None:
        self.shortened += 1


class ShortenedStopTests(SynchronousTestCase):
    """What the second signal changes."""

    def test_every_service_that_waits_is_shortened(self) -> None:
        """However deep it is in the tree."""
        tree, inner, waiting = MultiService(), MultiService(), WaitingService()
        Service().setServiceParent(tree)
        inner.setServiceParent(tree)
        waiting.setServiceParent(inner)
        shorten_stop(tree)
        self.assertEqual(waiting.shortened, 1)
