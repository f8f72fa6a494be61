"""The recovery from orders, without access to the history, against the simulator."""

from __future__ import annotations

from random import Random

from tests.recovery.recovery_case import INTERVAL, OrdersTestCase
from tradeproxy.simulator.faults import FaultKind
from tradeproxy.simulator.orders import Order
from tradeproxy.wire.proxy_status import GapOutcome


class OrderRecoveryTests(OrdersTestCase):
    """Missed events are rebuilt from the orders."""

    def test_outage_with_old_and_new_order_delivers_both(self) -> None:
        """The old order is found by its id; all events are marked and precede newer ones."""
        old = self.submit_resting()
        self.advance(400)
        new: list[Order] = []

        def happens() -> None:
            self.cancel(old)
            new.append(self.submit())

        self.outage(happens)
        newer = self.submit_resting()
        self.advance(3)
        self.assertEqual(self.select_events(old), [("new", None), ("canceled", "orders")])
        self.assertEqual(self.select_events(newer), [("new", None)])
        self.assertEqual(self.select_events(new[0])[-1], ("fill", "orders"))
        self.assertEqual(self.recorder.frames[-1]["data"]["order"]["id"], newer.id)
        self.assertEqual(self.gap.outcome, GapOutcome.ORDERS)
        self.assertEqual(self.gap.reason, "the history is refused: HTTP 404")
        self.assert_all_is_delivered()

    def test_history_available_again_delivers_nothing_twice(self) -> None:
        """The history has the same changes under other ids; they count as delivered."""
        for _ in range(10):
            self.advance(65.1)  # so the outages start at different fractions of a second
            self.outage(self.submit, 0.4)
        self.advance(3)
        self.assert_all_is_delivered()
        delivered = len(self.recorder.frames)
        self.inject(FaultKind.HISTORY_REFUSE, count=0)
        self.outage(lambda: None)
        self.advance(3 + 2 * INTERVAL)
        self.assertEqual(self.gap.outcome, GapOutcome.RECOVERED)
        self.assertEqual(len(self.recorder.frames), delivered)

    def test_orders_rejected_too_loses_gap(self) -> None:
        """No source is left, and the reason names both rejections."""
        self.inject(FaultKind.REST_REFUSE, status=401, seconds=60.0)
        self.outage(self.submit)
        self.advance(3)
        self.assertEqual(self.gap.outcome, GapOutcome.LOST)
        self.assertIn("HTTP 401", self.gap.reason)

    def test_orders_unavailable_are_delivered_late(self) -> None:
        """After the deadline, the synthetic events are late."""
        old = self.submit_resting()
        self.inject(FaultKind.REST_REFUSE, status=500, seconds=15.0)
        self.outage(lambda: self.cancel(old))
        newer = self.submit_resting()
        self.advance(30)
        self.assertEqual(self.gap.outcome, GapOutcome.ORDERS)
        self.assertEqual(
            [
                (frame["data"]["order"]["id"], frame["data"]["event"])
                for frame in self.recorder.frames
            ],
            [(old.id, "new"), (newer.id, "new"), (old.id, "canceled")],
        )

    def test_check_omitted_fill_is_delivered_once(self) -> None:
        """The check finds the fill in the orders."""
        self.inject(FaultKind.SILENCE, seconds=1.0)
        self.submit()
        self.advance(INTERVAL + 5)
        self.assert_all_is_delivered()
        delivered = len(self.recorder.frames)
        self.advance(3 * INTERVAL)
        self.assertEqual(len(self.recorder.frames), delivered)

    def test_random_orders_and_outages_deliver_everything(self) -> None:
        """Some of the outages last longer than the deadline."""
        random = Random(7)
        resting: list[Order] = []
        for _ in range(25):
            if random.random() < 0.15:
                self.inject(FaultKind.REST_REFUSE, status=503, seconds=random.uniform(1, 20))
            self.outage(lambda: self.act_randomly(random, resting), random.uniform(0, 1.5))
            self.act_randomly(random, resting)
            self.advance(random.choice((0.1, 0.5, 3, 30)))
            self.act_randomly(random, resting)
            self.advance(random.choice((0.1, 0.5, 3, 30)))
        self.advance(100)
        self.assert_all_is_delivered()

    def act_randomly(self, random: Random, resting: list[Order]) -> None:
        for _ in range(random.randrange(4)):
            if resting and random.random() < 0.3:
                self.cancel(resting.pop())
            elif random.random() < 0.3:
                resting.append(self.submit_resting())
            else:
                self.submit()
