"""The recovery by orders, where the history is refused, against the simulator's exchange."""

from __future__ import annotations

from random import Random

from tests.recovery.recovery_case import INTERVAL, OrdersTestCase
from tradeproxy.simulator.faults import FaultKind
from tradeproxy.simulator.orders import Order
from tradeproxy.wire.proxy_status import GapOutcome


class OrdersTests(OrdersTestCase):
    """What was missed is made of the orders."""

    def test_an_old_order_that_ended_and_a_new_one_are_told(self) -> None:
        """The old one is found by its id only; all of it is marked, and comes before what is newer."""
        old = self.rest_order()
        self.advance(400)
        new: list[Order] = []

        def happens() -> None:
            self.cancel(old)
            new.append(self.submit())

        self.outage(happens)
        newer = self.rest_order()
        self.advance(3)
        self.assertEqual(self.events_of(old), [("new", None), ("canceled", "orders")])
        self.assertEqual(self.events_of(newer), [("new", None)])
        self.assertEqual(self.events_of(new[0])[-1], ("fill", "orders"))
        self.assertEqual(self.reader.frames[-1]["data"]["order"]["id"], newer.id)
        self.assertEqual(self.gap.outcome, GapOutcome.ORDERS)
        self.assertEqual(self.gap.reason, "the history is refused: HTTP 404")
        self.assert_all_is_told()

    def test_nothing_is_told_twice_when_the_history_comes_back(self) -> None:
        """The period is known from then on, though the history has events with other ids."""
        for _ in range(10):
            self.advance(
                65.1
            )  # so that they begin in all parts of a second, and end a second later
            self.outage(self.submit, 0.4)
        self.advance(3)
        self.assert_all_is_told()
        told = len(self.reader.frames)
        self.inject(FaultKind.HISTORY_REFUSE, count=0)
        self.outage(lambda: None)
        self.advance(3 + 2 * INTERVAL)
        self.assertEqual(self.gap.outcome, GapOutcome.RECOVERED)
        self.assertEqual(len(self.reader.frames), told)

    def test_orders_that_are_refused_too_are_lost(self) -> None:
        """There is nothing left to ask, and both reasons are told."""
        self.inject(FaultKind.REST_REFUSE, status=401, seconds=60.0)
        self.outage(self.submit)
        self.advance(3)
        self.assertEqual(self.gap.outcome, GapOutcome.LOST)
        self.assertIn("HTTP 401", self.gap.reason)

    def test_orders_that_are_slow_are_waited_for(self) -> None:
        """Past the deadline they come late."""
        old = self.rest_order()
        self.inject(FaultKind.REST_REFUSE, status=500, seconds=15.0)
        self.outage(lambda: self.cancel(old))
        newer = self.rest_order()
        self.advance(30)
        self.assertEqual(self.gap.outcome, GapOutcome.ORDERS)
        self.assertEqual(
            [
                (frame["data"]["order"]["id"], frame["data"]["event"])
                for frame in self.reader.frames
            ],
            [(old.id, "new"), (newer.id, "new"), (old.id, "canceled")],
        )

    def test_a_check_finds_what_a_healthy_stream_left_out(self) -> None:
        """The orders tell, if nothing else does, and only once."""
        self.inject(FaultKind.SILENCE, seconds=1.0)
        self.submit()
        self.advance(INTERVAL + 5)
        self.assert_all_is_told()
        told = len(self.reader.frames)
        self.advance(3 * INTERVAL)
        self.assertEqual(len(self.reader.frames), told)

    def test_whatever_happens_and_whenever_the_stream_is_away_all_is_told(self) -> None:
        """Orders and outages in any order, some of which last longer than the deadline."""
        random = Random(7)
        resting: list[Order] = []
        for _ in range(25):
            if random.random() < 0.15:
                self.inject(FaultKind.REST_REFUSE, status=503, seconds=random.uniform(1, 20))
            self.outage(lambda: self.act(random, resting), random.uniform(0, 1.5))
            self.act(random, resting)
            self.advance(random.choice((0.1, 0.5, 3, 30)))
            self.act(random, resting)
            self.advance(random.choice((0.1, 0.5, 3, 30)))
        self.advance(100)
        self.assert_all_is_told()

    def act(self, random: Random, resting: list[Order]) -> None:
        for _ in range(random.randrange(4)):
            if resting and random.random() < 0.3:
                self.cancel(resting.pop())
            elif random.random() < 0.3:
                resting.append(self.rest_order())
            else:
                self.submit()
