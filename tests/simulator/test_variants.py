"""Tests of unusual events: on the stream, in the history, and in the activities."""

from __future__ import annotations

import json
from random import Random
from typing import Any

from treq.testing import RequestTraversalAgent

from tests.simulator.support import HttpTestCase, at, milliseconds_of
from tests.simulator.test_exchange import market
from tests.support.frames import AUTHENTICATE, LISTEN
from tradeproxy.simulator.clock import ulid_milliseconds
from tradeproxy.simulator.faults import YEAR, FaultKind
from tradeproxy.simulator.service import Simulator
from tradeproxy.simulator.variants import correct_price
from tradeproxy.simulator.web import ApiSite

SECOND = 1_000_000_000
EPOCH = "1970-01-01T00:00:00Z"
IDS = ("event_id", "at")
FILL = {
    "event": "fill",
    "execution_id": "execution-1",
    "price": "10.5",
    "qty": "2",
    "order": {"id": "order-1", "symbol": "SPY", "qty": "2", "filled_qty": "2"},
}


def without(data: Any, *names: str) -> Any:
    """Return a copy of an event without these fields."""
    return {name: value for name, value in data.items() if name not in names}


class VariantsTestCase(HttpTestCase):
    """A client of the stream; events are a second apart, each with an id and a time."""

    def setUp(self) -> None:
        super().setUp()
        self.client = self.connect(AUTHENTICATE, LISTEN)
        self.client.taken()

    def send(self, **changes: Any) -> None:
        """Emit a fill, a second after the event before."""
        self.advance(1)
        self.simulator.emit_stamped(FILL | changes)
        self.flush()

    def streamed(self) -> list[Any]:
        """Return the data of the events on the stream since the last call."""
        return [json.loads(payload)["data"] for payload in self.client.taken()]

    def stored(self) -> list[Any]:
        """Return the data of the events in the history."""
        return self.read(since=EPOCH).events


