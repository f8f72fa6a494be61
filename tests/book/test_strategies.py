"""The book per strategy against a plain model: random order lives, in any order of arrival.

Orders are assigned by hand and the process is killed in between, and links may close circles.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from tests.book.plain_strategies import PlainFill, add_up
from tests.book.strategy_frames import START, UUID, frame, order, read, report_fill
from tests.support.properties import examples
from tradeproxy.book.fill_records import Opening
from tradeproxy.book.fill_store import FillStore
from tradeproxy.book.lots import OPENING, ZERO, FillKey
from tradeproxy.book.strategy_book import StrategyBook
from tradeproxy.journal.tables import TemporaryTables
from tradeproxy.wire.event import format_time, parse_time
from tradeproxy.wire.strategy_rule import BeforeDash

NAMES = {
    "alpha-1": "alpha",
    "beta-x-2": "beta",
    UUID: "(none)",
    "alpha": "(none)",
    "": "(none)",
}
"""Ids, and the strategies that they name."""

SYMBOLS = {"AAPL": ("AAPL", 1), "BTC/USD": ("BTCUSD", 1), "AAPL250321P00200000": (None, 100)}
"""Symbols as orders have them, each as positions have it and with its multiplier."""

UNITS = {"BTC/USD": Decimal("0.000000001")}
"""The quantity of one unit of the model, if it is not 1. Crypto has nine decimals."""

STEP = 37 * 60_000_000 * 60
"""Microseconds between two possible times: each is on a trade date of its own, or nearly."""

TODAY = date(2026, 12, 6)
DAY = timedelta(days=1)


@dataclass
class PlainOrder:
    """An order of the model."""

    id: str
    name: str
    symbol: str
    side: str
    upper: int | None
    """The number of the order that it is a leg of, or that it replaced; maybe its own."""
    is_leg: bool
    fills: list[PlainExecution] = field(default_factory=list)


@dataclass
class PlainExecution:
    """A fill of the model."""

    units: int
    cents: int
    step: int
    amendment: str
    new_cents: int
    ref: str = ""


@dataclass
class Life:
    """Orders, what was held at the start, and the order of arrival."""

    orders: list[PlainOrder]
    held: int
    held_step: int
    arrival: list[int] = field(default_factory=list)
    repeats: list[int] = field(default_factory=list)
    assignments: list[tuple[int, int, str]] = field(default_factory=list)
    """Before which frame, the number of the order, and the strategy."""
    kills: list[int] = field(default_factory=list)
    """Before which frames the process is killed."""


executions = st.builds(
    PlainExecution,
    units=st.integers(1, 4),
    cents=st.integers(1, 400),
    step=st.integers(0, 4),
    amendment=st.sampled_from(["", "", "", "bust", "correct"]),
    new_cents=st.integers(1, 400),
)


@st.composite
def lives(draw: st.DrawFn) -> Life:
    """Return a random life."""
    orders: list[PlainOrder] = []
    for number in range(draw(st.integers(1, 6))):
        upper = draw(st.none() | st.integers(0, max(number - 1, 0)) | st.integers(0, 5))
        is_leg = upper is not None and upper < number and orders[upper].upper is None
        is_leg = is_leg and draw(st.booleans())
        fills = draw(st.lists(executions, max_size=4))
        for index, each in enumerate(fills):
            each.ref = f"{draw(st.integers(0, 9))}-{number}-{index}"
        orders.append(
            PlainOrder(
                f"order-{number}",
                draw(st.sampled_from(list(NAMES))),
                draw(st.sampled_from(list(SYMBOLS))),
                draw(st.sampled_from(["buy", "sell"])),
                upper,
                is_leg,
                fills=fills,
            )
        )
    for made in orders:
        if made.upper is not None and made.upper >= len(orders):
            made.upper = None
    life = Life(orders, draw(st.integers(-5, 5)), draw(st.integers(0, 4)))
    count = len(list_frames(life))
    life.arrival = draw(st.permutations(range(count)))
    life.repeats = draw(st.lists(st.integers(0, count - 1), max_size=4))
    positions, numbers = st.integers(0, count), st.integers(0, len(orders) - 1)
    names = st.sampled_from(["gamma", "delta", ""])
    life.assignments = sorted(draw(st.lists(st.tuples(positions, numbers, names), max_size=3)))
    life.kills = draw(st.lists(positions, max_size=2))
    return life


def list_frames(life: Life) -> list[bytes]:
    """Return the frames of a life, amendments too."""
    frames = []
    documents = []
    for each in life.orders:
        upper = None if each.upper is None or each.is_leg else life.orders[each.upper].id
        documents.append(
            order(
                each.id,
                each.name,
                symbol=each.symbol,
                asset_class="us_option" if SYMBOLS[each.symbol][1] == 100 else "us_equity",
                side=each.side,
                replaces=upper,
            )
        )
    for number, each in enumerate(life.orders):
        legs = [documents[n] for n, o in enumerate(life.orders) if o.is_leg and o.upper == number]
        # Every order has an event that shows its links, as Alpaca's do.
        frames.append(frame("replaced", documents[number] | {"replaced_by": "x", "legs": legs}))
        for done in each.fills:
            report: dict[str, Any] = {
                "event_id": f"event {done.ref}",
                "timestamp": format_time(START + done.step * STEP),
            }
            qty = f"{done.units * UNITS.get(each.symbol, Decimal(1)):f}"
            price = str(Decimal(done.cents) / 100)
            frames.append(report_fill(documents[number], done.ref, qty, price, **report))
            amend = {
                "execution_id": f"new {done.ref}",
                "previous_execution_id": done.ref,
                "event_id": f"amendment {done.ref}",
            }
            if done.amendment == "bust":
                amend["event"] = "trade_bust"
            elif done.amendment:
                amend["event"] = "trade_correct"
                price = str(Decimal(done.new_cents) / 100)
            if done.amendment:
                frames.append(
                    report_fill(documents[number], done.ref, qty, price, **(report | amend))
                )
    return frames


def find_unit(symbol: str) -> Fraction:
    """Return the quantity of one unit of a position's symbol."""
    found = (unit for name, unit in UNITS.items() if SYMBOLS[name][0] == symbol)
    return Fraction(next(found, Decimal(1)))


