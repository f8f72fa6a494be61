"""Tests for tradeproxy.recovery.synthetic, with a journal in memory."""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.defer import Deferred

from tests.recovery.test_parse_once import count_parses
from tests.support.journals import MemoryCase, event, time_of
from tradeproxy.journal.base import UnreadableError
from tradeproxy.journal.retention import TRIM_EVERY
from tradeproxy.recovery import synthetic as synthetic_events
from tradeproxy.recovery.synthetic import SyntheticEvents
from tradeproxy.wire.event import Event, format_time
from tradeproxy.wire.frame import Recovered, frame_event, with_mark
from tradeproxy.wire.messages import TradeUpdate, parse_server

MADE = time_of(100)
"""The time of the change that was made of an order."""

MINUTE = 60_000_000


def build(kind: str, time: int = MADE, order_id: str = "O", **fields: Any) -> Event:
    """Return an event of the history."""
    order = {"id": order_id, "status": kind, "filled_qty": fields.get("cum_qty", "0")}
    data = {"event": kind, "timestamp": format_time(time), "order": order, **fields}
    message = parse_server(frame_event(json.dumps(data).encode()))
    assert isinstance(message, TradeUpdate)
    return message.event


def make(kind: str, time: int = MADE, order_id: str = "O", **fields: Any) -> Event:
    """Return the event that the proxy made of the order of such an event."""
    payload = with_mark(build(kind, time, order_id, **fields).payload, Recovered.ORDERS)
    message = parse_server(payload)
    assert isinstance(message, TradeUpdate)
    return message.event


def fill(start: int, end: int) -> dict[str, Any]:
    """Return the quantities of a fill of this part of the order."""
    return {"qty": str(end - start), "cum_qty": str(end)}


