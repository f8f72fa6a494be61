"""The strategies of one account: fed with the rows of its log, and stored with its book."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec import MsgspecError
from msgspec.json import Decoder, decode, encode
from twisted.logger import Logger

from tradeproxy.book.executions import OPTION_MULTIPLIER, read_strategy_event
from tradeproxy.book.fields import normalize_symbol
from tradeproxy.book.fill_store import Opening
from tradeproxy.book.fill_tables import TableFillStore, clear_strategies
from tradeproxy.book.lots import ONE, ZERO
from tradeproxy.book.strategy_book import StrategyBook
from tradeproxy.book.strategy_views import describe_strategy, group_holdings, is_active
from tradeproxy.wire.amount import parse_amount
from tradeproxy.wire.strategy_rule import MAX_STRATEGIES, OTHER_STRATEGIES, is_strategy_name
from tradeproxy.wire.trade_date import trade_date

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterable
    from datetime import date
    from decimal import Decimal

    from tradeproxy.book.executions import Execution, OrderLinks
    from tradeproxy.book.views import PositionView
    from tradeproxy.hub.account import Account
    from tradeproxy.journal.base import Row, Tables
    from tradeproxy.wire.strategy_rule import StrategyRule

ASSIGNMENTS = "strategy assignments"
"""The key of the journal's metadata with what was assigned by hand, so that all nodes have it."""

MAX_ASSIGNMENTS = 4000
"""Assignments of an account. They are one text of the journal's metadata: 1 MiB at most."""

MAX_CATCH_UP = 256
"""Fills that are applied to stale holdings before an answer."""

WORK_FILLS = 64
"""Fills that one step of `work` applies: about two milliseconds."""

_ASSIGNMENTS = Decoder(dict[str, str])


class UnknownOrderError(Exception):
    """No fill and no link of the order is known."""


class AssignmentError(Exception):
    """An assignment that is refused. Its text says why."""


