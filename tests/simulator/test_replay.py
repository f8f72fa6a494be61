"""Tests of the events of one response, and of its end."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.simulator.support import at, ulid
from tradeproxy.simulator.errors import ApiError
from tradeproxy.simulator.history import EventHistory, EventRecord, event_record
from tradeproxy.simulator.replay import (
    Damage,
    Dropped,
    EventRange,
    EventReplay,
    ResponseEnd,
    parse_event_range,
)

SECOND = 1_000_000_000
EARLY, LATE = "2026-07-24T14:42:49Z", "2026-07-24T14:42:50.5Z"
A, B = "01KYA98DWAS5PA5BP53N9XTN5E", "01KYA98DWAS5PA5BP53N9XTN5F"


class ParseEventRangeTests(SynchronousTestCase):
    """The request's parameters."""

    def test_times_and_ids_are_parsed(self) -> None:
        """Each pair, its first or none is valid; ids may be lower case."""
        for fields, expected in (
            ({}, EventRange()),
            ({"x": "y"}, EventRange()),
            ({"since": EARLY}, EventRange(since=at(EARLY))),
            ({"since": EARLY, "until": LATE}, EventRange(since=at(EARLY), until=at(LATE))),
            ({"since_id": A.lower()}, EventRange(since_id=A)),
            ({"since_id": A, "until_id": B}, EventRange(since_id=A, until_id=B)),
        ):
            self.assertEqual(parse_event_range(fields), expected)

    def test_invalid_parameter_is_named(self) -> None:
        """Invalid values and combinations get 400 with the parameter's name."""
        for fields, name in (
            ({"until": LATE}, "until"),
            ({"until_id": B}, "until_id"),
            ({"since_id": A, "until": LATE}, "until"),
            ({"since": EARLY, "until_id": B}, "until_id"),
            ({"since": EARLY, "since_id": A}, "since_id"),
            ({"since": EARLY, "until": LATE, "since_id": A, "until_id": B}, "since_id"),
            ({"since": ""}, "since"),
            ({"since": "yesterday"}, "since"),
            ({"since": EARLY, "until": "2026-07-24"}, "until"),
            ({"since_id": "x"}, "since_id"),
            ({"since_id": A, "until_id": A[1:]}, "until_id"),
        ):
            refusal = self.assertRaises(ApiError, parse_event_range, fields)
            self.assertEqual(refusal.status, 400)
            self.assertIn(name, refusal.message.split(), fields)


