"""Whose a fill is, and what amendments, links and hands change."""

from __future__ import annotations

from decimal import Decimal
from random import Random
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.book.strategy_frames import START, UUID, frame, order, read, report_fill
from tests.support.holdings import describe_strategy, group_holdings
from tradeproxy.book.fill_records import Opening
from tradeproxy.book.fill_store import FillStore
from tradeproxy.book.lots import ZERO, FillKey
from tradeproxy.book.strategy_book import (
    KEEP_EVERY,
    MAX_NOTES,
    MAX_UNBOOKED,
    UNKNOWN_FILL,
    StrategyBook,
)
from tradeproxy.journal.tables import TemporaryTables
from tradeproxy.wire.strategy_rule import MAX_STRATEGIES, BeforeDash, parse_rule
from tradeproxy.wire.trade_date import trade_date


def describe(book: StrategyBook) -> list[dict[str, Any]]:
    """Return all that a book says."""
    while book.work(1000):
        pass
    day = trade_date(START)
    return [describe_strategy(name, own, day, {}) for name, own in group_holdings(book).items()]


class StrategyBookTests(SynchronousTestCase):
    """One book."""

    def setUp(self) -> None:
        self.overflows = 0
        self.tables = TemporaryTables()
        self.addCleanup(self.tables.close)
        self.store = FillStore(self.tables)
        self.book = self.open()

    def open(self, rule: str = "") -> StrategyBook:
        """Return a book of the records, as after a restart."""
        self.tables.run(self.store.save, writes=True)
        self.store = FillStore(self.tables)
        return StrategyBook(self.store, parse_rule(rule), self.count)

    def count(self) -> None:
        """Count a warning."""
        self.overflows += 1

    def take(self, *payloads: bytes) -> None:
        """Apply events."""
        for payload in payloads:
            self.book.take(read(payload))

    def quantities(self, symbol: str = "AAPL") -> dict[str, str]:
        """Return what each strategy holds of a symbol."""
        while self.book.work(1):
            pass
        return {
            name: f"{holding.qty:f}"
            for (name, held), holding in sorted(self.book.holdings.items())
            if held == symbol and holding.qty
        }

    def test_uuid_belongs_to_none(self) -> None:
        """Alpaca or a library made it."""
        self.take(report_fill(order("1", UUID), "a", "1", "2"))
        self.assertEqual(self.quantities(), {"(none)": "1"})

    def test_names_of_the_rule_before_are_free(self) -> None:
        """A wrong rule may have made as many as are allowed."""
        for number in range(MAX_STRATEGIES + 1):
            about = order(f"{number}", f"momentum_{number}-1")
            self.take(report_fill(about, f"e{number}", "1", "2"))
        self.book = self.open("momentum")
        self.book.rename()
        self.assertEqual(self.quantities(), {"momentum": f"{MAX_STRATEGIES + 1}"})

    def test_sum_of_fills_does_not_replace_its_last_part(self) -> None:
        """The recovery reports what several fills add up to; an import may have had each."""
        for qty, filled in (("4", "4"), ("6", "10"), ("10", "10")):
            about = order("1", "alpha-1", filled_qty=filled)
            self.take(report_fill(about, "", qty, "2", event_id=f"{qty} of {filled}"))
        self.assertEqual(self.quantities(), {"alpha": "10"})

    def test_leg_belongs_to_the_strategy_of_its_parent(self) -> None:
        """Its own id is a UUID, and its fill may come before the event that links it."""
        leg = order("2", UUID, side="sell")
        self.take(
            report_fill(order("1"), "a", "5", "2"),
            report_fill(leg, "b", "2", "3"),
        )
        self.assertEqual(self.quantities(), {"alpha": "5", "(none)": "-2"})
        self.take(frame("new", order("1", legs=[leg])))
        self.assertEqual(self.quantities(), {"alpha": "3"})

    def test_replacement_belongs_to_the_strategy_of_its_predecessor(self) -> None:
        """Through several replacements, whichever of them comes first."""
        self.take(
            report_fill(order("3", UUID, replaces="2"), "a", "1", "2"),
            frame("replaced", order("2", UUID, replaces="1", replaced_by="3")),
            frame("replaced", order("1", replaced_by="2")),
        )
        self.assertEqual(self.quantities(), {"alpha": "1"})

    def test_links_in_a_circle_end(self) -> None:
        """Nothing that Alpaca writes may stop the proxy."""
        self.take(
            report_fill(order("1", replaces="2"), "a", "1", "2"),
            report_fill(order("2", "beta-1", replaces="1"), "b", "1", "2"),
        )
        self.assertEqual(sum(map(Decimal, self.quantities().values())), 2)

    def test_assignment_by_hand_stays_and_counts_for_legs_too(self) -> None:
        """It is kept through events, links and restarts; "" undoes it."""
        self.take(report_fill(order("1"), "a", "5", "2"))
        self.take(frame("new", order("1", legs=[order("2", UUID)])))
        self.book.orders.assign("1", "by hand")
        self.take(report_fill(order("2", UUID, side="sell"), "b", "1", "2"))
        self.book = self.open()
        self.take(frame("new", order("1", legs=[order("2", UUID)])))
        self.assertEqual(self.quantities(), {"by hand": "4"})
        self.book.orders.assign("1", "")
        self.assertEqual(self.quantities(), {"alpha": "4"})

    def test_order_may_be_assigned_before_its_first_event(self) -> None:
        """Another node may have it already."""
        self.book.orders.assign("1", "gamma")
        self.take(report_fill(order("1"), "a", "1", "2"))
        self.assertEqual(self.quantities(), {"gamma": "1"})

    def test_more_strategies_count_as_others_with_one_warning(self) -> None:
        """The first ones keep their names."""
        for number in range(MAX_STRATEGIES + 3):
            self.take(report_fill(order(f"{number}", f"s{number}-1"), f"{number}", "1", "2"))
        found = self.quantities()
        self.assertEqual(len(found), MAX_STRATEGIES + 1)
        self.assertEqual((found["(other)"], found["s0"]), ("3", "1"))
        self.assertEqual(self.overflows, 1)

    def test_start_is_a_lot_of_none_without_the_fills_it_includes(self) -> None:
        """A fill that was found later and happened before is not counted twice."""
        until = FillKey(START + 1, "", "", "")
        opening = Opening("AAPL", "us_equity", Decimal(10), Decimal(7), Decimal(1), until, ZERO)
        self.book.set_openings([opening])
        self.assertEqual(self.quantities(), {"(none)": "10"})
        self.take(report_fill(order("1"), "a", "4", "2", minute=-1))
        self.assertEqual(self.quantities(), {"(none)": "6", "alpha": "4"})
        self.take(report_fill(order("1"), "b", "1", "2", minute=1))
        self.assertEqual(self.quantities(), {"(none)": "6", "alpha": "5"})

    def test_bust_undoes_a_fill(self) -> None:
        """It names the execution in one of two fields."""
        self.take(report_fill(order("1"), "a", "5", "2"), report_fill(order("1"), "b", "1", "2"))
        self.take(frame("trade_bust", order("1"), execution_id="a"))
        self.assertEqual(self.quantities(), {"alpha": "1"})
        bust = frame("trade_bust", order("1"), execution_id="c", previous_execution_id="b")
        self.take(bust)
        self.assertEqual(self.quantities(), {})

    def test_bust_of_a_new_fill_applies_few_fills_again(self) -> None:
        """All of its strategy and symbol were applied again: 20 ms for 1,500 of them."""
        count = 10 * KEEP_EVERY
        for number in range(count):
            self.take(report_fill(order(f"{number}"), f"{number}", "1", "2", minute=number))
        self.assertEqual(self.quantities(), {"alpha": f"{count}"})
        for last in (f"{count - 1}", f"{count - 2}"):
            self.take(frame("trade_bust", order(last), execution_id=last))
            self.assertFalse(self.book.work(KEEP_EVERY + 1))
        self.assertEqual(self.quantities(), {"alpha": f"{count - 2}"})

    def test_holdings_that_go_on_from_copies_are_those_of_all_fills(self) -> None:
        """Fills come late, and any of them may be undone, corrected or moved."""
        random = Random(3)
        for number in range(12 * KEEP_EVERY):
            minute = number - random.choice((0, 0, 0, 0, 1, 40))
            side, price = random.choice(("buy", "sell")), f"{random.randrange(1, 9)}"
            about = order(f"{number}", random.choice(("alpha-1", "b-1")), side=side)
            self.take(report_fill(about, f"{number}", "3", price, minute=minute))
            other = f"{number - min(int(random.expovariate(0.03)), number)}"
            match random.randrange(20):
                case 0:
                    self.take(frame("trade_bust", order(other), execution_id=other))
                case 1:
                    kind = "trade_correct"
                    self.take(report_fill(order(other), other, "2", "5", event=kind))
                case 2:
                    self.book.orders.assign(other, random.choice(("alpha", "b")))
                case 3:
                    self.book.work(random.randrange(100))
            if number % KEEP_EVERY == 0:
                self.tables.run(self.store.save, writes=True)
                self.store.clear_changes()
                fresh = StrategyBook(FillStore(self.tables), BeforeDash(), self.count)
                self.assertEqual(describe(self.book), describe(fresh))

    def test_correction_after_a_bust_books_the_fill_again(self) -> None:
        """Alpaca has sent both for one execution, under one event id."""
        self.take(report_fill(order("1"), "a", "5", "2"))
        self.take(frame("trade_bust", order("1"), execution_id="a"))
        self.take(report_fill(order("1"), "a", "4", "3", event="trade_correct"))
        self.assertEqual(self.quantities(), {"alpha": "4"})
        [lot] = self.book.holdings["alpha", "AAPL"].lots
        self.assertEqual(lot.price, 3)

    def test_correction_is_corrected_by_its_own_id(self) -> None:
        """The next one names the execution that the last one made."""
        correct = {"event": "trade_correct"}
        self.take(
            report_fill(order("1"), "a", "5", "2"),
            report_fill(order("1"), "b", "4", "2", previous_execution_id="a", **correct),
            report_fill(order("1"), "c", "3", "2", previous_execution_id="b", **correct),
        )
        self.assertEqual(self.quantities(), {"alpha": "3"})

    def test_amendment_of_an_unknown_fill_is_noted_until_the_fill_comes(self) -> None:
        """Then it applies; a restart in between changes nothing."""
        self.take(frame("trade_bust", order("1"), execution_id="a"))
        [note] = self.book.notes
        self.assertEqual((note.order_id, note.execution, note.problem), ("1", "a", UNKNOWN_FILL))
        self.book = self.open()
        self.take(report_fill(order("1"), "a", "5", "2"))
        self.assertEqual((self.quantities(), self.book.notes), ({}, []))

    def test_notes_have_an_end(self) -> None:
        """The newest are kept."""
        for number in range(MAX_UNBOOKED + 5):
            self.take(frame("trade_bust", order("1"), execution_id=f"{number}"))
        self.assertEqual(len(self.book.notes), MAX_NOTES)
        self.assertEqual(self.book.notes[-1].execution, f"{MAX_UNBOOKED + 4}")
        self.assertEqual(len(self.store.list_unbooked()), MAX_UNBOOKED)

    def test_same_execution_with_other_amounts_replaces_it(self) -> None:
        """Alpaca corrects a fill without an amendment too; a repeat changes nothing."""
        first = report_fill(order("1"), "a", "5", "2")
        self.take(first, first, report_fill(order("1"), "a", "6", "2", event_id="other"))
        self.assertEqual(self.quantities(), {"alpha": "6"})

    def test_fill_that_an_order_shows_is_the_one_that_the_stream_brings(self) -> None:
        """One has no execution id. The quantity that is filled with it identifies it."""
        shown = report_fill(order("1", filled_qty="9"), "", "5", "2", cum_qty="5", event_id=None)
        real = report_fill(order("1", filled_qty="5.0"), "a", "5", "2")
        self.take(shown, real, shown)
        self.assertEqual(self.quantities(), {"alpha": "5"})
        self.take(frame("trade_bust", order("1"), execution_id="a"))
        self.assertEqual(self.quantities(), {})

    def test_fill_of_a_quantity_that_was_busted_counts(self) -> None:
        """The order reaches the same quantity again, in another execution."""
        self.take(
            report_fill(order("1", filled_qty="5"), "a", "5", "2"),
            frame("trade_bust", order("1"), execution_id="a"),
            report_fill(order("1", filled_qty="5"), "b", "5", "3", minute=1),
        )
        self.assertEqual(self.quantities(), {"alpha": "5"})

    def test_other_rule_moves_all_fills(self) -> None:
        """The rule can change between two starts."""
        for number in range(300):
            name = f"alpha-beta-{number}" if number % 2 else UUID
            self.take(report_fill(order(f"{number}", name), f"{number}", "1", "2"))
        self.assertEqual(self.quantities(), {"(none)": "150", "alpha": "150"})
        self.book = self.open("alpha-beta,alpha-beta-29")
        self.book.rename()
        self.assertFalse(self.book.is_current)
        self.assertEqual(
            self.quantities(), {"(none)": "150", "alpha-beta": "144", "alpha-beta-29": "6"}
        )

    def test_position_closed_without_the_prefix_stays_open(self) -> None:
        """The sale belongs to nobody, so the strategy still has what it bought."""
        self.take(
            report_fill(order("1"), "a", "5", "2"),
            report_fill(order("2", UUID, side="sell"), "b", "5", "2"),
        )
        self.assertEqual(self.quantities(), {"alpha": "5", "(none)": "-5"})

    def test_rule_without_dash_is_the_default(self) -> None:
        """An empty setting is none."""
        self.assertEqual(parse_rule(""), BeforeDash())
