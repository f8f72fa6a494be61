"""What was held at the start, while fills are under way as Alpaca answers."""

from __future__ import annotations

import json
from dataclasses import dataclass
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from tests.book.strategy_frames import START, order, report_fill
from tests.book.support import parse
from tests.support.journals import dates_of, journal_at
from tests.support.properties import examples
from tests.support.ticks import Ticks
from tradeproxy.book.book import Book
from tradeproxy.book.seeding import Seed
from tradeproxy.hub.account import Account
from tradeproxy.wire.event import format_time

TENTH = 100_000
"""Microseconds. The model's time is in tenths of a second after START."""

BEFORE = 100
"""Tenths before Alpaca is asked."""


@dataclass
class Morning:
    """Fills of one symbol, and one request for the positions. Times are in tenths of a second."""

    held: int
    """The position before all fills."""
    fills: list[tuple[int, int, int]]
    """When it happened, how many units, and how much later its event comes at least."""
    looked: int
    """How long after the request Alpaca looks at the position."""
    answered: int
    """How long after that its answer arrives."""


mornings = st.builds(
    Morning,
    held=st.integers(-3, 3),
    fills=st.lists(
        st.tuples(
            st.integers(0, 200) | st.integers(BEFORE - 10, BEFORE + 20),
            st.integers(-3, 3).filter(bool),
            st.sampled_from([0, 1, 5, 30, 80]),
        ),
        max_size=6,
        unique_by=lambda fill: fill[0],
    ).map(sorted),
    looked=st.integers(0, 20),
    answered=st.integers(0, 20),
)


class OpeningTests(SynchronousTestCase):
    """One account, of which the log has every fill."""

    def begin(self) -> None:
        """Have a book that is current."""
        self.clock = Clock()
        self.clock.advance(START / 1_000_000)
        self.journal = journal_at(None, self.clock, dates=dates_of(self.clock))
        self.journal.open()
        self.account = Account("paper", self.journal, self.clock)
        self.book = Book(self.account, self.clock, Ticks())
        self.book.start()
        while self.book.is_building:
            self.clock.advance(0)

    def end(self) -> None:
        """Close everything."""
        self.book.stop()
        self.account.close()

    def publish(self, number: int, qty: int, time: int, position: int | None) -> None:
        """Publish a fill."""
        about = order(f"{number}", f"{'alpha' if number % 2 else 'beta'}-{number}")
        about["side"] = "buy" if qty > 0 else "sell"
        fields = {} if position is None else {"position_qty": f"{position}"}
        at = format_time(START + time * TENTH + 5_000)
        stamp = format_time(START + time * TENTH)
        frame = report_fill(
            about, f"e{number}", f"{abs(qty)}", f"{number + 1}", timestamp=stamp, at=at, **fields
        )
        self.account.publish(parse(frame))
        self.account.flush()

    def ask(self) -> Seed:
        """Begin a request."""
        seed = self.book.seeding.begin()
        assert seed is not None
        return seed

    def answer(self, seed: Seed, qty: int) -> None:
        """Take an answer."""
        fields = {"symbol": "AAPL", "asset_class": "us_equity", "avg_entry_price": "7"}
        document = json.dumps(fields | {"qty": f"{qty}"}).encode()
        self.book.seeding.take_positions(seed, [("AAPL", document)] if qty else [])
        self.book.seeding.finish(seed)

    def quantities(self) -> dict[str, Decimal]:
        """Return what each strategy holds."""
        self.book.catch_up()
        self.clock.advance(2)
        strategies = self.book.strategies
        assert strategies is not None
        self.assertTrue(strategies.is_current())
        return {name: each.qty for (name, _), each in strategies.book.holdings.items()}

    @examples(80)
    @given(mornings)
    def test_what_was_held_is_right_whatever_was_under_way(self, morning: Morning) -> None:
        """No fill is counted twice, and none is missed.

        A fill may be in the answer before its event comes, or in the log and not in the answer.
        After a stall of the stream the events come seconds late, in their order.
        """
        self.begin()
        looked = BEFORE + morning.looked
        answered = looked + morning.answered
        moments: list[tuple[int, int, int]] = [(BEFORE, -2, 0), (answered, -1, 0)]
        position, seen, positions, late = morning.held, morning.held, [], 0
        for number, (time, qty, delay) in enumerate(morning.fills):
            position += qty
            positions.append(position)
            seen = position if time <= looked else seen
            late = max(late, time + delay)
            moments.append((late, number, qty))
        now, seed = 0, None
        for moment, number, qty in sorted(moments):
            self.clock.advance((moment - now) / 10)
            now = moment
            if number == -2:
                seed = self.ask()
            elif number == -1:
                assert seed is not None
                self.answer(seed, seen)
            else:
                self.publish(number, qty, morning.fills[number][0], positions[number])
        found = self.quantities()
        self.end()
        self.assertEqual(sum(found.values()), position)
        self.assertEqual(found.get("(none)", 0), morning.held)

    def test_fill_that_came_between_question_and_answer_counts_once(self) -> None:
        """The position of the book has it already: it took the event's `position_qty`."""
        self.begin()
        seed = self.ask()
        self.clock.advance(0.2)
        self.publish(1, -9, 1, 141)
        self.answer(seed, 150)
        self.assertEqual(self.quantities(), {"(none)": 150, "alpha": -9})
        self.end()

    def test_position_that_was_closed_meanwhile_was_held_at_the_start(self) -> None:
        """At the price of the fill that closed it, if Alpaca's answer lacks it."""
        self.begin()
        seed = self.ask()
        self.clock.advance(0.2)
        self.publish(1, -9, 1, 0)
        self.answer(seed, 0)
        self.assertEqual(self.quantities(), {"(none)": 9, "alpha": -9})
        strategies = self.book.strategies
        assert strategies is not None
        [lot] = strategies.book.holdings["(none)", "AAPL"].lots
        self.assertEqual(lot.price, 2)
        self.end()

    def test_option_that_was_sold_before_the_question_has_its_multiplier(self) -> None:
        """Alpaca's answer does not list it any more, so the lot has the terms of the sale."""
        self.begin()
        about = order("1", symbol="AAPL250321P00200000", asset_class="us_option", side="sell")
        self.account.publish(parse(report_fill(about, "e", "2", "3", position_qty="0")))
        self.account.flush()
        self.answer(self.ask(), 0)
        self.clock.advance(2)
        strategies = self.book.strategies
        assert strategies is not None
        self.assertTrue(strategies.is_current())
        holding = strategies.book.holdings["(none)", "AAPL250321P00200000"]
        self.assertEqual((holding.qty, holding.multiplier, holding.lots[0].price), (2, 100, 3))
        self.end()

    def test_split_later_in_the_day_is_a_difference(self) -> None:
        """The position in an event settles what was held only in the seconds of the answer."""
        self.begin()
        self.answer(self.ask(), 10)
        self.clock.advance(3600)
        self.publish(1, 1, 36_000, 21)
        self.assertEqual(self.quantities(), {"(none)": 10, "alpha": 1})
        self.end()