class SyntheticEventsTests(MemoryCase):
    """Events of the history of which the log has one that was made of an order."""

    def update(self, synthetic: SyntheticEvents, since: int) -> None:
        """Update to the end, in as many turns as that takes."""
        updating = Deferred.fromCoroutine(synthetic.update(since))
        self.clock.advance(0)
        self.successResultOf(updating)

    def read(self, *rows: Event, since: int = 0) -> SyntheticEvents:
        """Return the synthetic events of a log with these events."""
        self.journal = self.open()
        self.journal.append(rows)
        synthetic = SyntheticEvents(self.journal, self.clock)
        self.update(synthetic, since)
        return synthetic

    def test_covers_change_within_a_minute(self) -> None:
        """An order may be held again later. But it closes once, however late the report is."""
        synthetic = self.read(make("held"), make("canceled"))
        for kind, offset, covered in (
            ("held", MINUTE, True),
            ("held", MINUTE + 1, False),
            ("held", -MINUTE, True),
            ("held", -MINUTE - 1, False),
            ("canceled", 100 * MINUTE, True),
            ("expired", 0, False),
            ("fill", 0, False),
        ):
            found = build(kind, MADE + offset)
            self.assertEqual(synthetic.covers(found), covered, (kind, offset))
        self.assertFalse(synthetic.covers(build("canceled", order_id="another")))

    def test_covers_fill_whose_quantity_was_made(self) -> None:
        """Several made fills may cover it together, but not one that is older by a minute."""
        synthetic = self.read(
            make("partial_fill", **fill(0, 4)), make("fill", MADE + MINUTE, **fill(4, 10))
        )
        for part, offset, covered in (
            (fill(0, 4), MINUTE, True),
            (fill(0, 4), MINUTE + 1, False),
            (fill(0, 4), -100 * MINUTE, True),
            (fill(2, 10), 0, True),
            (fill(2, 10), MINUTE + 1, False),
            (fill(4, 10), 2 * MINUTE, True),
            (fill(9, 11), 0, False),
        ):
            found = build("fill", MADE + offset, **part)
            self.assertEqual(synthetic.covers(found), covered, (part, offset))
        self.assertFalse(synthetic.covers(build("canceled")))

    def test_covers_all_fills_before_one_without_range(self) -> None:
        """Earlier versions made fills without `cum_qty`, each for all that came before it."""
        order = {"id": "O", "status": "filled", "filled_qty": "10"}
        synthetic = self.read(make("fill", qty="6", order=order))
        self.assertTrue(synthetic.covers(build("partial_fill", **fill(0, 4))))
        self.assertFalse(synthetic.covers(build("fill", **fill(10, 11))))

    def test_only_marked_frames_count(self) -> None:
        """The text of the mark may be in an event's data, and a marked frame may be unreadable."""
        nested = build("canceled", recovered="orders")
        compact = json.dumps(json.loads(nested.payload), separators=(",", ":")).encode()
        message = parse_server(compact)
        assert isinstance(message, TradeUpdate)
        without_order = make("canceled", order=None)
        synthetic = self.read(message.event, without_order, make("held"))
        self.assertFalse(synthetic.covers(build("canceled")))
        self.assertTrue(synthetic.covers(build("held")))

    def test_update_parses_each_marked_row_once(self) -> None:
        """A log may hold a million events, and a check runs every 15 minutes."""
        synthetic = self.read()
        self.journal.append([event(1), make("held"), event(2)])
        self.assertEqual(count_parses(lambda: self.update(synthetic, 0)), 1)
        self.assertEqual(count_parses(lambda: self.update(synthetic, 0)), 0)
        self.journal.append([event(3), make("canceled")])
        self.assertEqual(count_parses(lambda: self.update(synthetic, 0)), 1)

    def test_events_that_are_no_rows_yet_count_until_they_are_dropped(self) -> None:
        """With Redis, they wait to be written. If another node led meanwhile, they never are."""
        synthetic = self.read(make("partial_fill", **fill(0, 4)))
        waiting = (event(1), make("fill", **fill(4, 10)), make("held"))
        self.patch(self.journal, "unread", waiting)
        self.update(synthetic, 0)
        self.assertTrue(synthetic.covers(build("fill", **fill(0, 10))))
        self.assertTrue(synthetic.covers(build("held")))
        self.patch(self.journal, "unread", ())
        self.update(synthetic, 0)
        self.assertFalse(synthetic.covers(build("fill", **fill(0, 10))))
        self.assertTrue(synthetic.covers(build("fill", **fill(0, 4))))
        self.assertFalse(synthetic.covers(build("held")))

    def test_update_reads_a_long_log_in_parts(self) -> None:
        """A check read the events of a whole day in one turn."""
        self.patch(synthetic_events, "ROWS_A_TURN", 2)
        synthetic = self.read()
        self.journal.append([make("held", order_id=f"{number}") for number in range(5)])
        updating = Deferred.fromCoroutine(synthetic.update(0))
        covered = [synthetic.covers(build("held", order_id=f"{number}")) for number in range(5)]
        self.assertEqual(covered, [True, True, False, False, False])
        self.clock.advance(0)
        self.successResultOf(updating)
        self.assertTrue(synthetic.covers(build("held", order_id="4")))

    def test_update_of_log_that_is_replaced_between_parts_is_an_error(self) -> None:
        """The rest of it has other numbers. The next update reads the new log."""
        self.patch(synthetic_events, "ROWS_A_TURN", 1)
        self.journal = self.open()
        self.journal.identify("one")
        self.journal.append([make("held"), make("canceled")])
        synthetic = SyntheticEvents(self.journal, self.clock)
        updating = Deferred.fromCoroutine(synthetic.update(0))
        self.journal.identify("another")
        self.clock.advance(0)
        self.failureResultOf(updating, UnreadableError)
        self.journal.append([make("expired")])
        self.update(synthetic, 0)
        covered = [synthetic.covers(build(kind)) for kind in ("held", "canceled", "expired")]
        self.assertEqual(covered, [True, False, True])

    def test_update_adds_to_what_was_read_from_the_first_time_on(self) -> None:
        """A later start does not drop older events. `clear` does."""
        synthetic = self.read(make("held"), make("canceled", time_of(200)), since=MADE)
        self.update(synthetic, time_of(150))
        self.assertTrue(synthetic.covers(build("held")))
        synthetic.clear()
        self.assertFalse(synthetic.covers(build("held")))
        self.assertFalse(synthetic.covers(build("canceled")))
        self.update(synthetic, time_of(150))
        self.assertFalse(synthetic.covers(build("held")))
        self.assertTrue(synthetic.covers(build("canceled")))

    def test_update_reads_from_the_first_time_on(self) -> None:
        """An event before it is not read; one at that time is."""
        for since, covered in ((MADE, True), (MADE + 1, False)):
            synthetic = self.read(make("held"), event(300), since=since)
            self.assertEqual(synthetic.covers(build("held")), covered)

    def test_update_of_log_that_continues_an_older_one_adds_to_it(self) -> None:
        """Clients got the events of the log that is lost: the history brought them again."""
        synthetic = self.read(make("held"), event(1))
        self.journal.identify("one")
        self.journal.identify("another")
        self.journal.append([make("canceled", time_of(200))])
        self.update(synthetic, 0)
        self.assertTrue(synthetic.covers(build("held")))
        self.assertTrue(synthetic.covers(build("canceled")))

    def test_update_continues_at_first_row_that_is_left(self) -> None:
        """The rows before it were trimmed since the last update."""
        self.journal = self.open(max_events=3)
        synthetic = SyntheticEvents(self.journal, self.clock)
        self.update(synthetic, 0)
        self.journal.append([event(n) for n in range(1, 6)])
        self.journal.append([make("held"), event(201), event(202)])
        self.clock.advance(TRIM_EVERY)
        self.assertEqual(self.journal.first, 6)
        self.update(synthetic, 0)
        self.assertTrue(synthetic.covers(build("held")))