class CopiesTests(VariantsTestCase):
    """The copies of one event."""

    def test_stream_without_ids_history_has_both(self) -> None:
        """Only `count` events are affected, and REPEAT sends the stream's copy."""
        self.inject(FaultKind.STREAM_WITHOUT_IDS, count=1)
        self.send()
        self.send()
        [first, second], [stored, _] = self.streamed(), self.stored()
        self.assertEqual(first, without(stored, *IDS))
        for copy in (stored, second):
            self.assertEqual(ulid_milliseconds(copy["event_id"]), at(copy["at"]) // 1_000_000)
        self.inject(FaultKind.REPEAT, count=2)
        self.assertEqual(self.streamed(), [first, second])

    def test_without_ids_history_adds_account_id(self) -> None:
        """Neither copy has an id or `at`; the fault lasts for `seconds`."""
        self.inject(FaultKind.WITHOUT_IDS, seconds=2.5)
        for _ in range(3):
            self.send()
        *bare, whole = self.streamed()
        *stored, last = self.stored()
        self.assertEqual([without(copy, *IDS) for copy in bare], bare)
        account = {"account_id": self.simulator.exchange.portfolio.account_id}
        self.assertEqual(stored, [copy | account for copy in bare])
        self.assertEqual(last, whole)
        self.assertIn("event_id", whole)

    def test_event_without_ids_has_its_timestamp_in_history(self) -> None:
        """The range of a request compares with it."""
        self.inject(FaultKind.WITHOUT_IDS, count=2)
        self.send()
        self.send()
        first, second = self.streamed()
        found = self.read(since=first["timestamp"], until=first["timestamp"]).events
        self.assertEqual([event["timestamp"] for event in found], [first["timestamp"]])
        self.assertNotEqual(first["timestamp"], second["timestamp"])


class TimeTests(VariantsTestCase):
    """The times of events."""

    def test_same_time_repeats_the_microsecond(self) -> None:
        """The events have different ids of that millisecond and keep their order."""
        self.send()
        self.inject(FaultKind.SAME_TIME, count=2)
        for _ in range(3):
            self.send()
        events = self.streamed()
        self.assertEqual(events, self.stored())
        self.assertEqual(len({event["at"] for event in events[:3]}), 1)
        self.assertGreater(events[3]["at"], events[2]["at"])
        self.assertEqual(len({event["event_id"] for event in events}), 4)
        self.assertEqual(len({milliseconds_of(event["event_id"]) for event in events[:3]}), 1)

    def test_older_time_is_a_millisecond_earlier(self) -> None:
        """Each of the events is older than the one before, in the id too."""
        self.send()
        self.inject(FaultKind.OLDER_TIME, count=2)
        for _ in range(2):
            self.send()
        events = self.streamed()
        self.assertEqual(events, self.stored())
        times = [at(event["at"]) // 1_000_000 for event in events]
        self.assertEqual(times, [times[0], times[0] - 1, times[0] - 2])
        self.assertEqual([milliseconds_of(event["event_id"]) for event in events], times)

    def test_first_event_has_no_event_before(self) -> None:
        """Its time is unchanged."""
        self.inject(FaultKind.SAME_TIME)
        self.inject(FaultKind.OLDER_TIME)
        self.send()
        [event] = self.streamed()
        self.assertEqual(event["at"], "2027-01-15T08:00:01.000000Z")

    def test_time_shift_is_a_year_by_default(self) -> None:
        """`at`, the event id and `timestamp` are in the future, and so is the history's time."""
        self.inject(FaultKind.TIME_SHIFT)
        self.send()
        self.send()
        future, now = self.streamed()
        for name in ("at", "timestamp"):
            self.assertEqual(at(future[name]) - at(now[name]), (YEAR - 1) * SECOND)
        self.assertEqual(milliseconds_of(future["event_id"]), at(future["at"]) // 1_000_000)
        [found] = self.read(since=now["at"], until=now["at"]).events
        self.assertEqual(found, now)
        self.assertEqual(self.stored(), [future, now])

    def test_time_shift_applies_offset_to_fields_that_exist(self) -> None:
        """An event without times has none afterwards; a time before 1970 becomes 1970."""
        self.inject(FaultKind.TIME_SHIFT, offset=-10.0, count=3)
        self.simulator.emit({"event": "new"})
        self.simulator.emit({"at": "1970-01-01T00:00:01Z", "event_id": "x"})
        self.simulator.emit({"timestamp": "2027-01-15T08:00:00.123456789Z"})
        self.flush()
        self.assertEqual(
            self.streamed(),
            [
                {"event": "new"},
                {"at": "1970-01-01T00:00:00.000000Z", "event_id": "x"},
                {"timestamp": "2027-01-15T07:59:50.123456789Z"},
            ],
        )


class FillTests(VariantsTestCase):
    """Events that follow from earlier fills."""

    def test_reissue_sends_executions_under_new_ids(self) -> None:
        """The last `count` fills come again, and the history has both events of each."""
        for number in range(3):
            self.send(execution_id=f"execution-{number}")
        self.send(event="new")
        *fills, _ = self.streamed()
        self.advance(1)
        self.inject(FaultKind.REISSUE, count=2)
        again = self.streamed()
        self.assertEqual(
            [without(event, *IDS) for event in again], [without(event, *IDS) for event in fills[1:]]
        )
        self.assertEqual(len({event["event_id"] for event in fills + again}), 5)
        self.assertGreater(again[0]["at"], fills[-1]["at"])
        self.assertEqual(self.stored()[4:], again)
        self.assertEqual(len(self.get("/v2/account/activities").json), 3)

    def test_correct_changes_only_the_price(self) -> None:
        """The event id and the execution id are the same; a second correction changes it again."""
        self.send()
        for price in ("10.51", "10.52"):
            self.inject(FaultKind.CORRECT)
            *_, fill, corrected = self.stored()
            self.assertEqual(corrected, fill | {"price": price})
        self.assertEqual(self.streamed(), self.stored())

    def test_correct_adds_a_missing_price(self) -> None:
        """A fill of a test may have no price."""
        self.simulator.emit(without(FILL, "price"))
        self.inject(FaultKind.CORRECT)
        self.assertEqual([event.get("price") for event in self.streamed()], [None, "0.01"])

    def test_price_beyond_the_bounds_of_numbers_counts_as_none(self) -> None:
        """A replayed event may have any; one of them took gigabytes to write out."""
        for price in ("1e-999999999", "1e50000000", "x", None):
            self.assertEqual(correct_price({"price": price}), {"price": "0.01"})

    def test_bust_correct_share_one_event_id(self) -> None:
        """The bust has the fill's price, the correction another one."""
        self.send()
        self.inject(FaultKind.BUST_CORRECT)
        fill, bust, correction = self.streamed()
        self.assertEqual([fill, bust, correction], self.stored())
        self.assertEqual(bust | {"event": "trade_correct", "price": "10.51"}, correction)
        self.assertNotEqual(bust["event_id"], fill["event_id"])
        self.assertEqual(without(bust, "event", *IDS), without(fill, "event", *IDS))

    def test_fault_without_fill_has_no_effect(self) -> None:
        """Other events are not sent again."""
        self.send(event="new")
        self.streamed()
        for kind in (FaultKind.REISSUE, FaultKind.CORRECT, FaultKind.BUST_CORRECT):
            self.inject(kind)
        self.assertEqual((self.streamed(), len(self.stored())), ([], 1))

    def test_fault_without_client_is_in_history(self) -> None:
        """The events are missed, as any others."""
        self.send()
        self.inject(FaultKind.DROP)
        self.inject(FaultKind.BUST_CORRECT)
        self.assertEqual(
            [event["event"] for event in self.stored()], ["fill", "trade_bust", "trade_correct"]
        )


class DateTests(HttpTestCase):
    """The Date header."""

    def dates(self, count: int) -> list[str | None]:
        """Return the time of day in the Date headers of `count` responses."""
        responses = [self.get("/v2/account") for _ in range(count)]
        return [str(response.header("Date"))[-12:-4] for response in responses]

    def test_date_shift_affects_count_responses(self) -> None:
        """A negative offset is the past; the times of events are unaffected."""
        self.inject(FaultKind.DATE_SHIFT, offset=-3600.0, count=2)
        self.assertEqual(self.dates(3), ["07:00:00", "07:00:00", "08:00:00"])
        self.inject(FaultKind.DATE_SHIFT, offset=90.0, seconds=5)
        self.simulator.emit_stamped(FILL)
        self.assertEqual(self.dates(1), ["08:01:30"])
        self.assertEqual(self.read(since=EPOCH).events[0]["at"], "2027-01-15T08:00:00.000000Z")
        self.advance(5)
        self.assertEqual(self.dates(1), ["08:00:05"])

    def test_date_shift_counts_a_delayed_response_once(self) -> None:
        """Errors and event streams have the wrong date too."""
        self.inject(FaultKind.HISTORY_DELAY, delay=5)
        delayed = self.read()
        self.inject(FaultKind.DATE_SHIFT, count=2)
        self.advance(5)
        responses = (delayed, self.get("/nowhere"), self.read())
        years = [str(response.header("Date"))[12:16] for response in responses]
        self.assertEqual(years, ["2028", "2028", "2027"])


class WallClockTests(HttpTestCase):
    """The two clocks: dates come from one, intervals from the other."""

    def setUp(self) -> None:
        super().setUp()
        self.wall_time = 1_700_000_000.0  # 2023-11-14T22:13:20Z, years before the reactor's clock
        self.simulator = Simulator(self.clock, Random(0), wall_clock=lambda: self.wall_time)
        self.agent = RequestTraversalAgent(ApiSite(self.simulator).resource)

    def test_dates_are_of_the_wall_clock(self) -> None:
        """Events, orders, the Date header and events without a time have it."""
        self.simulator.emit_stamped({"event": "new"})
        (order,) = self.simulator.apply(self.simulator.exchange.submit(market()))
        self.simulator.emit({"event": "untimed"})
        response = self.read(since="2023-11-14T22:13:20Z", until="2023-11-14T22:13:20Z")
        self.assertEqual(response.header("Date"), "Tue, 14 Nov 2023 22:13:20 GMT")
        times = [event.get("at") for event in response.events]
        self.assertEqual(times, ["2023-11-14T22:13:20.000000Z"] * 2 + [None])
        self.assertTrue(order.created_at.startswith("2023-11-14T22:13:20."))

    def test_until_of_the_wall_clock_becomes_a_delay(self) -> None:
        """The response ends when the reactor's clock has measured it."""
        response = self.read(since="2023-11-14T22:13:20Z", until="2023-11-14T22:13:25Z")
        self.advance(4.9)
        self.assertFalse(response.ended)
        self.advance(0.2)
        self.assertTrue(response.ended)
        self.wall_time += 6
        past = self.read(since="2023-11-14T22:13:20Z", until="2023-11-14T22:13:25Z")
        self.assertTrue(past.ended)

    def test_step_of_the_wall_clock_leaves_intervals(self) -> None:
        """A fault lasts for its seconds, and an order still fills."""
        self.inject(FaultKind.REST_REFUSE, seconds=5)
        self.wall_time -= 3600
        self.assertEqual(self.get("/v2/account").status, 403)
        self.advance(5)
        self.assertEqual(self.get("/v2/account").status, 200)
        (order,) = self.simulator.apply(self.simulator.exchange.submit(market()))
        self.advance(1)
        self.assertEqual(self.simulator.exchange.order(order.id).status.value, "filled")