def list_strategies(life: Life) -> dict[str, str]:
    """Return whose each order is. A link that closes a circle is not taken: the first that does."""
    above: dict[str, str | None] = {}
    for index in life.arrival:
        about = json.loads(list_frames(life)[index])["data"]["order"]
        links = [(about["id"], about["replaces"])]
        links += [(leg["id"], about["id"]) for leg in about["legs"] or []]
        for own, upper in links:
            circle: str | None = upper
            while circle is not None and circle != own:
                circle = above.get(circle)
            above.setdefault(own, None)
            if upper is not None and circle is None and above[own] is None:
                above[own] = upper
    assigned = {life.orders[number].id: name for _, number, name in life.assignments}
    names = {each.id: NAMES[each.name] for each in life.orders}
    found = {}
    for own in names:
        top: str = own
        while not assigned.get(top) and (upper := above[top]) is not None:
            top = upper
        found[own] = assigned.get(top) or names[top]
    return found


def list_fills(life: Life) -> list[PlainFill]:
    """Return the fills that count, and the lots of the start."""
    found = []
    strategies = list_strategies(life)
    for each in life.orders:
        for done in each.fills:
            time = START + done.step * STEP
            cents = done.new_cents if done.amendment == "correct" else done.cents
            if done.amendment != "bust":
                units = done.units if each.side == "buy" else -done.units
                key = (time, f"event {done.ref}", each.id, done.ref)
                symbol = SYMBOLS[each.symbol][0] or each.symbol
                found.append(
                    PlainFill(
                        strategies[each.id],
                        symbol,
                        key,
                        date(2026, 11, 30) + timedelta(hours=37 * done.step + 10 + 4) // DAY * DAY,
                        units,
                        Fraction(cents, 100),
                    )
                )
    # What was booked by then is in the answer, and so is all that happened before.
    frames = list_frames(life)
    until = (START + life.held_step * STEP + 1, "", "", "")
    for index in life.arrival[: len(frames) // 2]:
        data = json.loads(frames[index])["data"]
        if data["event"] == "fill" and data["order"]["symbol"] == "AAPL":
            ref, moment = data["execution_id"], parse_time(data["timestamp"])
            until = max(until, (moment, data["event_id"], data["order"]["id"], ref))
    known = sum(fill.units for fill in found if fill.symbol == "AAPL" and fill.order <= until)
    if life.held - known:
        key = (OPENING, "", "", "")
        opening = ("(none)", "AAPL", key, date.min, life.held - known, Fraction(7))
        found.append(PlainFill(*opening))
    return found


class RandomLivesTests(SynchronousTestCase):
    """The book holds what the plain model holds."""

    @examples(60)
    @given(lives())
    def test_random_lives_have_the_lots_and_the_gains_of_the_plain_model(self, life: Life) -> None:
        """Whatever comes late, twice, busted, corrected, linked afterwards or assigned by hand."""
        tables = TemporaryTables()
        store = FillStore(tables)
        book = StrategyBook(store, BeforeDash(), self.fail)
        waiting = list(life.assignments)
        frames = list_frames(life)
        middle = len(frames) // 2
        for number, index in enumerate([*life.arrival, *life.repeats]):
            while waiting and waiting[0][0] <= number:
                _, assigned, name = waiting.pop(0)
                book.orders.assign(life.orders[assigned].id, name)
                book.work(1)
            if number in life.kills:
                tables.run(store.save, writes=True)
                store = FillStore(tables)
                book = StrategyBook(store, BeforeDash(), self.fail)
                book.work(1)
            if number == middle:
                opening = Decimal(life.held), Decimal(7), Decimal(1)
                time = START + life.held_step * STEP
                until = FillKey(time + 1, "", "", "")
                while book.work(3):
                    pass
                book.set_openings([Opening("AAPL", "us_equity", *opening, until, ZERO)])
                book.work(3)
            book.take(read(frames[index]))
        for _, assigned, name in waiting:
            book.orders.assign(life.orders[assigned].id, name)
        while book.work(2):
            pass
        tables.close()

        self.assertEqual(book.notes, [])
        fills = list_fills(life)
        places = {(fill.strategy, fill.symbol) for fill in fills}
        used = {place for place, holding in book.holdings.items() if holding.fills or holding.qty}
        self.assertEqual(used, places)
        for place in places:
            own = [fill for fill in fills if (fill.strategy, fill.symbol) == place]
            plain, holding = add_up(own, TODAY), book.holdings[place]
            self.assertEqual(holding.multiplier, SYMBOLS.get(place[1], ("", 1))[1], place)
            unit = find_unit(place[1])
            factor = Fraction(holding.multiplier) * unit
            self.assertEqual(
                [(lot.time, Fraction(lot.qty) / unit, lot.price) for lot in holding.lots],
                plain.lots,
            )
            for day, gain in plain.realized.items():
                self.assertEqual(Fraction(holding.realized_on(day)), gain * factor)
            total = sum(plain.realized.values(), Fraction(0)) * factor
            self.assertEqual(Fraction(holding.realized), total)
            for day in (max(fill.day for fill in own), TODAY):
                if day > date.min:
                    average = add_up(own, day).average
                    found = holding.average_price(day)
                    if average is None or found is None:
                        self.assertIs(average, found)
                    else:
                        self.assertLess(abs(Fraction(found) - average), Fraction(1, 10**30))

    @examples(20)
    @given(lives())
    def test_strategies_add_up_to_the_account(self, life: Life) -> None:
        """Quantities do; and what was paid is what is held at cost, less what was realised."""
        tables = TemporaryTables()
        book = StrategyBook(FillStore(tables), BeforeDash(), self.fail)
        for payload in list_frames(life):
            book.take(read(payload))
        while book.work(1000):
            pass
        tables.close()
        # Nothing was held at the start.
        fills = [fill for fill in list_fills(life) if fill.order[0] != OPENING]
        for symbol in {fill.symbol for fill in fills}:
            own = [holding for place, holding in book.holdings.items() if place[1] == symbol]
            units = sum(fill.units for fill in fills if fill.symbol == symbol)
            self.assertEqual(
                Fraction(sum((holding.qty for holding in own), ZERO)), units * find_unit(symbol)
            )
            paid = sum(fill.units * fill.price for fill in fills if fill.symbol == symbol)
            paid *= find_unit(symbol)
            lots = [lot for holding in own for lot in holding.lots]
            held = sum((Fraction(lot.qty * lot.price) for lot in lots), Fraction(0))
            gain = sum((Fraction(h.realized / h.multiplier) for h in own), Fraction(0))
            self.assertEqual(paid, held - gain)
