"""What the snapshots of one book share."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tests.book.support import BookCase, make_snapshot, parse
from tests.support.state import order_event
from tradeproxy.book.book import PREPARE_TIME, PREPARED
from tradeproxy.book.fill_records import Opening
from tradeproxy.book.lots import ONE, OPENING, ZERO, FillKey
from tradeproxy.book.snapshot import GROUP_NUMS, Renderings
from tradeproxy.book.strategy_documents import LISTED_POSITIONS
from tradeproxy.journal.base import UnreadableError

if TYPE_CHECKING:
    from tradeproxy.book.views import BookSnapshot

BRACKETS = 300


def bracket(n: int, order_id: int) -> bytes:
    """Return event `n`: a bracket that is open."""
    legs = [{"id": f"{order_id}-{leg}", "symbol": "AAPL", "status": "held"} for leg in "ab"]
    return order_event(n, str(order_id), legs=legs)


def count_own(new: BookSnapshot, old: BookSnapshot) -> tuple[int, int]:
    """Return what only the new snapshot has: bytes of documents, and groups of orders."""

    def list_documents(each: BookSnapshot) -> list[bytes]:
        views: list[Any] = [*each.list_orders(), *each.positions, *each.fills, *each.strategies]
        return [view.document for view in views]

    known = set(map(id, list_documents(old)))
    groups = set(map(id, old.groups))
    return (
        sum(len(each) for each in list_documents(new) if id(each) not in known),
        sum(id(group) not in groups for group in new.groups),
    )


class ManyPositionsTests(BookCase):
    """One request for the state of 20,000 positions delayed every event by up to 2.3 s."""

    def setUp(self) -> None:
        super().setUp()
        self.symbols = [f"S{n:03}" for n in range(7 * PREPARED)]
        self.publish(
            *[order_event(n, str(n), "fill", symbol=s) for n, s in enumerate(self.symbols)]
        )

    def read_strategies(self) -> list[tuple[str, str, bool]]:
        """Return the symbol, the quantity and `account_flat` of each position of strategies."""
        documents = [json.loads(each.document) for each in make_snapshot(self.book).strategies]
        self.assertEqual({each["name"] for each in documents}, {"bot"})
        return [
            (position["symbol"], position["qty"], position["account_flat"])
            for each in documents
            for position in each["positions"]
        ]

    def test_they_are_rendered_in_steps(self) -> None:
        """A snapshot may be taken once all are rendered. A later event needs no step of its own."""
        self.ticks.tick = PREPARE_TIME
        steps = 1
        while not self.book.prepare():
            steps += 1
        self.assertEqual(steps, 13)  # of two kinds; the last step of one begins the other
        self.publish(order_event(900, "900", "fill", symbol="S001"))
        self.assertTrue(self.book.prepare())

    def test_snapshot_of_strategies_that_are_computed_meanwhile_renders_none(self) -> None:
        """The question that finished the computation rendered all of them in one step."""
        strategies = self.book.strategies
        assert strategies is not None
        no_fill = FillKey(OPENING, "", "", "")
        strategies.book.set_openings(
            [Opening(s, "", ONE, ONE, ONE, no_fill, ZERO) for s in self.symbols]
        )
        self.assertTrue(self.book.prepare())
        self.assertEqual(make_snapshot(self.book).strategies, ())
        self.ticks.tick = PREPARE_TIME
        self.assertFalse(self.book.prepare())

    def test_snapshot_without_steps_has_all_of_them(self) -> None:
        """Of the account and of the strategy, by symbol."""
        snapshot = make_snapshot(self.book)
        self.assertEqual([each.symbol for each in snapshot.positions], self.symbols)
        self.assertEqual(self.read_strategies(), [(s, "10", False) for s in self.symbols])

    def test_changes_are_shown(self) -> None:
        """A new symbol takes its place, and a closed one is gone."""
        make_snapshot(self.book)
        sold = json.loads(order_event(901, "901", "fill", symbol="S001"))
        sold["data"]["order"]["side"], sold["data"]["position_qty"] = "sell", "0"
        self.publish(json.dumps(sold).encode())
        self.publish(order_event(902, "902", "fill", symbol="S0005"))
        wanted = sorted({*self.symbols, "S0005"} - {"S001"})
        self.assertEqual([each.symbol for each in make_snapshot(self.book).positions], wanted)
        shown = [symbol for symbol, qty, _ in self.read_strategies() if qty != "0"]
        self.assertEqual(shown, wanted)

    def test_position_that_the_account_has_not_is_marked(self) -> None:
        """It was closed without the prefix of the strategy: its own fills do not show that."""
        self.assertNotIn(("S001", "10", True), self.read_strategies())
        sold = json.loads(order_event(903, "903", "fill", symbol="S001", client_order_id="x"))
        sold["data"]["order"]["side"], sold["data"]["position_qty"] = "sell", "0"
        self.publish(json.dumps(sold).encode())
        documents = [json.loads(each.document) for each in make_snapshot(self.book).strategies]
        flat = [
            position["symbol"]
            for each in documents
            for position in each["positions"]
            if each["name"] == "bot" and position["account_flat"]
        ]
        self.assertEqual(flat, ["S001"])

    def test_next_trade_date_leaves_out_what_was_closed(self) -> None:
        """A position with a fill of the day is listed although it is flat."""
        sold = json.loads(order_event(904, "904", "fill", symbol="S001"))
        sold["data"]["order"]["side"], sold["data"]["position_qty"] = "sell", "0"
        self.publish(json.dumps(sold).encode())
        self.assertIn(("S001", "0", False), self.read_strategies())
        self.clock.advance(24 * 60 * 60)
        self.ticks.tick = PREPARE_TIME
        self.assertFalse(self.book.prepare())
        self.publish(order_event(905, "905", "new"))
        self.assertEqual(
            [symbol for symbol, *_ in self.read_strategies()],
            [symbol for symbol in self.symbols if symbol != "S001"],
        )


class SharedSnapshotTests(BookCase):
    """A client that does not read keeps its snapshot while events make further ones."""

    def setUp(self) -> None:
        super().setUp()
        self.publish(*[bracket(n, 1000 + n) for n in range(BRACKETS)])
        self.publish(*[order_event(500 + n, str(2000 + n), "fill") for n in range(60)])

    def test_event_later_snapshot_has_little_of_its_own(self) -> None:
        """Each snapshot was a copy of the whole state: a hundred readers pinned 800 MB."""
        old = make_snapshot(self.book)
        self.publish(bracket(600, 1005))
        new = make_snapshot(self.book)
        self.assertGreater(new.seq, old.seq)
        [changed] = [view for view in new.list_orders() if view.id == "1005"]
        self.assertEqual(count_own(new, old), (len(changed.document), 1))
        self.assertIs(new.fills, old.fills)
        self.assertIs(new.positions, old.positions)
        self.assertIs(new.strategies, old.strategies)

    def test_fill_changes_few_bytes_of_many_positions(self) -> None:
        """Each snapshot had the positions of a strategy in an object of its own, of 6.5 MB."""
        symbols = [f"S{n:03}" for n in range(3 * LISTED_POSITIONS)]
        self.publish(
            *[order_event(700 + n, str(n), "fill", symbol=s) for n, s in enumerate(symbols)]
        )
        old = make_snapshot(self.book)
        self.publish(order_event(2000, "9999", "fill", symbol=symbols[-1]))
        new = make_snapshot(self.book)
        self.assertLess(count_own(new, old)[0], LISTED_POSITIONS * 400)
        self.assertGreater(
            sum(len(each.document) for each in new.strategies), 3 * LISTED_POSITIONS * 200
        )

    def test_closed_order_changes_one_group(self) -> None:
        """The orders behind it in the list stay in their groups."""
        old = make_snapshot(self.book)
        self.publish(order_event(601, "1005", "canceled", legs=[]))
        self.publish(order_event(602, "1005-a", "canceled"), order_event(603, "1005-b", "canceled"))
        new = make_snapshot(self.book)
        ids = [view.id for view in new.list_orders()]
        self.assertEqual(ids, [str(1000 + n) for n in range(BRACKETS) if n != 5])
        self.assertEqual(count_own(new, old)[1], 1)
        self.assertLess(max(map(len, new.groups)), GROUP_NUMS)

    def test_changed_leg_is_shown(self) -> None:
        """The order itself is as it was."""
        make_snapshot(self.book)
        self.publish(order_event(604, "1005-b", "canceled"))
        [view] = [view for view in make_snapshot(self.book).list_orders() if view.id == "1005"]
        self.assertIn(b'"status":"canceled"', view.document)

    def test_next_one_begins_when_the_first_is_made(self) -> None:
        """Each has a copy of the list of orders until it is made."""
        self.ticks.tick = 0.001
        first = self.book.snapshot()
        self.account.publish(parse(bracket(605, 1005)))
        self.account.flush()
        self.assertTrue(self.book.catch_up())
        self.assertIs(self.book.snapshot(), first)
        while first.made is None:
            first.step()
        second = self.book.snapshot()
        self.assertEqual(second.seq, first.seq + 1)

    def test_failed_one_does_not_delay_the_next(self) -> None:
        """Its clients get an error; they waited for it without an end."""

        def fail(*_: object) -> None:
            raise ValueError

        view = Renderings.view
        self.patch(Renderings, "view", fail)
        pending = self.book.snapshot()
        self.assertTrue(pending.has_ended)
        self.assertRaises(UnreadableError, lambda: pending.made)
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
        self.patch(Renderings, "view", view)
        # Not only after the next event: a quiet account had no snapshot for hours.
        self.assertEqual(make_snapshot(self.book).seq, self.book.seq)
        self.publish(bracket(606, 1005))
        self.assertEqual(make_snapshot(self.book).seq, self.book.seq)
