"""Tests for tradeproxy.recovery.book_seed: the book and Alpaca's own orders and positions."""

from __future__ import annotations

import json
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import capturedLogs, formatEvent
from twisted.web.server import Request

from tests.book.support import make_snapshot
from tests.recovery.recovery_case import OrdersTestCase, RecoveryTestCase
from tests.support.ticks import Ticks
from tests.upstream.support import BASE_URL, memory_agent
from tradeproxy.book.book import Book
from tradeproxy.book.seeding import Seed
from tradeproxy.config.settings import RecoveryMode
from tradeproxy.recovery import book_seed
from tradeproxy.recovery.book_seed import BookSeed
from tradeproxy.simulator.faults import FaultKind
from tradeproxy.simulator.orders import Order
from tradeproxy.upstream.rest import RestClient
from tradeproxy.web import state_pages


class BookCase(OrdersTestCase):
    """An account with a book, whose Alpaca is the simulator."""

    def new_book(self) -> Book:
        self.book = Book(self.account, self.clock, Ticks())
        self.book.start()
        self.addCleanup(self.book.stop)
        return self.book

    def positions(self) -> dict[str, str]:
        """Return the quantities in the book."""
        self.book.catch_up()
        return {each.symbol: json.loads(each.document)["qty"] for each in self.book.positions()}

    def alpacas_positions(self) -> dict[str, str]:
        """Return the quantities that Alpaca has."""
        found = (each.open_position() for each in self.alpaca.exchange.portfolio.positions())
        return {each["symbol"]: each["qty"] for each in found}

    def open_orders(self) -> list[str]:
        """Return the ids of the open orders in the book, without the test's own first event."""
        return [view.id for view in make_snapshot(self.book).list_orders() if view.id != "order 0"]

    def shift(self, symbol: str, qty: str) -> None:
        """Change a position at Alpaca without an event, as a corporate action does."""
        instrument = self.alpaca.exchange.portfolio.instrument(symbol)
        instrument.trade(Decimal(qty), instrument.price)

    def check_again(self) -> None:
        """Let the next regular check happen."""
        self.advance(1000)