class ReplayTestCase(SynchronousTestCase):
    """A history with one event per second: 1, 2, 3 and so on."""

    def setUp(self) -> None:
        self.history = EventHistory()
        self.tell(5)

    def tell(self, count: int) -> None:
        for number in range(self.history.end + 1, self.history.end + count + 1):
            data = {"event_id": ulid(number, number * 1000), "at": f"1970-01-01T00:00:{number:02}Z"}
            self.history.append(event_record(data, 0))

    def replay(self, damage: Damage | None = None, now: int = 5, **span: Any) -> EventReplay:
        return EventReplay(self.history, EventRange(**span), now * SECOND, damage or Damage())

    def numbers(self, replay: EventReplay) -> list[int]:
        """Return the numbers of the available events; a loss is negative."""
        numbers = []
        while (step := replay.next()) is not None:
            numbers.append(step.time // SECOND if isinstance(step, EventRecord) else -step.count)
        return numbers


class EventRangeTests(ReplayTestCase):
    """The events of a range."""

    def test_no_parameters_sends_only_live_events(self) -> None:
        """Each event comes once."""
        replay = self.replay()
        self.assertEqual(self.numbers(replay), [])
        self.tell(2)
        self.assertEqual(self.numbers(replay), [6, 7])
        self.assertEqual(self.numbers(replay), [])
        self.assertIsNone(replay.end)

    def test_start_sends_history_then_live_events(self) -> None:
        """`since` is inclusive, `since_id` exclusive, and there is no end."""
        for span in ({"since": 3 * SECOND}, {"since_id": ulid(2, 2000)}):
            self.setUp()
            replay = self.replay(**span)
            self.assertEqual(self.numbers(replay), [3, 4, 5])
            self.tell(1)
            self.assertEqual(self.numbers(replay), [6])
            self.assertIsNone(replay.end)

    def test_past_end_completes_immediately(self) -> None:
        """`until` and `until_id` are inclusive."""
        for span in (
            {"since": 2 * SECOND, "until": 4 * SECOND},
            {"since_id": ulid(1, 1000), "until_id": ulid(4, 4000)},
            {"since_id": ulid(0, 1001), "until_id": ulid(9, 4000)},
        ):
            replay = self.replay(**span)
            self.assertEqual(self.numbers(replay), [2, 3, 4])
            self.assertEqual(replay.end, ResponseEnd.COMPLETE)
            self.tell(1)
            self.assertEqual(self.numbers(replay), [])

    def test_future_end_includes_events_up_to_it(self) -> None:
        """Events after the end are not sent."""
        for span in (
            {"since": 5 * SECOND, "until": 7 * SECOND},
            {"since_id": ulid(4, 4000), "until_id": ulid(7, 7000)},
            {"since_id": ulid(4, 4000), "until_id": ulid(8, 7000)},
        ):
            self.setUp()
            replay = self.replay(**span)
            self.assertEqual(self.numbers(replay), [5])
            self.tell(1)
            self.assertEqual((self.numbers(replay), replay.end), ([6], None))
            self.tell(3)
            self.assertEqual((self.numbers(replay), replay.end), ([7], ResponseEnd.COMPLETE))

    def test_until_id_completes_at_its_event(self) -> None:
        """No later event is needed."""
        replay = self.replay(since_id=ulid(5, 5000), until_id=ulid(6, 6000))
        self.tell(1)
        self.assertEqual((self.numbers(replay), replay.end), ([6], ResponseEnd.COMPLETE))

    def test_deadline_completes_after_pending_events(self) -> None:
        """Events before the deadline are still sent."""
        replay = self.replay(since=5 * SECOND, until=99 * SECOND)
        self.tell(1)
        replay.expire()
        self.tell(1)
        self.assertEqual((self.numbers(replay), replay.end), ([5, 6], ResponseEnd.COMPLETE))

    def test_events_without_ids_compare_by_time(self) -> None:
        """After an unknown id the millisecond counts, after a known one the position."""
        self.history.append(event_record({"at": "1970-01-01T00:00:03Z"}, 0))
        self.assertEqual(self.numbers(self.replay(since_id=ulid(9, 2000))), [3, 4, 5, 3])
        self.assertEqual(self.numbers(self.replay(since_id=ulid(9, 3000))), [4, 5])
        self.assertEqual(self.numbers(self.replay(since_id=ulid(5, 5000))), [3])

    def test_live_event_with_old_time_is_sent(self) -> None:
        """`since` applies to the history only."""
        replay = self.replay(since=5 * SECOND)
        self.history.append(event_record({"at": "1970-01-01T00:00:01Z"}, 0))
        self.assertEqual(self.numbers(replay), [5, 1])

    def test_slow_reader_gets_the_number_lost(self) -> None:
        """The rest follows."""
        self.history = EventHistory(events_kept=3)
        self.tell(3)
        replay = self.replay(since=0)
        step = replay.next()
        assert isinstance(step, EventRecord)
        self.tell(4)
        self.assertEqual(self.numbers(replay), [-3, 5, 6, 7])


class DamageTests(ReplayTestCase):
    """Injected faults."""

    def test_cut_after_count_is_incomplete(self) -> None:
        """Before that number, nothing is cut."""
        replay = self.replay(Damage(cut_after=2), since=0)
        self.assertEqual((self.numbers(replay), replay.end), ([1, 2], ResponseEnd.CUT))
        replay = self.replay(Damage(cut_after=6), since=0)
        self.assertEqual((self.numbers(replay), replay.end), ([1, 2, 3, 4, 5], None))
        replay = self.replay(Damage(cut_after=0))
        self.assertEqual((self.numbers(replay), replay.end), ([], ResponseEnd.CUT))

    def test_drop_reports_then_continues(self) -> None:
        """The loss may include events that are still to come."""
        replay = self.replay(Damage(drop_after=1, dropped=2), since=2 * SECOND)
        self.assertEqual(self.numbers(replay), [2, -2, 5])
        replay = self.replay(Damage(drop_after=1, dropped=5), since=4 * SECOND)
        self.assertEqual(self.numbers(replay), [4, -5])
        self.tell(5)
        self.assertEqual(self.numbers(replay), [10])

    def test_cut_counts_only_sent_events(self) -> None:
        """Dropped events do not count toward the cut."""
        replay = self.replay(Damage(drop_after=1, dropped=1, cut_after=2), since=0)
        self.assertEqual((self.numbers(replay), replay.end), ([1, -1, 3], ResponseEnd.CUT))

    def test_loss_is_a_separate_step(self) -> None:
        """It contains the number."""
        replay = self.replay(Damage(drop_after=0, dropped=7), since=0)
        self.assertEqual(replay.next(), Dropped(7))
