"""An account with a subscriber that records, for tests of the hub."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tests.support.journals import MemoryCase, event, time_of
from tradeproxy.hub.account import Account

if TYPE_CHECKING:
    from collections.abc import Callable

    from tradeproxy.journal.base import Batch

BEGIN = time_of(0) // 1_000_000
"""When the tests begin (Unix time): one second before the time of event 1."""


class PayloadSubscriber:
    """A subscriber that records what it gets, then calls `on_delivery`."""

    size = 1

    def __init__(self, on_delivery: Callable[[], object] = lambda: None) -> None:
        self.batches: list[list[bytes | None]] = []
        self.statuses: list[dict[str, Any]] = []
        self.last: Batch | None = None
        self._on_delivery = on_delivery

    def deliver(self, batch: Batch) -> None:
        """Record the payloads."""
        self.last = batch
        self.batches.append([row.payload for row in batch.rows])
        self._on_delivery()

    def announce(self, status: bytes) -> None:
        """Record the content of the frame."""
        self.statuses.append(json.loads(status)["data"])

    def abort(self) -> None:
        """Do nothing: no delivery fails here."""


class AccountTestCase(MemoryCase):
    """A base class with an account and one subscriber."""

    now = BEGIN

    def setUp(self) -> None:
        super().setUp()
        self.journal = self.open()
        self.account = Account("paper", self.journal, self.clock)
        self.subscriber = PayloadSubscriber()
        self.account.broadcaster.register(self.subscriber)

    def assert_delivered(self, *batches: list[int]) -> None:
        """Assert that exactly these batches were delivered, by the numbers of their events."""
        self.assertEqual(
            self.subscriber.batches, [[event(n).payload for n in batch] for batch in batches]
        )

    def publish(self, *numbers: int) -> None:
        for n in numbers:
            self.account.publish(event(n))
