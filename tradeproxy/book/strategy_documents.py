"""The strategies of a snapshot, as JSON that is made again only where something has changed."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from decimal import Decimal

from msgspec.json import encode

from tradeproxy.book.lots import ZERO, Holding
from tradeproxy.book.strategy_book import StrategyBook
from tradeproxy.book.strategy_views import describe_position, describe_sums, is_listed, sort_names
from tradeproxy.book.views import StrategyView

LISTED_POSITIONS = 128
"""Positions in one object: some 45 KB. A strategy with more of them has several objects, so that
what has not changed is in memory once for all snapshots, and none has to be sent at once."""


class StrategyDocuments:
    """The strategies that have an open position or a fill of the day, without lots and lines."""

    def __init__(self, book: StrategyBook) -> None:
        self._book = book
        self._day: date | None = None
        self._positions: dict[str, dict[str, tuple[bool, bytes]]] = {}
        # Of each strategy, by symbol: whether the account is flat, and the object.
        self._sums: dict[str, bytes] = {}
        self._objects: dict[tuple[str, int], tuple[list[bytes], StrategyView]] = {}

    def prepare(self, day: date, account: Mapping[str, Decimal], limit: int) -> bool:
        """Make up to `limit` of the positions that are out of date; return whether none is left.

        Each takes some 40 microseconds, and an account may have 20,000.

        Args:
            day: the current trade date.
            account: what the account has of each symbol.
            limit: how many.
        """
        changed = self._book.changed
        if day != self._day:
            self._day = day
            changed |= dict.fromkeys(self._book.holdings)
        for _ in range(min(limit, len(changed))):
            (name, symbol), _ = changed.popitem()
            self._sums.pop(name, None)
            self._make_position(name, symbol, account)
        return not changed

    def render(self, day: date, account: Mapping[str, Decimal]) -> tuple[StrategyView, ...]:
        """Return the objects. The arguments are those of `prepare`."""
        self.prepare(day, account, len(self._book.changed) + len(self._book.holdings))
        self._make_sums(day)
        objects = {}
        for name in sort_names(self._positions):
            positions = self._list_positions(name, account)
            for index in range(0, len(positions), LISTED_POSITIONS):
                part = positions[index : index + LISTED_POSITIONS]
                head = self._sums[name] if index == 0 else encode({"name": name, "continued": True})
                parts = [head, *part]
                known = self._objects.get((name, index))
                if known is None or known[0] != parts:
                    made = b'%b,"positions":[%b]}' % (head[:-1], b",".join(part))
                    known = parts, StrategyView(made)
                objects[name, index] = known
        self._objects = objects
        return tuple([made for _, made in objects.values()])

    def _list_positions(self, name: str, account: Mapping[str, Decimal]) -> list[bytes]:
        """Return the positions of a strategy by symbol; the account may have closed some."""
        own = self._positions[name]
        for symbol, (was_flat, _) in own.items():
            if was_flat == (symbol in account) and self._is_flat(name, symbol, account) != was_flat:
                self._make_position(name, symbol, account)
        if list(own) != (symbols := sorted(own)):
            own = self._positions[name] = {symbol: own[symbol] for symbol in symbols}
        return [document for _, document in own.values()]

    def _make_position(self, name: str, symbol: str, account: Mapping[str, Decimal]) -> None:
        assert self._day is not None, "set by `prepare`"
        holding = self._book.holdings[name, symbol]
        own = self._positions.setdefault(name, {})
        if is_listed(holding, self._day):
            document = describe_position(symbol, holding, self._day, account, lots=False)
            own[symbol] = self._is_flat(name, symbol, account), encode(document)
        else:
            own.pop(symbol, None)
            if not own:
                del self._positions[name]

    def _is_flat(self, name: str, symbol: str, account: Mapping[str, Decimal]) -> bool:
        return bool(self._book.holdings[name, symbol].qty) and not account.get(symbol, ZERO)

    def _make_sums(self, day: date) -> None:
        """Make the sums of the strategies that have changed, in one pass over all holdings."""
        missing: dict[str, list[tuple[str, Holding]]] = {
            name: [] for name in self._positions if name not in self._sums
        }
        if missing:
            for (name, symbol), holding in self._book.holdings.items():
                if name in missing:
                    missing[name].append((symbol, holding))
        for name, own in missing.items():
            self._sums[name] = encode(describe_sums(name, own, day))