class SeedTests(BookCase):
    """What the log has no event of is known from Alpaca."""

    def test_new_book_is_complete_after_the_first_answer(self) -> None:
        """Before it, orders of the time before the log may be missing."""
        self.assertTrue(self.book.is_complete)

    def test_orders_and_positions_of_an_outage_are_in_the_book(self) -> None:
        """Neither the stream nor the refused history brought them."""
        orders: list[Order] = []

        def trade() -> None:
            orders.append(self.submit_resting())
            self.submit(symbol="AAPL")
            self.shift("TSLA", "7")

        self.outage(trade)
        self.assertFalse(self.book.is_building)
        self.advance(5)
        self.assertEqual(self.open_orders(), [orders[0].id])
        self.assertEqual(self.positions(), self.alpacas_positions())
        self.assertIn("TSLA", self.positions())
        self.assertTrue(self.book.is_complete)

    def test_book_is_not_complete_while_the_stream_is_down(self) -> None:
        """Nothing shows what happens meanwhile."""
        self.outage(lambda: self.assertFalse(self.book.is_complete))
        self.advance(5)
        self.assertTrue(self.book.is_complete)

    def test_missing_answer_leaves_the_book_incomplete_until_the_next_check(self) -> None:
        """The line in the log comes once per outage, not per check."""

        def refuse(request: Request) -> int | None:
            return 500 if request.path == b"/v2/positions" else None

        self.override(refuse)
        self.outage(lambda: None)
        self.advance(120)
        self.assertFalse(self.book.is_complete)
        self.override(lambda request: None)
        self.check_again()
        self.assertTrue(self.book.is_complete)

    def test_book_that_is_built_soon_is_compared_then(self) -> None:
        """A build takes some seconds, and the next check comes a quarter of an hour later."""
        self.outage(self.book.stop)
        self.advance(5)
        self.shift("TSLA", "7")
        self.book.start()
        self.advance(5)
        self.assertEqual(self.positions(), {"TSLA": "7"})

    def test_book_that_is_not_built_in_time_is_compared_with_the_next_check(self) -> None:
        """Before, Alpaca is not asked: nothing could take the answers."""
        asked: list[Any] = []
        self.override(lambda request: asked.append(request.path))
        self.book.stop()
        self.advance(2000)
        self.assertNotIn(b"/v2/positions", asked)
        self.shift("TSLA", "7")
        self.book.start()
        self.advance(2000)
        self.assertEqual(self.positions(), {"TSLA": "7"})

    def test_entry_of_another_shape_leaves_the_others_and_the_book_incomplete(self) -> None:
        """It rejected the whole list, so the book had none of the orders and positions."""

        def answer(request: Request) -> bytes | None:
            if request.path != b"/v2/positions":
                return None
            found = (each.open_position() for each in self.alpaca.exchange.portfolio.positions())
            return json.dumps(["x", *found]).encode()

        self.override(answer)
        with capturedLogs() as logs:
            self.outage(lambda: self.shift("TSLA", "7"))
            self.advance(120)
            self.check_again()
        lines = [formatEvent(each) or "" for each in logs]
        problem = "entries of another shape"
        self.assertEqual(sum(problem in line for line in lines), 1, lines)
        self.assertEqual(self.positions(), {"TSLA": "7"})
        self.assertFalse(self.book.is_complete)
        self.override(lambda request: None)
        self.check_again()
        self.assertTrue(self.book.is_complete)

    def test_more_positions_than_the_bound_leave_the_book_incomplete(self) -> None:
        """60,000 of them stopped the process for 15 s, and took 170 MB."""
        self.patch(book_seed, "MAX_POSITIONS", 1)
        self.shift("TSLA", "7")
        self.shift("MSFT", "3")
        with capturedLogs() as logs:
            self.check_again()
        self.assertEqual(len(self.positions().keys() & {"TSLA", "MSFT"}), 1)
        self.assertFalse(self.book.is_complete)
        self.assertIn(
            "they have more than 1 positions", "\n".join(map(str, map(formatEvent, logs)))
        )

    def test_large_orders_are_taken_few_at_a_time(self) -> None:
        """A turn took 25 of them, whatever their size."""
        documents = [{"id": f"{n}", "status": "new", "note": "x" * 400_000} for n in range(8)]
        taken: list[int] = []
        take = self.book.seeding.take_orders

        def take_orders(seed: Seed, orders: Iterable[bytes]) -> None:
            found = list(orders)
            taken.append(len(found))
            take(seed, found)

        self.patch(self.book.seeding, "take_orders", take_orders)
        self.override(
            lambda request: (
                json.dumps(documents).encode() if request.path == b"/v2/orders" else None
            )
        )
        self.check_again()
        self.assertEqual(taken[:3], [3, 3, 2])
        self.assertEqual(max(taken), 3)
        self.assertEqual(self.open_orders(), [f"{n}" for n in range(8)])

    def test_odd_text_in_a_position_does_not_end_the_comparison(self) -> None:
        """Neither has a form in JSON in UTF-8: the answer raised, so the book had no position."""

        def answer(request: Request) -> bytes | None:
            if request.path != b"/v2/positions":
                return None
            odd = {"exchange": "\ud800", "lastday_price": float("nan")}
            found = (each.open_position() for each in self.alpaca.exchange.portfolio.positions())
            return json.dumps([each | odd for each in found]).encode()

        self.override(answer)
        self.outage(lambda: self.shift("TSLA", "7"))
        self.advance(5)
        self.assertEqual(self.positions(), {"TSLA": "7"})
        self.assertTrue(self.book.is_complete)
        [view] = self.book.positions()
        document = json.loads(view.document.decode(), parse_constant=self.fail)
        self.assertEqual((document["exchange"], document["lastday_price"]), ("?", "NaN"))

    def test_list_that_is_too_large_is_asked_for_in_parts(self) -> None:
        """The whole answer was refused again and again, so the book was never complete."""
        limits: list[bytes] = []

        def answer(request: Request) -> bytes | None:
            if request.path != b"/v2/orders":
                return None
            limits.append(request.args[b"limit"][0])
            return b"[]".rjust(8 * 1024 * 1024 + 1) if int(limits[-1]) > 200 else None

        self.submit_resting()
        self.override(answer)
        self.outage(lambda: None)
        self.advance(5)
        self.assertTrue(self.book.is_complete)
        self.assertEqual(limits[-4:], [b"500", b"250", b"125", b"125"])

    def test_closed_order_that_is_too_large_does_not_hide_the_others(self) -> None:
        """The log has one line about it, and the book is not complete."""
        large, small = sorted((self.submit_resting() for _ in range(2)), key=lambda it: it.id)
        self.advance(2000)
        self.inject(FaultKind.UNREPORTED, seconds=0.1)
        self.cancel(large)
        self.cancel(small)
        self.override(
            lambda request: (
                b"{}".rjust(1024 * 1024 + 1) if request.path.endswith(large.id.encode()) else None
            )
        )
        with capturedLogs() as logs:
            self.advance(5000)
        self.assertEqual(self.open_orders(), [large.id])
        lines = [formatEvent(event) or "" for event in logs]
        self.assertEqual(sum("cannot compare the orders" in line for line in lines), 1, lines)
        self.assertFalse(self.book.is_complete)


