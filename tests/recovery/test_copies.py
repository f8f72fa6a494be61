"""The recovery when Alpaca's copies of an event differ: each execution comes once."""

from __future__ import annotations

from typing import Any

from twisted.web.server import Request

from tests.recovery.recovery_case import INTERVAL, RecoveryTestCase
from tradeproxy.hub.locate import locate
from tradeproxy.simulator.faults import FaultKind
from tradeproxy.wire.event import format_time
from tradeproxy.wire.position import FromTime
from tradeproxy.wire.proxy_status import GapOutcome


class CopiesTests(RecoveryTestCase):
    """The history is read again from five minutes before the outage."""

    def setUp(self) -> None:
        super().setUp()
        self.recorder.frames.clear()

    def fill(self, number: int, **fields: Any) -> None:
        """Let Alpaca fill an order."""
        at = format_time(round(self.clock.seconds() * 1_000_000))
        order = {"id": f"order {number}", "status": "filled", "filled_qty": "1"}
        data = {"event_id": f"fill {number}", "at": at, "timestamp": at, "event": "fill"}
        execution = {"execution_id": f"execution {number}", "qty": "1", "price": "2.5"}
        self.alpaca.emit({**data, **execution, "n": number, "order": order, **fields})

    def assert_each_comes_once(self) -> None:
        self.outage(lambda: self.fill(2))
        self.advance(3)
        self.assertEqual(self.delivered(), [(1, None), (2, None)])
        self.assertEqual(self.gap.outcome, GapOutcome.RECOVERED)
        self.advance(INTERVAL)
        self.assertEqual(len(self.delivered()), 2)

    def test_stream_copy_without_ids_is_not_repeated(self) -> None:
        """After an ordinary reconnect clients got two fills with one execution id, unmarked."""
        self.inject(FaultKind.STREAM_WITHOUT_IDS)
        self.fill(1)
        self.advance(1)
        self.assertNotIn("event_id", self.recorder.frames[0]["data"])
        self.assert_each_comes_once()

    def test_history_copy_with_account_is_not_repeated(self) -> None:
        """Neither copy has an id, so all their data were compared."""
        self.inject(FaultKind.WITHOUT_IDS)
        self.fill(1)
        self.advance(1)
        self.assert_each_comes_once()

    def test_execution_under_two_event_ids_is_not_repeated(self) -> None:
        """On the stream, and in the history after an outage."""
        self.fill(1)
        self.inject(FaultKind.REISSUE, count=1)
        self.advance(1)
        self.assert_each_comes_once()
        self.outage(lambda: self.inject(FaultKind.REISSUE, count=2))
        self.advance(3)
        self.assertEqual(len(self.delivered()), 2)

    def test_corrections_are_delivered_once(self) -> None:
        """One with the fill's own ids, and a bust and a correction under one other id."""
        self.fill(1)
        self.inject(FaultKind.CORRECT)
        self.inject(FaultKind.BUST_CORRECT)
        self.advance(1)
        kinds = ["fill", "fill", "trade_bust", "trade_correct"]
        self.assertEqual([frame["data"]["event"] for frame in self.recorder.frames], kinds)
        self.outage(lambda: None)
        self.advance(INTERVAL)
        self.assertEqual(len(self.recorder.frames), 4)


class WrongTimesTests(RecoveryTestCase):
    """The time of an event is years ahead."""

    def test_event_of_the_future_hides_no_missed_event(self) -> None:
        """A gap began at its time, and stayed open for years."""
        self.inject(FaultKind.TIME_SHIFT, offset=365 * 86_400)
        self.emit(1)
        self.advance(1)
        self.outage(lambda: self.emit(2))
        self.advance(3)
        self.assertEqual([number for number, _ in self.delivered()], [0, 1, 2])
        self.assertEqual(self.gap.outcome, GapOutcome.RECOVERED)
        assert self.gap.begin is not None
        self.assertLess(self.gap.begin, (self.clock.seconds() + 300) * 1_000_000)

    def test_event_of_the_future_does_not_make_later_ones_late(self) -> None:
        """Every event that was found in a gap was then marked as recovered."""
        self.inject(FaultKind.TIME_SHIFT, offset=365 * 86_400)
        self.emit(1)
        self.emit(2)
        self.advance(1)
        self.outage(lambda: self.emit(3))
        self.emit(4)
        self.advance(3)
        self.assertEqual(self.delivered(), [(number, None) for number in range(5)])

    def test_event_of_the_future_keeps_its_place_in_the_stream(self) -> None:
        """No history has it, so it was delivered behind those that followed it on the stream."""
        self.inject(FaultKind.HISTORY_DELAY, delay=3)
        self.outage(lambda: self.emit(1))
        self.emit(2)
        self.inject(FaultKind.TIME_SHIFT, offset=365 * 86_400, count=1)
        self.emit(3, 4)
        self.advance(0.5)
        self.outage(lambda: None, 0.5)
        self.emit(5)
        self.advance(3)
        self.assertEqual(self.delivered(), [(number, None) for number in range(6)])

    def test_event_of_the_future_counts_at_its_receipt(self) -> None:
        """Otherwise every later `since` would begin at it, and later at the oldest stored event."""
        self.advance(1)
        before = round(self.clock.seconds() * 1_000_000)
        self.inject(FaultKind.TIME_SHIFT, offset=365 * 86_400)
        self.emit(1)
        self.advance(1)
        self.emit(2)
        self.advance(1)
        for time, begin in ((before, 1), (before + 500_000, 2)):
            self.assertEqual(locate(self.account, FromTime(time)), begin)

    def test_found_event_of_the_future_is_marked(self) -> None:
        """Its place among the events that clients have is unknown."""
        self.outage(lambda: None)
        self.emit(1)
        line = b'data: {"event":"new","event_id":"2","at":"2999-01-01T00:00:00Z","n":2}'

        def answer(request: Request) -> bytes | None:
            if request.path != b"/v2/events/trades":
                return None
            request.setHeader("content-type", "text/event-stream")
            return line + b"\n\n"

        self.override(answer)
        self.outage(lambda: None)
        self.advance(3)
        self.assertIn((2, "events"), self.delivered())

    def test_order_with_time_of_the_future_changes_later(self) -> None:
        """Every later state of the order counted as older, so it stayed open."""
        order = {"id": "one", "status": "new", "filled_qty": "0"}
        self.alpaca.emit({"event": "new", "at": "2999-01-01T00:00:00Z", "order": order})
        self.alpaca.emit({"event": "canceled", "order": {**order, "status": "canceled"}})
        self.advance(1)
        self.assertNotIn("one", [state.id for state in self.journal.open_orders()])

    def test_open_gap_in_the_future_is_corrected(self) -> None:
        """An earlier version saved such a beginning: it stayed open across restarts."""
        self.stop()
        self.emit(1)
        self.journal.set_metadata("open gap since", str(10**16))
        self.journal.set_metadata("checked through", str(10**16))
        self.start_new_process()
        self.advance(5)
        self.assertEqual(self.gap.outcome, GapOutcome.RECOVERED)
        self.assertEqual([number for number, _ in self.delivered()], [0, 1])
