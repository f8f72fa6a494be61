"""The book per strategy: whose fill an execution is, and the holdings that all fills add up to.

The records decide; the holdings are computed from them and kept up to date:

    a fill                                effect on its strategy and symbol
    ------------------------------------  -----------------------------------------------------
    newer than every applied one          it is applied at once
    late, busted, corrected, or moved     the holding is stale: `work` computes it again
    the same execution and amounts again  none
    an amendment of an unknown fill       none, and a note, until that fill arrives

So the result does not depend on the order in which fills arrive, except for which strategies are
the first MAX_STRATEGIES.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from decimal import Decimal

from msgspec.structs import replace

from tradeproxy.book.executions import Execution, Kind, OrderLinks, StrategyEvent
from tradeproxy.book.fill_records import BookedFill, Opening
from tradeproxy.book.fill_store import FillStore
from tradeproxy.book.lots import EXACT, OPENING, ZERO, FillKey, Holding, Trade
from tradeproxy.book.moves import STEP, OrderMoves
from tradeproxy.wire.strategy_rule import (
    MAX_STRATEGIES,
    NO_STRATEGY,
    OTHER_STRATEGIES,
    StrategyRule,
)

MAX_NOTES = 50
"""Notes that are kept, the newest ones."""

MAX_UNBOOKED = 1000
"""Executions that could not be booked: amendments wait for their fill. The newest are kept."""

KEEP_EVERY = 32
"""Fills of a strategy and symbol after which a copy of their holding is kept. If a fill is undone,
only those behind the last copy before it are applied again, which takes a millisecond or two."""

MAX_KEPT = 100
"""Strategies and symbols that have copies: 10 to 300 KB each, by their open lots and days."""

_ALL = 1 << 62
_NO_FILL = FillKey(OPENING, "", "", "")

UNKNOWN_FILL = "the fill that it names is unknown"


class StrategyBook:
    """The strategies of one account. `holdings` is right once `work` has nothing left to do."""

    def __init__(
        self, store: FillStore, rule: StrategyRule, on_overflow: Callable[[], None]
    ) -> None:
        """Begin with the records of a store; `work` computes their holdings.

        Args:
            store: has the records.
            rule: how a client_order_id names a strategy.
            on_overflow: called once, when a strategy counts under OTHER_STRATEGIES.
        """
        self._store = store
        self.orders = OrderMoves(store, rule, self._move_fill)
        """Whose each order is."""
        self._on_overflow = on_overflow
        self._names = dict.fromkeys(store.list_names())
        self._has_overflowed = False
        self._unbooked = dict.fromkeys(store.list_unbooked())
        self._awaiting = Counter(each.order_id for each in self._unbooked)
        self.holdings: dict[tuple[str, str], Holding] = {}
        """By strategy and symbol. A stale one is as far as `work` has come."""
        self.settled_by: tuple[int, int] | None = None
        """Between these times (microseconds since 1970), fills settle what was held at the start:
        Alpaca's answer may have them or not."""
        self.version = 0
        """It grows with every fill that changes a holding, and whenever one is computed again."""
        self.changed: dict[tuple[str, str], None] = {}
        """The places whose holding has changed since they were taken from here."""
        self._sorted: list[tuple[str, str]] = []
        self._by_symbol: list[tuple[str, str]] = []
        self._stale: dict[tuple[str, str], None] = {}
        self._kept: dict[tuple[str, str], dict[int, Holding]] = {}  # see `_apply`
        places = dict.fromkeys(store.list_places())
        places |= dict.fromkeys((NO_STRATEGY, opening.symbol) for opening in store.list_openings())
        for place in places:
            self._make_stale(place)

    @property
    def is_current(self) -> bool:
        """Whether every record is in the holdings."""
        return not self._stale and not self.orders.has_work

    @property
    def notes(self) -> list[Execution]:
        """What could not be booked, oldest first: `problem` says why. At most MAX_NOTES."""
        return [
            each if each.problem else replace(each, problem=UNKNOWN_FILL)
            for each in list(self._unbooked)[-MAX_NOTES:]
        ]

    def list_places(self) -> list[tuple[str, str]]:
        """Return the keys of `holdings`, sorted. None is ever removed."""
        if len(self._sorted) != len(self.holdings):
            self._sorted = sorted(self.holdings)
        return self._sorted

    def list_places_by_symbol(self) -> list[tuple[str, str]]:
        """Return the symbols and strategies of `holdings`, sorted."""
        if len(self._by_symbol) != len(self.holdings):
            self._by_symbol = sorted((symbol, name) for name, symbol in self.holdings)
        return self._by_symbol

    def take(self, event: StrategyEvent) -> None:
        """Apply what an event says."""
        for links in event.orders:
            self.orders.link(links)
        for execution in event.executions:
            self.book(execution)

    def set_openings(self, openings: Iterable[Opening]) -> None:
        """Set what the account held at the start: for each symbol a lot of NO_STRATEGY.

        Call it once, when the book is current. Every fill that is booked is a part of it, besides
        those up to `until`. Their sum is computed here. Without a price, the lot has the terms of
        an open one.
        """
        booked: dict[str, list[Holding]] = {}
        for (_, symbol), holding in self.holdings.items():
            booked.setdefault(symbol, []).append(holding)
        for opening in openings:
            known, until, terms = ZERO, opening.until, opening
            for holding in booked.get(opening.symbol, ()):
                if holding.last is not None:
                    known, until = EXACT.add(known, holding.qty), max(until, holding.last)
                    if not terms.price and holding.lots:
                        terms = replace(
                            opening,
                            price=holding.lots[-1].price,
                            multiplier=holding.multiplier,
                            asset_class=holding.asset_class,
                        )
            self._store.put_opening(replace(terms, until=until, known=known))
            self._make_stale((NO_STRATEGY, opening.symbol))

    def rename(self) -> None:
        """Have `work` apply the rule to every order again, after it has changed."""
        self.orders.rename()
        # The names of the rule before must not take the places of the new ones.
        self._names.clear()
        self._store.clear_names()

    def book(self, execution: Execution) -> bool:
        """Book an execution; return whether it is a fill that was not known."""
        if execution.kind is Kind.FILL and not execution.problem:
            return self._book_fill(execution)
        if execution not in self._unbooked and (execution.problem or not self._amend(execution)):
            self._store.add_unbooked(execution)
            self._unbooked[execution] = None
            self._awaiting[execution.order_id] += 1
            if len(self._unbooked) > MAX_UNBOOKED:
                self._remove_unbooked(next(iter(self._unbooked)))
        return False

    def work(self, limit: int) -> bool:
        """Look at up to about `limit` orders and fills; return whether more are left.

        All moves come before the stale holdings: each makes two holdings stale.
        """
        while limit > 0 and self.orders.has_work:
            limit -= self.orders.work()
        while self._stale and limit > 0:
            place = next(iter(self._stale))
            self.changed[place] = None
            holding = self.holdings[place]
            fills = self._store.select_fills(place, holding.last, STEP)
            for fill in fills:
                if fill.is_busted:
                    holding.skip(fill.key)
                else:
                    self._apply(holding, fill)
            limit -= len(fills) + 1
            if len(fills) < STEP:
                del self._stale[place]
        return not self.is_current

    def _book_fill(self, new: Execution) -> bool:
        if self._store.get_order(new.order_id) is None:
            self.orders.link(OrderLinks(new.order_id))
        ref = new.execution or (f"filled {new.filled}" if new.filled else f"event {new.event_id}")
        known = self._store.get_fill(new.order_id, ref) or self._find_copy(new)
        if known is not None:
            if not known.alias and new.execution not in ("", known.ref):
                before, known = known, replace(known, alias=new.execution)
                self._store.put_fill(known, before)
            # Without an id it may be the sum of several fills, of which the known one is the last.
            is_sum = not new.execution and abs(new.qty) > abs(known.qty)
            is_changed = (known.qty, known.price) != (new.qty, new.price)
            if is_changed and not known.is_amended and not is_sum:
                self._change(known, replace(known, qty=new.qty, price=new.price))
            self._settle(new, known)
            self._amend_later(known)
            return False
        fill = BookedFill(
            new.order_id,
            ref,
            self._find_bucket(self.orders.find_strategy(new.order_id)),
            new.symbol,
            new.asset_class,
            new.time,
            new.event_id,
            new.qty,
            new.price,
            new.multiplier,
            new.fee,
            new.filled,
        )
        self._store.put_fill(fill, None)
        # Nothing is read before the fill is applied: if that fails, the fill is known afterwards.
        self._count_known(fill, fill.qty)
        holding = self.holdings.get(fill.place)
        if holding is None or (holding.last is not None and fill.key < holding.last):
            self._make_stale(fill.place, fill.key)
        elif fill.place not in self._stale:  # else `work` will come to it
            self._apply(holding, fill)
            self.version += 1
            self.changed[fill.place] = None
        self._settle(new, fill)
        self._amend_later(fill)
        return True

    def _find_copy(self, new: Execution) -> BookedFill | None:
        """Return the record of the same fill from a source that gives other ids.

        Alpaca's activities and the events that are made of orders have no execution id. The
        quantity that is filled with it then identifies a fill of an order.
        """
        if not new.filled:
            return None
        if not new.execution:
            return self._store.find_filled(new.order_id, new.filled)
        fill = self._store.get_fill(new.order_id, f"filled {new.filled}")
        return None if fill is None or fill.is_busted else fill

    def _amend(self, amendment: Execution) -> bool:
        """Undo or alter the fill that an amendment names; return whether it is known."""
        names = [name for name in (amendment.previous, amendment.execution) if name]
        found = (self._store.get_fill(amendment.order_id, name) for name in names)
        known = next((fill for fill in found if fill is not None), None)
        if known is None:
            return False
        if amendment.kind is Kind.BUST:
            self._change(known, replace(known, is_busted=True, is_amended=True))
            return True
        alias = amendment.execution if amendment.execution != known.ref else known.alias
        new = replace(
            known,
            qty=amendment.qty,
            price=amendment.price,
            alias=alias,
            is_amended=True,
            is_busted=False,
        )
        self._change(known, new)
        return True

    def _amend_later(self, fill: BookedFill) -> None:
        """Apply the amendments that came before their fill."""
        if fill.order_id not in self._awaiting:
            return
        done = [
            each
            for each in self._unbooked
            if each.order_id == fill.order_id and not each.problem and self._amend(each)
        ]
        for each in done:
            self._remove_unbooked(each)

    def _remove_unbooked(self, execution: Execution) -> None:
        self._store.remove_unbooked(execution)
        del self._unbooked[execution]
        self._awaiting[execution.order_id] -= 1
        if not self._awaiting[execution.order_id]:
            del self._awaiting[execution.order_id]

    def _change(self, old: BookedFill, new: BookedFill) -> None:
        """Replace a record, and what was computed with it."""
        if new == old:
            return
        self._store.put_fill(new, old)
        self._count_known(old, EXACT.subtract(_effect(new), _effect(old)))
        self._make_stale(old.place, old.key)
        self._make_stale(new.place, new.key)

    def _move_fill(self, fill: BookedFill, strategy: str) -> None:
        self._change(fill, replace(fill, strategy=self._find_bucket(strategy)))

    def _find_bucket(self, name: str) -> str:
        """Return the name under which the fills of a strategy count."""
        if name in self._names or name in (NO_STRATEGY, OTHER_STRATEGIES):
            return name
        if len(self._names) < MAX_STRATEGIES:
            self._names[name] = None
            self._store.add_name(name)
            return name
        if not self._has_overflowed:
            self._has_overflowed = True
            self._on_overflow()
        return OTHER_STRATEGIES

    def _settle(self, report: Execution, fill: BookedFill) -> None:
        """Set what was held at the start by the account's position after a fill.

        Only between the times of `settled_by`: later, a split or a transfer would count, too.
        """
        if report.position is None or self.settled_by is None:
            return
        begin, end = self.settled_by
        if not begin <= fill.time <= end:
            return
        opening = self._store.get_opening(fill.symbol) or Opening(
            fill.symbol, fill.asset_class, ZERO, fill.price, fill.multiplier, _NO_FILL, ZERO
        )
        if fill.key <= opening.until:
            return
        known = opening.known
        for place in {fill.place, *(each for each in self.holdings if each[1] == fill.symbol)}:
            for each in self._store.select_fills(place, opening.until, _ALL):
                if each.key <= fill.key:
                    known = EXACT.add(known, _effect(each))
        self._store.put_opening(replace(opening, qty=report.position, until=fill.key, known=known))
        self._make_stale((NO_STRATEGY, fill.symbol))

    def _count_known(self, fill: BookedFill, qty: Decimal) -> None:
        """Correct the lot of the start by a quantity of a fill, if it included the fill."""
        opening = self._store.get_opening(fill.symbol)
        if opening is not None and fill.key <= opening.until and qty:
            self._store.put_opening(replace(opening, known=EXACT.add(opening.known, qty)))
            self._make_stale((NO_STRATEGY, fill.symbol))

    def _apply(self, holding: Holding, fill: BookedFill) -> None:
        """Apply the next fill to its holding, and keep a copy now and then.

        Each copy has the largest power of two in its number. So there are few, and the older they
        are, the further apart: the copies 8, 12, 14 and 15 after 15 of them.
        """
        holding.apply(_trade(fill))
        number, rest = divmod(holding.fills, KEEP_EVERY)
        if rest == 0:
            self._kept.setdefault(fill.place, {})[number & -number] = holding.copy()
            if len(self._kept) > MAX_KEPT:
                del self._kept[next(iter(self._kept))]

    def _make_stale(self, place: tuple[str, str], since: FillKey | None = None) -> None:
        """Have `work` compute a holding again, from a fill on, or else from its beginning."""
        self.version += 1
        self.changed[place] = None
        if since is not None and place in self._stale and self.holdings[place].is_before(since):
            return  # `work` will come to it
        kept = {
            number: each
            for number, each in self._kept.pop(place, {}).items()
            if since is not None and each.is_before(since)
        }
        self._stale[place] = None
        if kept:
            self._kept[place] = kept
            self.holdings[place] = max(kept.values(), key=lambda each: each.fills).copy()
            return
        strategy, symbol = place
        holding = self.holdings[place] = Holding()
        opening = self._store.get_opening(symbol) if strategy == NO_STRATEGY else None
        if opening is not None and (qty := EXACT.subtract(opening.qty, opening.known)):
            key = FillKey(OPENING, "", "", "")
            terms = opening.price, opening.multiplier, ZERO, opening.asset_class
            holding.apply(Trade(key, qty, *terms))


def _effect(fill: BookedFill) -> Decimal:
    return ZERO if fill.is_busted else fill.qty


def _trade(fill: BookedFill) -> Trade:
    return Trade(fill.key, fill.qty, fill.price, fill.multiplier, fill.fee, fill.asset_class)