class RunTests(BookCase):
    """Single comparisons, without the service that repeats them."""

    def setUp(self) -> None:
        super().setUp()
        self.orders = [self.submit_resting() for _ in range(10)]
        self.advance(2)
        self.stop()
        self.asked: list[bytes] = []
        self.override(lambda request: self.asked.append(request.path))
        rest = RestClient(
            memory_agent(self.host, self.clock), BASE_URL, self.keys, self.clock, self.account.dates
        )
        self.seed = BookSeed(self.book, rest, self.clock)

    def test_orders_that_are_missing_are_asked_for_ten_at_a_time(self) -> None:
        """A list without all of them must not cause as many requests. The next run has the rest.

        Alpaca does not know the test's own first event's order, which is the eleventh.
        """
        for order in self.orders:
            self.cancel(order)
        counts: list[int] = []
        for _ in range(3):
            running = Deferred.fromCoroutine(self.seed.run())
            self.advance(5)
            self.successResultOf(running)
            counts.append(sum(path.startswith(b"/v2/orders/") for path in self.asked))
        self.assertEqual(counts, [0, 10, 11])
        self.assertEqual(self.open_orders(), [])

    def test_run_waits_twenty_seconds_for_the_book(self) -> None:
        """It looks four times a second; the last time just before the end."""
        for seconds, is_compared in ((19.6, True), (19.8, False)):
            self.setUp()
            self.book.stop()
            running = Deferred.fromCoroutine(self.seed.run())
            self.advance(seconds)
            self.book.start()
            self.advance(5)
            self.successResultOf(running)
            self.assertEqual(b"/v2/positions" in self.asked, is_compared, seconds)


class ComparisonTests(BookCase):
    """A position that differs is corrected the second time, and then shown."""

    def setUp(self) -> None:
        super().setUp()
        self.submit()
        self.advance(5)
        self.assertEqual(self.positions(), {"SPY": "10"})

    def differences(self) -> list[str | None]:
        return [json.loads(each.document).get("difference") for each in self.book.positions()]

    def test_fills_move_the_position_between_answers(self) -> None:
        """No request is needed for it."""
        self.submit(side="sell", qty="4")
        self.advance(2)
        self.assertEqual(self.positions(), {"SPY": "6"})

    def test_difference_is_shown_after_two_comparisons(self) -> None:
        """One comparison may be in a race with an event that is still to come."""
        self.check_again()
        self.shift("SPY", "10")
        self.advance(900)
        self.assertEqual((self.positions(), self.differences()), ({"SPY": "10"}, [None]))
        self.advance(900)
        self.assertEqual(self.positions(), {"SPY": "20"})
        self.assertEqual(self.differences(), ["the proxy had 10, Alpaca has 20"])
        self.assertEqual(self.book.corrected, 1)
        self.advance(900)
        self.assertEqual((self.positions(), self.differences()), ({"SPY": "20"}, [None]))

    def test_answers_share_a_position_that_differed(self) -> None:
        """Each had copies of its own: 127 of them, with 10,000 such positions, took 540 MB."""
        self.check_again()
        self.shift("SPY", "10")
        self.advance(1800)
        first, second = self.show_differing(), self.show_differing()
        self.assertEqual(first, second)
        self.assertEqual(json.loads(first)["difference"], "the proxy had 10, Alpaca has 20")
        self.assertIs(first, second)

    def show_differing(self) -> bytes:
        """Return the position with a difference as it is in an answer to a client."""
        work = state_pages._show_state(self.book)  # noqa: SLF001
        while True:
            try:
                next(work)
            except StopIteration as ended:
                [found] = [piece for piece in ended.value.pieces if b'"difference"' in piece]
                assert isinstance(found, bytes)
                return found

    def test_event_between_two_comparisons_begins_again(self) -> None:
        """The event's own position counts; Alpaca's answer may be from before."""
        self.check_again()
        self.shift("SPY", "10")
        self.advance(900)
        self.submit(qty="1")
        self.advance(900)
        self.assertEqual(self.differences(), [None])
        self.assertEqual(self.positions(), {"SPY": "21"})

    def test_position_that_alpaca_does_not_have_is_shown_as_zero(self) -> None:
        """An expired option has no event. The row stays until the next comparison."""
        self.check_again()
        self.shift("SPY", "-10")
        self.advance(1800)
        self.assertEqual(self.positions(), {"SPY": "0"})
        self.assertEqual(self.differences(), ["the proxy had 10, Alpaca has 0"])
        self.advance(900)
        self.assertEqual(self.positions(), {})


class OffTests(RecoveryTestCase):
    """With PROXY_RECOVERY=off nothing is asked."""

    mode = RecoveryMode.OFF

    def new_book(self) -> Book:
        self.book = Book(self.account, self.clock, Ticks())
        self.book.start()
        self.addCleanup(self.book.stop)
        return self.book

    def test_book_is_never_complete(self) -> None:
        """It has the events of the log alone."""
        asked: list[Any] = []
        self.override(lambda request: asked.append(request.path))
        self.inject(FaultKind.DROP)
        self.advance(2000)
        self.assertEqual(asked, [])
        self.assertFalse(self.book.is_complete)
        self.assertEqual([view.id for view in make_snapshot(self.book).list_orders()], ["order 0"])
