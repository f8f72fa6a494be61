"""Tests of what a response tells, and where it ends."""

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


class ParseSpanTests(SynchronousTestCase):
    """The request's parameters."""

    def test_reads_times_and_ids(self) -> None:
        """Each pair may be given, or its first, or nothing; ids may be in small letters."""
        for fields, expected in (
            ({}, EventRange()),
            ({"x": "y"}, EventRange()),
            ({"since": EARLY}, EventRange(since=at(EARLY))),
            ({"since": EARLY, "until": LATE}, EventRange(since=at(EARLY), until=at(LATE))),
            ({"since_id": A.lower()}, EventRange(since_id=A)),
            ({"since_id": A, "until_id": B}, EventRange(since_id=A, until_id=B)),
        ):
            self.assertEqual(parse_event_range(fields), expected)

    def test_names_the_bad_parameter(self) -> None:
        """What does not go together, or is no time or id, is refused with 400 by its name."""
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
    """A history with an event a second from the first second on: 1, 2, 3 and so on."""

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
        """Return the numbers of the events that there are to tell now; less than none for a loss."""
        numbers = []
        while (step := replay.next()) is not None:
            numbers.append(step.time // SECOND if isinstance(step, EventRecord) else -step.count)
        return numbers


class SpanTests(ReplayTestCase):
    """Which events are told."""

    def test_without_a_beginning_there_is_no_history(self) -> None:
        """Only what happens afterwards is told, each event once."""
        replay = self.replay()
        self.assertEqual(self.numbers(replay), [])
        self.tell(2)
        self.assertEqual(self.numbers(replay), [6, 7])
        self.assertEqual(self.numbers(replay), [])
        self.assertIsNone(replay.end)

    def test_with_one_the_history_comes_first(self) -> None:
        """`since` includes its moment, `since_id` excludes its event; then it goes on without an end."""
        for span in ({"since": 3 * SECOND}, {"since_id": ulid(2, 2000)}):
            self.setUp()
            replay = self.replay(**span)
            self.assertEqual(self.numbers(replay), [3, 4, 5])
            self.tell(1)
            self.assertEqual(self.numbers(replay), [6])
            self.assertIsNone(replay.end)

    def test_with_both_it_ends(self) -> None:
        """`until` and `until_id` include theirs; what is past already ends at once."""
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

    def test_what_happens_up_to_the_end_is_told(self) -> None:
        """An end that is still to come is waited for; what comes after it is not told."""
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

    def test_the_last_one_by_id_ends_it_at_once(self) -> None:
        """No later event has to come before it is known to be the last."""
        replay = self.replay(since_id=ulid(5, 5000), until_id=ulid(6, 6000))
        self.tell(1)
        self.assertEqual((self.numbers(replay), replay.end), ([6], ResponseEnd.COMPLETE))

    def test_time_ends_it_as_well(self) -> None:
        """What was told before its deadline passed is still delivered, and nothing after."""
        replay = self.replay(since=5 * SECOND, until=99 * SECOND)
        self.tell(1)
        replay.expire()
        self.tell(1)
        self.assertEqual((self.numbers(replay), replay.end), ([5, 6], ResponseEnd.COMPLETE))

    def test_events_without_ids_are_placed_by_their_time(self) -> None:
        """After an id that is not there, they count by the millisecond; after one that is, by their place."""
        self.history.append(event_record({"at": "1970-01-01T00:00:03Z"}, 0))
        self.assertEqual(self.numbers(self.replay(since_id=ulid(9, 2000))), [3, 4, 5, 3])
        self.assertEqual(self.numbers(self.replay(since_id=ulid(9, 3000))), [4, 5])
        self.assertEqual(self.numbers(self.replay(since_id=ulid(5, 5000))), [3])

    def test_what_is_new_is_told_however_old_it_says_it_is(self) -> None:
        """`since` is about the history."""
        replay = self.replay(since=5 * SECOND)
        self.history.append(event_record({"at": "1970-01-01T00:00:01Z"}, 0))
        self.assertEqual(self.numbers(replay), [5, 1])

    def test_a_slow_reader_is_told_what_it_missed(self) -> None:
        """What was forgotten before it was told is counted, and the rest follows."""
        self.history = EventHistory(events_kept=3)
        self.tell(3)
        replay = self.replay(since=0)
        step = replay.next()
        assert isinstance(step, EventRecord)
        self.tell(4)
        self.assertEqual(self.numbers(replay), [-3, 5, 6, 7])


class DamageTests(ReplayTestCase):
    """What goes wrong as ordered."""

    def test_cuts_after_so_many_events(self) -> None:
        """The end is not a complete one; until there are so many, nothing is cut."""
        replay = self.replay(Damage(cut_after=2), since=0)
        self.assertEqual((self.numbers(replay), replay.end), ([1, 2], ResponseEnd.CUT))
        replay = self.replay(Damage(cut_after=6), since=0)
        self.assertEqual((self.numbers(replay), replay.end), ([1, 2, 3, 4, 5], None))
        replay = self.replay(Damage(cut_after=0))
        self.assertEqual((self.numbers(replay), replay.end), ([], ResponseEnd.CUT))

    def test_drops_some_in_the_middle(self) -> None:
        """The loss is told where it is, and then it goes on; what is still to come may be lost too."""
        replay = self.replay(Damage(drop_after=1, dropped=2), since=2 * SECOND)
        self.assertEqual(self.numbers(replay), [2, -2, 5])
        replay = self.replay(Damage(drop_after=1, dropped=5), since=4 * SECOND)
        self.assertEqual(self.numbers(replay), [4, -5])
        self.tell(5)
        self.assertEqual(self.numbers(replay), [10])

    def test_both_at_once(self) -> None:
        """Only what is told counts toward the cut."""
        replay = self.replay(Damage(drop_after=1, dropped=1, cut_after=2), since=0)
        self.assertEqual((self.numbers(replay), replay.end), ([1, -1, 3], ResponseEnd.CUT))

    def test_a_loss_is_a_step_of_its_own(self) -> None:
        """It says how many."""
        replay = self.replay(Damage(drop_after=0, dropped=7), since=0)
        self.assertEqual(replay.next(), Dropped(7))
