"""Tests of the plan of a chaos run, and of the orders in it."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.support.memory import simulator
from tests.system.chaos.nemesis import ALL_FROM, Nemesis, UnknownFaultError
from tests.system.chaos.numbered import NumberedEvents
from tests.system.chaos.orders import NumberedOrders
from tests.system.chaos.run import ChaosWorld


class PlanTests(SynchronousTestCase):
    """Which faults a run has."""

    def setUp(self) -> None:
        directory = Path(self.mktemp())
        directory.mkdir()
        self.nemesis = Nemesis(ChaosWorld(str(directory), Random(0)), [], Random(0))

    def test_plan_of_many_faults_has_each_long_one_once(self) -> None:
        """A short run has none of them."""
        plan = list(self.nemesis.plan(ALL_FROM))
        self.assertEqual(len(plan), ALL_FROM)
        for name in ("mute_stream", "history_500", "remove_journal", "overflow_backlog"):
            self.assertEqual(plan.count(name), 1, name)
            self.assertNotIn(name, self.nemesis.plan(ALL_FROM - 1))

    def test_plan_of_names_has_each_in_turn(self) -> None:
        """By default each once, long or short."""
        names = ["mute_stream", "kill_proxy"]
        self.assertEqual(list(self.nemesis.plan(None, names)), names)
        self.assertEqual(list(self.nemesis.plan(3, names)), [*names, "mute_stream"])

    def test_plan_unknown_name_lists_all(self) -> None:
        """The error names the unknown one first."""
        error = self.assertRaises(UnknownFaultError, self.nemesis.plan, None, ["mute"])
        self.assertRegex(str(error), "^mute: one of .*history_500.*mute_stream")


class NumberedOrdersTests(SynchronousTestCase):
    """Orders whose events are numbered."""

    def setUp(self) -> None:
        self.events = NumberedEvents(simulator(Clock()), Random(0))
        self.orders = NumberedOrders(self.events)

    def test_order_events_are_numbered(self) -> None:
        """They share the numbers of all events, and each is found by its order and kind."""
        self.events.emit(1)
        opened, (canceled,) = self.orders.open(2), self.orders.cancel(1)
        self.assertEqual((opened, canceled), ([2, 3], 4))
        last = json.loads(self.events.alpaca.history.last(1)[0].data)
        self.assertEqual((last["n"], last["event"]), (4, "canceled"))
        order_id = last["order"]["id"]
        self.assertEqual(self.orders.find(order_id, "canceled"), (4, (2,)))
        self.assertEqual(self.orders.find(order_id, "new"), (2, ()))
        self.assertIsNone(self.orders.find(order_id, "fill"))
        self.assertIsNone(self.orders.find("other", "new"))
        self.assertEqual((self.orders.numbers, set(self.events.emitted)), ({2, 3, 4}, {1, 2, 3, 4}))

    def test_unseen_and_unreported_orders_lack_events(self) -> None:
        """Unseen orders have no `new`, unreported ones no `canceled`."""
        self.orders.open_unseen(1)
        self.assertEqual(self.events.alpaca.history.end, 0)
        self.assertEqual(self.orders.cancel_unseen(1), [1])
        self.orders.open(1)
        self.assertEqual(self.orders.cancel_unreported(1), [3])
        self.assertEqual(self.events.alpaca.history.end, 2)
        self.assertEqual(len(self.events.alpaca.exchange.orders("closed")), 2)
