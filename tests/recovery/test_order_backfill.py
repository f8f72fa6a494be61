"""Tests for tradeproxy.recovery.order_backfill, against a server in memory."""

from __future__ import annotations

import gc
import json
from base64 import b64encode
from collections import Counter
from collections.abc import Callable
from typing import Any

from msgspec.structs import replace
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import capturedLogs, formatEvent

from tests.recovery.scripted_case import (
    START,
    ScriptedCase,
    build_event,
    build_fill,
    build_order,
)
from tests.upstream.support import KEYS
from tradeproxy.recovery import delivered, order_backfill
from tradeproxy.recovery.delivered import DeliveredEvent
from tradeproxy.recovery.open_orders import OpenOrders
from tradeproxy.recovery.order_backfill import OrderBackfill
from tradeproxy.runtime.dates import SECOND
from tradeproxy.wire.credentials import list_secrets
from tradeproxy.wire.event import Event
from tradeproxy.wire.frame import Recovered, with_mark

BEGIN = START - 100 * SECOND
"""The log is complete up to here."""

SINCE = BEGIN - 300 * SECOND
"""The start of the search."""

UNTIL = START + SECOND
"""Its end."""


class OrderBackfillTests(ScriptedCase):
    """Orders and fills compared with the log."""

    def setUp(self) -> None:
        super().setUp()
        self.open_orders = OpenOrders(self.account, self.rest)
        self.made: list[Event] = []

    def new_backfill(self, slack: int = 0) -> OrderBackfill:
        return OrderBackfill(
            self.account, self.rest, self.clock, self.open_orders, self.made.append, slack
        )

    def run_with(self, backfill: OrderBackfill, until: int = UNTIL) -> Deferred[Any]:
        return self.start(backfill.run(BEGIN, SINCE, until))

    def find(self, slack: int = 0, until: int = UNTIL) -> int:
        """Run a backfill to its end, and return up to when it is complete."""
        running = self.run_with(self.new_backfill(slack), until)
        self.wires.advance(5)
        through: int = self.successResultOf(running)
        return through

    def list_made(self) -> list[tuple[str, str]]:
        """Return the kind and the filled quantity of each event that was made."""
        states = [(event.kind, event.order) for event in self.made]
        return [(kind, state.filled_qty) for kind, state in states if state is not None]

    def test_run_waits_for_alpacas_second_and_for_the_stream(self) -> None:
        """The requests follow after a second: a Date may be a second old.

        The stream then has two seconds for the same changes.
        """
        self.listed = [build_order(0, "canceled")]
        running = self.run_with(self.new_backfill())
        self.wires.advance(0.5)
        self.assertEqual(self.requested_uris(), [])
        self.wires.advance(0.5)
        self.assertNotEqual(self.requested_uris(), [])
        self.wires.advance(1.5)
        self.assertEqual(self.made, [])
        self.wires.advance(0.5)
        self.assertEqual(self.list_made(), [("canceled", "0")])
        self.assertEqual(self.successResultOf(running), UNTIL)

    def test_run_gives_stream_time_for_orders_of_fills_too(self) -> None:
        """They are requested later: only then is it known that no list has them."""
        self.by_id["O"] = build_order(10)
        self.fills = [build_fill(10, 10)]
        running = self.run_with(self.new_backfill(slack=10 * SECOND), START)
        self.wires.advance(2)
        self.assertEqual(len(self.list_requests("/v2/orders/O")), 1)
        self.wires.advance(1.5)
        self.assertEqual(self.made, [])
        self.wires.advance(0.5)
        self.assertEqual(self.list_made(), [("fill", "10")])
        self.successResultOf(running)

    def test_order_of_fills_is_requested_unless_all_are_delivered(self) -> None:
        """The log is read from a minute before the search."""
        whole = [build_fill(4, 4), build_fill(6, 10)]
        first, second = build_event(build_order(4), qty=4), build_event(build_order(10), qty=6)
        other = build_event(build_order(10), "trade_correct", 10)
        edge = SINCE - 60 * SECOND
        rows: list[tuple[str, list[Event], list[Any], int]] = [
            ("one of two", [first], whole, 1),
            ("both", [first, second], whole, 0),
            ("both, and another event", [first, second, other], whole, 0),
            ("one, and another event", [second, other], whole, 1),
            ("a minute earlier", [build_event(build_order(10, time=edge), qty=6)], whole[1:], 0),
            ("earlier", [build_event(build_order(10, time=edge - 1), qty=6)], whole[1:], 1),
        ]
        for name, logged, fills, count in rows:
            self.setUp()
            self.log(*logged)
            self.fills = fills
            self.find()
            self.assertEqual(len(self.list_requests("/v2/orders/O")), count, name)

    def test_others_have_their_turn_between_parts(self) -> None:
        """An event that clients get meanwhile is not made again, whichever part its order is in.

        With 300,000 orders the process stood still for half a minute; with 5,000 and 10,000 fills,
        which were searched for each order, for seconds.
        """
        for changed in "first", "second":
            self.setUp()
            self.patch(order_backfill, "ORDERS_A_TURN", 1)
            self.listed = [build_order(10, id="first"), build_order(10, id="second")]
            running = self.run_with(self.new_backfill())
            self.wires.advance(2.5)
            late = build_event(build_order(10, id=changed), qty=10)
            self.clock.callLater(0.5, self.log, late)
            self.wires.advance(0.5)
            self.successResultOf(running)
            made = [event.order.id for event in self.made if event.order is not None]
            self.assertEqual(made, ["second" if changed == "first" else "first"])

    def count_reads_of_turns(self) -> list[Counter[bytes]]:
        """Have each turn's parses of events counted, by payload."""
        turns = [Counter[bytes]()]
        read, call_later = delivered.read_delivered_event, self.clock.callLater

        def read_delivered_event(payload: bytes) -> DeliveredEvent | None:
            turns[-1][payload] += 1
            return read(payload)

        def callLater(when: float, what: Callable[..., object], *a: Any, **kw: Any) -> IDelayedCall:
            turns.append(Counter())
            return call_later(when, what, *a, **kw)

        self.patch(order_backfill, "read_delivered_event", read_delivered_event)
        self.patch(self.clock, "callLater", callLater)
        return turns

    def test_long_log_is_read_in_parts(self) -> None:
        """A check read all that 21 minutes had: 100,000 events stopped the process for 5 s."""
        self.patch(order_backfill, "ROWS_A_TURN", 10)
        self.log(*(build_event(build_order(0, "canceled", id=f"{number}")) for number in range(95)))
        self.listed = [build_order(10)]
        turns = self.count_reads_of_turns()
        self.find()
        self.assertEqual(self.list_made(), [("fill", "10")])
        self.assertLessEqual(max(turn.total() for turn in turns), 10)
        self.assertEqual(sum(turn.total() for turn in turns), 95)

    def test_events_of_other_orders_are_not_kept(self) -> None:
        """A check took 100 MB for the 80,000 orders of a day, of which it compared none."""
        self.log(*(build_event(build_order(0, "canceled", id=f"{number}")) for number in range(95)))
        self.listed = [build_order(10)]
        kept: list[int] = []

        def deliver(event: Event) -> None:
            gc.collect()
            kept.append(sum(isinstance(each, DeliveredEvent) for each in gc.get_objects()))

        backfill = OrderBackfill(
            self.account, self.rest, self.clock, self.open_orders, deliver, slack=0
        )
        self.run_with(backfill)
        self.wires.advance(5)
        self.assertEqual(len(kept), 1)
        self.assertLess(kept[0], 10)

    def test_event_that_comes_while_the_log_is_read_is_not_made_again(self) -> None:
        """It is behind the rows that are read in later turns; or in the buffer, until that ends."""
        for is_buffered in (False, True):
            self.setUp()
            self.patch(order_backfill, "ROWS_A_TURN", 1)
            self.log(
                *(build_event(build_order(0, "canceled", id=f"{number}")) for number in range(5))
            )
            self.listed = [build_order(10, id="first"), build_order(10, id="second")]
            if is_buffered:
                self.account.start_buffering()
                self.account.publish(build_event(build_order(10, id="first"), qty=10))
            running = self.run_with(self.new_backfill())
            self.wires.advance(2.5)
            if is_buffered:
                self.clock.callLater(0.5, self.account.stop_buffering)
            else:
                late = build_event(build_order(10, id="first"), qty=10)
                self.clock.callLater(0.5, self.log, late)
            self.wires.advance(0.5)
            self.successResultOf(running)
            made = [event.order.id for event in self.made if event.order is not None]
            self.assertEqual(made, ["second"], is_buffered)

    def test_buffered_event_is_parsed_once(self) -> None:
        """The whole buffer was parsed again for each part while the stream brought events."""
        self.patch(order_backfill, "ORDERS_A_TURN", 1)
        self.patch(order_backfill, "ROWS_A_TURN", 10)
        self.account.start_buffering()
        for number in range(25):
            self.account.publish(build_event(build_order(0, "canceled", id=f"{number}")))
        self.listed = [build_order(10, id=f"order {number}") for number in range(5)]
        running = self.run_with(self.new_backfill())
        self.wires.advance(2.5)
        more = [build_event(build_order(10, id=f"order {number}"), qty=10) for number in range(5)]
        turns = self.count_reads_of_turns()
        for event in more[:2]:
            self.clock.callLater(0.5, self.account.publish, event)
        self.wires.advance(0.5)
        self.successResultOf(running)
        self.assertEqual(len(self.made), 3)
        total = sum(turns, Counter[bytes]())
        self.assertEqual(len(total), 27)
        self.assertEqual(set(total.values()), {1})
        self.assertLessEqual(max(turn.total() for turn in turns), 10)

    def test_many_events_are_delivered_in_parts(self) -> None:
        """Each costs about 0.2 ms."""
        self.patch(order_backfill, "EVENTS_A_TURN", 2)
        self.listed = [build_order(10, id=f"order {number}") for number in range(5)]
        running = self.run_with(self.new_backfill())
        self.wires.advance(2.5)
        counts: list[int] = []
        self.clock.callLater(0.5, lambda: counts.append(len(self.made)))
        self.wires.advance(0.5)
        self.assertEqual(counts, [2])
        self.assertEqual(len(self.made), 5)
        self.successResultOf(running)

    def count_made_of_turns(self) -> list[int]:
        """Run a backfill, and return how many events each turn delivers."""
        counts = [0]
        call_later = self.clock.callLater

        def callLater(when: float, what: Callable[..., object], *a: Any, **kw: Any) -> IDelayedCall:
            counts.append(0)
            return call_later(when, what, *a, **kw)

        def deliver(event: Event) -> None:
            counts[-1] += 1
            self.made.append(event)

        self.patch(self.clock, "callLater", callLater)
        self.backfill = OrderBackfill(
            self.account, self.rest, self.clock, self.open_orders, deliver, slack=0
        )
        running = self.run_with(self.backfill)
        self.wires.advance(5)
        self.successResultOf(running)
        return [count for count in counts if count]

    def miss_fills(self, *, order_size: int) -> None:
        """Have ten fills of an order missed, and each event has the whole order."""
        self.listed = [build_order(10, note="x" * order_size)]
        self.fills = [build_fill(1, number + 1, START + number) for number in range(10)]

    def test_parts_of_large_events_are_small(self) -> None:
        """250 fills of an order of 1 MB took 580 MB, and stopped the process for 34 s."""
        for size, parts in ((400_000, [3, 3, 3, 1]), (1_000_000, [2, 2, 2, 2, 2]), (10, [10])):
            self.setUp()
            self.miss_fills(order_size=size)
            self.assertEqual(self.count_made_of_turns(), parts, size)
            self.assertFalse(self.backfill.has_left_out)

    def test_order_that_is_too_large_for_an_event_is_left_out(self) -> None:
        """The stream closes at such an event, and the history's is dropped. The others come.

        The event is built once, not for each fill.
        """
        built: list[int] = []
        dumps = json.dumps

        def count(document: Any, **options: Any) -> str:
            text = dumps(document, **options)
            if "event" in document:
                built.append(len(text))
            return text

        self.miss_fills(order_size=1_048_576 - len(json.dumps(build_order(10, note=""))))
        self.listed.append(build_order(10, id="small"))
        self.patch(json, "dumps", count)
        self.assertEqual(self.count_made_of_turns(), [1])
        self.assertEqual([event.order.id for event in self.made if event.order], ["small"])
        self.assertTrue(self.backfill.has_left_out)
        self.assertEqual(sum(size > 1_048_576 for size in built), 1)
        self.assertEqual(self.account.dropped_frames[order_backfill.UNUSABLE], 1)

    def test_events_of_a_backfill_have_a_maximum_together(self) -> None:
        """70,000 fills of an order of 1 MB would have filled the disk."""
        self.patch(order_backfill, "MAX_MADE_SIZE", 4_100_000)
        self.miss_fills(order_size=1_000_000)
        self.assertEqual(sum(self.count_made_of_turns()), 4)
        self.assertTrue(self.backfill.has_left_out)
        self.assertEqual(self.account.dropped_frames[order_backfill.TOO_MANY], 1)

    def test_check_leaves_events_beyond_the_maximum_to_the_next_one(self) -> None:
        """No gap declares them, so nothing after them counts as complete."""
        self.patch(order_backfill, "MAX_MADE_SIZE", 4_100_000)
        self.miss_fills(order_size=1_000_000)
        until = START + 100
        found: list[tuple[int, int]] = []
        for _ in range(3):
            running = self.run_with(self.new_logging_backfill(slack=10 * SECOND), until)
            self.wires.advance(5)
            found.append((len(self.made), self.successResultOf(running)))
        self.assertEqual(found, [(4, BEGIN), (8, BEGIN), (10, until)])

    def test_events_of_just_the_maximum_are_all_delivered(self) -> None:
        """Then nothing is left out: a check counts as complete, and a gap is no loss."""
        self.miss_fills(order_size=10)
        self.find()
        self.patch(order_backfill, "MAX_MADE_SIZE", sum(len(each.payload) for each in self.made))
        for slack in (0, 10 * SECOND):
            self.made.clear()
            backfill = self.new_backfill(slack)
            running = self.run_with(backfill, START + 100)
            self.wires.advance(5)
            self.assertEqual(self.successResultOf(running), START + 100)
            self.assertEqual(len(self.made), 10)
            self.assertFalse(backfill.has_left_out)
            self.assertEqual(self.account.dropped_frames[order_backfill.TOO_MANY], 0)

    def test_event_behind_just_the_maximum_is_left_out(self) -> None:
        """It was not delivered, so its gap must not count as recovered."""
        self.miss_fills(order_size=10)
        self.find()
        most = sum(len(each.payload) for each in self.made[:4])
        self.patch(order_backfill, "MAX_MADE_SIZE", most)
        self.made.clear()
        self.assertEqual(sum(self.count_made_of_turns()), 4)
        self.assertTrue(self.backfill.has_left_out)
        self.assertEqual(self.account.dropped_frames[order_backfill.TOO_MANY], 1)

    def test_event_that_comes_between_parts_is_not_made_again(self) -> None:
        """An order was not compared again once the delivery of many events had begun.

        Its missing fills are made, and those that clients have are not made twice.
        """
        self.patch(order_backfill, "EVENTS_A_TURN", 2)
        self.listed = [
            build_order(10, id=f"order {number}", time=START + number) for number in range(6)
        ]

        running = self.run_with(self.new_logging_backfill())
        self.wires.advance(2.5)
        whole = build_event(build_order(10, id="order 3", time=START + 3), qty=10)
        partial = build_event(build_order(4, id="order 4", time=START + 3), qty=4)
        self.clock.callLater(0.5, self.log, whole, partial)
        self.wires.advance(0.5)
        self.successResultOf(running)
        made = [json.loads(event.payload)["data"] for event in self.made]
        self.assertEqual([data["order"]["id"][-1] for data in made], ["0", "1", "2", "4", "5"])
        self.assertEqual([data["qty"] for data in made], ["10", "10", "10", "6", "10"])

    def test_event_that_is_buffered_between_parts_is_not_made_again(self) -> None:
        """Clients get it once the backfill has ended."""
        self.patch(order_backfill, "EVENTS_A_TURN", 2)
        self.listed = [
            build_order(10, id=f"order {number}", time=START + number) for number in range(4)
        ]
        self.account.start_buffering()
        running = self.run_with(self.new_backfill())
        self.wires.advance(2.5)
        whole = build_event(build_order(10, id="order 2", time=START + 2), qty=10)
        self.clock.callLater(0.5, self.account.publish, whole)
        self.wires.advance(0.5)
        self.successResultOf(running)
        made = [event.order.id for event in self.made if event.order is not None]
        self.assertEqual(made, ["order 0", "order 1", "order 3"])

    def deliver_and_log(self, event: Event) -> None:
        """Deliver an event as the recovery does."""
        self.made.append(event)
        self.log(replace(event, payload=with_mark(event.payload, Recovered.ORDERS)))

    def new_logging_backfill(self, slack: int = 0) -> OrderBackfill:
        return OrderBackfill(
            self.account, self.rest, self.clock, self.open_orders, self.deliver_and_log, slack
        )

    def miss_fill_and_cancellation(self) -> None:
        """Have both events missed, each to be made in a part of its own."""
        self.patch(order_backfill, "EVENTS_A_TURN", 1)
        self.listed = [build_order(4, "canceled", time=START + 9)]
        self.fills = [build_fill(4, 4)]

    def test_status_in_another_part_than_its_fill_is_made(self) -> None:
        """The fill has the order as it is now, so the order was compared as if it had closed."""
        self.miss_fill_and_cancellation()
        running = self.run_with(self.new_logging_backfill())
        self.wires.advance(3.5)
        self.successResultOf(running)
        self.assertEqual(self.list_made(), [("partial_fill", "4"), ("canceled", "4")])

    def test_status_is_made_by_the_next_backfill_if_one_ends_behind_its_fill(self) -> None:
        """The connection or the process may end between two parts. The third finds nothing."""
        self.miss_fill_and_cancellation()
        cut = self.run_with(self.new_logging_backfill())
        self.wires.advance(2.5)
        self.clock.callLater(0.5, cut.cancel)
        self.wires.advance(0.5)
        self.failureResultOf(cut, CancelledError)
        self.assertEqual(self.list_made(), [("partial_fill", "4")])
        for _ in range(2):
            running = self.run_with(self.new_logging_backfill())
            self.wires.advance(5)
            self.successResultOf(running)
            self.assertEqual(self.list_made(), [("partial_fill", "4"), ("canceled", "4")])

    def test_order_with_an_unreadable_amount_is_reported_once(self) -> None:
        """One line names the order and the field; the other orders are delivered."""
        for filled in ("1e-999999999", "1e50000000", "9" * 41, 10**41, "x"):
            self.setUp()
            self.listed = [
                build_order(0, "filled", id="bad\norder") | {"filled_qty": filled},
                build_order(10, id="good"),
            ]
            with capturedLogs() as logs:
                self.assertEqual((self.find(), self.find()), (UNTIL, UNTIL))
            self.assertEqual(self.list_made()[:1], [("fill", "10")])
            lines = [formatEvent(each) for each in logs if each["log_level"].name == "warn"]
            self.assertEqual(len(lines), 1, filled)
            self.assertIn("order bad\\norder: filled_qty is no number", lines[0])

    def test_order_id_with_credentials_is_logged_without_them(self) -> None:
        """A hostile server may send them back in an id, with an amount that makes a log line."""
        uuid = "904837e3-3b76-47ec-b432-046db621571b"
        secrets = [each.reveal() for each in list_secrets(KEYS)]
        for number, text in enumerate([*secrets, b64encode(b"x" * 20).decode(), uuid]):
            self.listed = [build_order(0, id=text) | {"filled_qty": "x"}]
            with capturedLogs() as logs:
                self.find()
            shown = [each["order"] for each in logs if "order" in each]
            self.assertEqual(shown, [uuid if text == uuid else "..."], number)

    def test_order_with_an_unreadable_known_state_is_reported(self) -> None:
        """With zero in its place, fills would be delivered again."""
        first = build_event(build_order(4) | {"filled_qty": "1e999"}, qty=4)
        self.log(first)
        self.listed = [build_order(10)]
        with capturedLogs() as logs:
            self.find()
        self.assertEqual(self.made, [])
        self.assertEqual([each["field"] for each in logs if "field" in each], ["filled_qty"])

    def test_order_with_an_unreadable_delivered_event_is_reported_once(self) -> None:
        """With zero in its place, its fill would be delivered again. The other orders are made."""
        self.log(build_event(build_order(4), qty=4, cum_qty="x"))
        self.listed = [build_order(10), build_order(10, id="good")]
        with capturedLogs() as logs:
            self.assertEqual((self.find(), self.find()), (UNTIL, UNTIL))
        self.assertEqual({each.order.id for each in self.made if each.order}, {"good"})
        fields = [(each["order"], each["field"]) for each in logs if "field" in each]
        self.assertEqual(fields, [("O", "cum_qty")])

    def test_fill_with_an_unreadable_amount_is_reported(self) -> None:
        """The order still shows how much is filled, but not the price."""
        self.listed = [build_order(10)]
        self.fills = [build_fill(10, 10) | {"cum_qty": "1e50000000"}]
        with capturedLogs() as logs:
            self.find()
        self.assertEqual(self.list_made(), [("fill", "10")])
        fields = [(each["order"], each["field"]) for each in logs if "field" in each]
        self.assertEqual(fields, [("O", "cum_qty of a fill")])

    def test_state_before_gap_counts_all_earlier_fills(self) -> None:
        """The log has a later fill only. The fills up to the old state were delivered."""
        self.open_orders.remember([build_order(4, time=BEGIN)], BEGIN)
        backfill = self.new_backfill()
        self.log(build_event(build_order(8, time=BEGIN + 1), qty=2))
        self.listed = [build_order(8, time=BEGIN + 1)]
        running = self.run_with(backfill)
        self.wires.advance(5)
        self.successResultOf(running)
        self.assertEqual([event.payload.count(b'"qty":"2"') for event in self.made], [1])
        self.assertIn(b'"cum_qty":"6"', self.made[0].payload)

    def test_state_in_gap_does_not_count_earlier_fills(self) -> None:
        """It is known from an event that was released before the missed ones came."""
        self.log(build_event(build_order(4, time=BEGIN + 1), qty=2))
        self.listed = [build_order(4, time=BEGIN + 1, created_at=build_order(0)["updated_at"])]
        self.find()
        self.assertEqual(self.list_made(), [("partial_fill", "4")])
        self.assertIn(b'"cum_qty":"2"', self.made[0].payload)

    def test_state_that_arrived_meanwhile_counts(self) -> None:
        """The stream brought the change after the backfill was created."""
        self.log(build_event(build_order(0, "new", BEGIN)))
        backfill = self.new_backfill()
        self.log(build_event(build_order(0, "canceled")))
        self.listed = [build_order(0, "canceled")]
        self.run_with(backfill)
        self.wires.advance(5)
        self.assertEqual(self.made, [])

    def test_check_leaves_later_changes_to_stream(self) -> None:
        """An older event that is missing keeps the log from counting as complete."""
        rows: list[tuple[str, int, int, int, int]] = [
            ("the last change at the end", START, START, 2, START),
            ("later, and a missed fill at the end", START + 1, START, 0, BEGIN),
            ("both later", START + 1, START + 1, 0, START),
        ]
        for name, changed, filled, made, through in rows:
            self.setUp()
            self.listed = [build_order(4, "canceled", changed)]
            self.fills = [build_fill(4, 4, filled)]
            self.log(build_event(build_order(0, "new", BEGIN)))
            self.assertEqual(self.find(10 * SECOND, START), through, name)
            self.assertEqual(len(self.made), made, name)

    def test_without_slack_later_changes_are_delivered(self) -> None:
        """Events of the stream wait for the missed ones, so none is left to it."""
        self.listed = [build_order(0, "canceled", UNTIL + SECOND)]
        self.assertEqual(self.find(), UNTIL)
        self.assertEqual(self.list_made(), [("canceled", "0")])