class Strategies:
    """One account's StrategyBook with its records, rule and assignments.

    Every method but `clear_changes` may raise UnreadableError or sqlite3.Error.
    """

    _log = Logger()

    def __init__(self, account: Account, tables: Tables, rule: StrategyRule) -> None:
        """Open the records; `work` computes what they add up to.

        Args:
            account: its log is followed.
            tables: where the records are.
            rule: how a client_order_id names a strategy.
        """
        self._account = account
        self._store = self._open(tables)
        self.book = StrategyBook(self._store, rule, self._warn)
        self._assigned: str | None = None
        self._rendered: tuple[tuple[int, int, date] | None, tuple[bytes, ...]] = (None, ())
        if self._store.get_meta("rule") != rule.text:
            self.book.rename()
            self._store.put_meta("rule", rule.text)

    def _open(self, tables: Tables) -> TableFillStore:
        """Return the records, without those of another account."""
        store = TableFillStore(tables)
        journal = self._account.journal
        owner = {"base_url": journal.base_url, "account_id": journal.account_id or ""}
        known = {key: store.get_meta(key) for key in owner}
        if any(known[key] and value and known[key] != value for key, value in owner.items()):
            tables.run(clear_strategies, writes=True)
            store = TableFillStore(tables)
        for key, value in owner.items():
            if value:
                store.put_meta(key, value)
        return store

    @property
    def has_changes(self) -> bool:
        """Whether there is something to save."""
        return self._store.has_changes

    def save(self, connection: sqlite3.Connection) -> None:
        """Write the changes in the caller's transaction."""
        self._store.save(connection)

    def clear_changes(self) -> None:
        """Forget the changes: they are saved."""
        self._store.clear_changes()

    @property
    def today(self) -> date:
        """The current trade date."""
        return trade_date(self._account.dates.now_microseconds())

    def is_current(self) -> bool:
        """Finish what is left to compute if it is little; return whether that was all."""
        self._take_assignments()
        return self.book.is_current or not self.book.work(MAX_CATCH_UP)

    def render(
        self, positions: Callable[[], tuple[PositionView, ...]], seq: int
    ) -> tuple[bytes, ...]:
        """Return the strategies that have an open position or a fill of the day, as JSON.

        Without lots and lines; none while they are computed.

        Args:
            positions: returns those of the account.
            seq: the last row that was applied.
        """
        if not self.is_current():
            return ()
        day = self.today
        key = seq, self.book.version, day
        if self._rendered[0] != key:
            account = read_account(positions())
            documents = tuple(
                encode(describe_strategy(name, own, day, account, lots=False))
                for name, own in group_holdings(self.book).items()
                if is_active(own, day)
            )
            self._rendered = key, documents
        return self._rendered[1]

    def apply(self, row: Row, time: int) -> None:
        """Take a row of the log. `time` is that of a row without one (microseconds since 1970)."""
        if row.payload is not None:
            self.book.take(read_strategy_event(row.payload, row.time or time))

    def work(self) -> bool:
        """Do a step of what is left to compute; return whether there is more."""
        self._take_assignments()
        return not self.book.is_current and self.book.work(WORK_FILLS)

    @property
    def wants_openings(self) -> bool:
        """Whether it is not known yet what was held at the start."""
        return not self._store.get_meta("opened")

    def take_openings(self, positions: Iterable[PositionView], time: int) -> None:
        """Take the positions of Alpaca's first complete answer: what was held at the start.

        `time` is when it was asked (microseconds since 1970). Later answers change nothing.
        """
        if not self.wants_openings:
            return
        self._store.put_meta("opened", str(time))
        for position in positions:
            if (opening := _read_opening(position, time)) is not None:
                self.book.set_opening(opening)

    def import_fills(self, orders: Iterable[OrderLinks], fills: Iterable[Execution]) -> int:
        """Take orders and fills that Alpaca's activities list; return how many fills were new."""
        for links in orders:
            self.book.link(links)
        return sum(self.book.book(fill) for fill in fills)

    def get_progress(self, key: str) -> str:
        """Return how far an import is, as `put_progress` stored it; "" if it did not begin."""
        return self._store.get_meta(key)

    def put_progress(self, key: str, value: str) -> None:
        """Store how far an import is, with the fills that it brought."""
        self._store.put_meta(key, value)

    def assign(self, order_id: str, strategy: str) -> None:
        """Assign an order by hand; "" undoes that. Raises AssignmentError, UnknownOrderError."""
        if strategy and (not is_strategy_name(strategy) or strategy == OTHER_STRATEGIES):
            raise AssignmentError("a strategy's name has 1 to 128 printable characters")
        if not self.book.is_known(order_id):
            raise UnknownOrderError
        assignments = _read_assignments(self._account.journal.get_metadata(ASSIGNMENTS))
        assignments.pop(order_id, None)
        if strategy:
            if len(assignments) >= MAX_ASSIGNMENTS:
                raise AssignmentError(f"{MAX_ASSIGNMENTS:,} orders are assigned by hand already")
            assignments[order_id] = strategy
        # The journal takes ASCII only.
        text = encode(assignments).decode()
        self._account.journal.set_metadata(ASSIGNMENTS, _to_ascii(text))
        self._take_assignments()

    def _take_assignments(self) -> None:
        """Apply what was assigned by hand, here or on another node."""
        text = self._account.journal.get_metadata(ASSIGNMENTS)
        if text == self._assigned:
            return
        old, new = _read_assignments(self._store.get_meta(ASSIGNMENTS)), _read_assignments(text)
        for order_id in old.keys() | new.keys():
            if old.get(order_id) != new.get(order_id):
                self.book.assign(order_id, new.get(order_id, ""))
        self._store.put_meta(ASSIGNMENTS, text or "")
        self._assigned = text

    def _warn(self) -> None:
        self._log.warn(
            "{account}: more than {limit} strategies: orders of further ones count as {other}",
            account=self._account.name,
            limit=f"{MAX_STRATEGIES:,}",
            other=OTHER_STRATEGIES,
        )


def read_account(positions: Iterable[PositionView]) -> dict[str, Decimal]:
    """Return the quantity of each position by symbol, without those that are no numbers."""
    found = ((each.symbol, _read_number(decode(each.document).get("qty"))) for each in positions)
    return {normalize_symbol(symbol): qty for symbol, qty in found if qty is not None}


def _read_opening(position: PositionView, time: int) -> Opening | None:
    document = decode(position.document)
    qty, price = (_read_number(document.get(name)) for name in ("qty", "avg_entry_price"))
    if not qty or price is None:
        return None
    asset_class = document.get("asset_class")
    multiplier = OPTION_MULTIPLIER if asset_class == "us_option" else ONE
    text = asset_class if isinstance(asset_class, str) else ""
    return Opening(normalize_symbol(position.symbol), text, qty, price, multiplier, time, ZERO)


def _read_number(value: Any) -> Decimal | None:
    return parse_amount(value) if isinstance(value, str) else None


def _read_assignments(text: str | None) -> dict[str, str]:
    try:
        return _ASSIGNMENTS.decode(text or "{}")
    except MsgspecError:
        return {}


def _to_ascii(text: str) -> str:
    return "".join(character if character.isascii() else _escape(character) for character in text)


def _escape(character: str) -> str:
    units = character.encode("utf-16-be")
    return "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2))
