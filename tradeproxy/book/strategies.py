"""The strategies of one account: fed with the rows of its log, and stored with its book."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Mapping
from datetime import date
from decimal import Decimal
from typing import Any, NamedTuple

from msgspec.json import decode, encode

from tradeproxy.book.executions import NOTHING, OPTION_MULTIPLIER, read_strategy_event
from tradeproxy.book.fields import BookEvent
from tradeproxy.book.fill_records import Opening
from tradeproxy.book.fill_sql import clear_strategies
from tradeproxy.book.fill_store import FillStore
from tradeproxy.book.importing import ImportPage
from tradeproxy.book.lots import ONE, OPENING, ZERO, FillKey
from tradeproxy.book.positions import SLACK
from tradeproxy.book.strategy_book import StrategyBook
from tradeproxy.book.strategy_documents import StrategyDocuments
from tradeproxy.book.views import StrategyView
from tradeproxy.hub.account import Account
from tradeproxy.journal.base import ImportLog, Row, Tables
from tradeproxy.journal.metadata import ASSIGNMENTS, read_assignments
from tradeproxy.runtime.account_log import AccountLogger
from tradeproxy.wire.amount import parse_amount
from tradeproxy.wire.strategy_rule import (
    MAX_STRATEGIES,
    OTHER_STRATEGIES,
    StrategyRule,
    is_strategy_name,
)
from tradeproxy.wire.trade_date import trade_date

MAX_ASSIGNMENTS = 4000
"""Assignments of an account. They are one text of the journal's metadata."""

MAX_TEXT = 768 * 1024
"""Characters of that text: MAX_ASSIGNMENTS with the longest names of ASCII fit into it."""

ASSIGN_STEP = 100
"""Assignments that one step applies: below a millisecond, and two milliseconds to write them."""

_BEGUN = "assignments begun"
"""The key in the store of the orders that an unfinished change is about; "" without one."""

ANSWER_FILLS = 128
"""Fills that are applied to stale holdings before an answer: about three milliseconds."""

WORK_FILLS = 64
"""Fills that one step of `work` applies: about two milliseconds."""


class Held(NamedTuple):
    """A position of Alpaca's first answer."""

    symbol: str
    """As `normalize_symbol` returns it."""
    qty: str
    """Signed. That of the book, after the last row."""
    document: bytes
    """Alpaca's position object, whose price counts."""
    has_moved: bool
    """Whether an event has moved it since Alpaca was asked."""


class UnknownOrderError(Exception):
    """No fill and no link of the order is known."""


class AssignmentError(Exception):
    """An assignment that is refused. Its text says why."""


class Strategies:
    """One account's StrategyBook with its records, rule and assignments.

    Every method may raise UnreadableError or sqlite3.Error.
    """

    def __init__(
        self,
        account: Account,
        tables: Tables,
        rule: StrategyRule,
        plan: Callable[[], None],
        expected: int = 0,
    ) -> None:
        """Open the records; `work` computes what they add up to.

        Args:
            account: its log is followed.
            tables: where the records are.
            rule: how a client_order_id names a strategy.
            plan: has `work` called soon.
            expected: that of Orders.
        """
        self._account = account
        self._log = AccountLogger(self, account.name)
        self._plan = plan
        self.records = self._open(tables, expected)
        """The orders and fills. `save` writes their changes."""
        self._rule = rule
        self.book = StrategyBook(self.records, rule, self._warn)
        self._open_settlement()
        self._assigned = self.records.get_meta(ASSIGNMENTS)
        self._assigning: dict[str, str] | None = None
        # What is left of the change to `_target`, by order; None if that has not begun.
        self._target = ""
        self._generation = self._reported = -1
        self.pages = 0
        """How many pages of the imports that nodes share are applied."""
        self.imported = 0
        """How many fills were new in an import, since this was made."""
        self._documents = StrategyDocuments(self.book)
        self._rendered: tuple[tuple[int, int, date] | None, tuple[StrategyView, ...]] = (None, ())
        if not self.records.is_new and self.records.get_meta("rule") != self._describe_rule():
            self.book.rename()

    def _open(self, tables: Tables, expected: int) -> FillStore:
        """Return the records, without those of another account."""
        store = FillStore(tables, expected)
        log = self._account.log
        owner = {"base_url": log.base_url, "account_id": log.account_id or ""}
        known = {key: store.get_meta(key) for key in owner}
        if any(known[key] and value and known[key] != value for key, value in owner.items()):
            tables.run(clear_strategies, writes=True)
            store = FillStore(tables, expected)
        return store

    def _record_owner(self) -> None:
        """Store whose records these are. A new log has no account's id until Alpaca tells it."""
        log = self._account.log
        self.records.put_meta("base_url", log.base_url)
        if log.account_id:
            self.records.put_meta("account_id", log.account_id)

    def _describe_rule(self) -> str:
        """Return the rule by which orders have their strategies. An earlier commit stored none."""
        return f"orders {self._rule.text}"

    def save(self, connection: sqlite3.Connection) -> None:
        """Write the changes in the caller's transaction."""
        self._record_owner()
        if not self.book.orders.is_renaming:  # else a killed process would not go on with it
            self.records.put_meta("rule", self._describe_rule())
        self.records.save(connection)

    @property
    def today(self) -> date:
        """The current trade date."""
        return trade_date(self._account.dates.now_microseconds())

    def is_current(self) -> bool:
        """Finish what is left to compute if it is little; return whether that was all."""
        is_ready = not self._take_assignments() and self.is_imported
        if is_ready and (self.book.is_current or not self.book.work(ANSWER_FILLS)):
            return True
        self._plan()  # the rest must not wait for the next event
        return False

    @property
    def _is_computed(self) -> bool:
        """Whether nothing is left to compute."""
        text = self._account.log.get_metadata(ASSIGNMENTS) or ""
        is_assigned = text == self._assigned and not self.records.get_meta(_BEGUN)
        return is_assigned and self.is_imported and self.book.is_current

    @property
    def is_imported(self) -> bool:
        """Whether every page of the imports that nodes share is applied."""
        log = self._account.import_log
        return log is None or (log.is_copied and self._applied(log) >= log.count)

    def _applied(self, log: ImportLog) -> int:
        return self.pages if log.generation == self._generation else 0

    def prepare(self, account: Mapping[str, Decimal], limit: int) -> bool:
        """Make up to `limit` of the positions that `render` shows; return whether none is left.

        `account` is that of `render`.
        """
        if not self.is_current():
            return True  # there is nothing to render
        return self._documents.prepare(self.today, account, limit)

    def render(self, account: Mapping[str, Decimal], revision: int) -> tuple[StrategyView, ...]:
        """Return the strategies that have an open position or a fill of the day, as JSON.

        Without lots and lines; none while they are computed.

        Args:
            account: what the account has of each symbol.
            revision: grows with every change of the account's state.
        """
        if not self._is_computed:  # no work here: `prepare` has not seen what it would change
            return ()
        day = self.today
        key = revision, self.book.version, day
        if self._rendered[0] != key:
            documents = self._documents.render(day, account)
            known = self._rendered[1]
            self._rendered = key, known if known == documents else documents
        return self._rendered[1]

    def apply(self, row: Row, event: BookEvent, time: int) -> None:
        """Take a row of the log and its event.

        `time` is that of a row without one (microseconds since 1970).
        """
        found = read_strategy_event(event, row.time or time)
        if found is not NOTHING:
            self.book.take(found)

    def work(self) -> bool:
        """Do a step of what is left to compute; return whether there may be more.

        All pages of an import come first: each makes holdings stale.
        """
        if self._take_assignments() or self._take_shared_page():
            return True
        if self.book.is_current:
            return False
        self.book.work(WORK_FILLS)
        return True

    @property
    def wants_openings(self) -> bool:
        """Whether it is not known yet what was held at the start, and can be taken."""
        return not self.records.get_meta("opened") and self.is_current()

    def take_openings(self, held: Iterable[Held], time: int) -> None:
        """Take the positions of Alpaca's first complete answer: what was held at the start.

        Later answers change nothing. An answer may have fills that the log gets only now, and lack
        others that are in the log. So fills of those seconds correct it by their `position_qty`.

        Args:
            held: what each position is, now that every row up to now is applied.
            time: when Alpaca was asked (microseconds since 1970).
        """
        if not self.wants_openings:
            return
        now = self._account.dates.now_microseconds()
        self.records.put_meta("opened", f"{time - SLACK} {now + SLACK}")
        self._open_settlement()
        traded = {symbol: Held(symbol, "0", b"", False) for _, symbol in self.book.holdings}
        found = (traded | {each.symbol: each for each in held}).values()
        openings = [_read_opening(each, time) for each in found]
        self.book.set_openings([each for each in openings if each is not None])

    def _open_settlement(self) -> None:
        if opened := self.records.get_meta("opened"):
            begin, end = opened.split()
            self.book.settled_by = int(begin), int(end)

    def take_page(self, page: ImportPage) -> None:
        """Take a page of an import: orders, then fills, then how far the import is."""
        for links in page.orders:
            self.book.orders.link(links)
        self.imported += sum(self.book.book(fill) for fill in page.fills)
        for key, value in page.progress.items():
            self.records.put_meta(key, value)

    def get_progress(self, key: str) -> str:
        """Return how far an import is, as its last page says; "" if none began."""
        return self.records.get_meta(key)

    def _take_shared_page(self) -> bool:
        """Take the next page of the imports that nodes share; return whether there was one.

        No page is skipped or applied halfway: those that were applied before are known then.
        """
        log = self._account.import_log
        if log is None or self._applied(log) >= log.count:
            return False
        self._generation, self.pages = log.generation, self._applied(log)
        try:
            page = ImportPage.decode(log.read(self.pages))
        except ValueError as error:  # anyone with Redis' password may have written it
            self._report_page(str(error))
        else:
            self.take_page(page)
        self.pages += 1
        return True

    def _report_page(self, problem: str) -> None:
        """Log that a page is ignored, once for each list: there may be any number of them."""
        if self._reported == self._generation:
            return
        self._reported = self._generation
        self._log.warn(
            "page {number} of the imports in Redis is ignored, and so is every other"
            " one like it: {error}",
            number=self.pages,
            error=problem,
        )

    def assign(self, order_id: str, strategy: str) -> None:
        """Assign an order by hand; "" undoes that. Raises AssignmentError, UnknownOrderError."""
        if strategy and (not is_strategy_name(strategy) or strategy == OTHER_STRATEGIES):
            raise AssignmentError("a strategy's name has 1 to 128 printable characters")
        if not self.book.orders.is_known(order_id):
            raise UnknownOrderError
        assignments = read_assignments(self._account.log.get_metadata(ASSIGNMENTS))
        assignments.pop(order_id, None)
        if strategy:
            if len(assignments) >= MAX_ASSIGNMENTS:
                raise AssignmentError(f"{MAX_ASSIGNMENTS:,} orders are assigned by hand already")
            assignments[order_id] = strategy
        text = json.dumps(assignments, separators=(",", ":"))  # the journal takes ASCII only
        if strategy and len(text) > MAX_TEXT:
            raise AssignmentError("the names of all assignments are too long together")
        self._account.set_metadata(ASSIGNMENTS, text)
        if self._take_assignments():
            self.book.orders.assign(order_id, strategy)  # its caller asks for it at once

    def _take_assignments(self) -> bool:
        """Apply some of what was assigned by hand, here or on another node.

        Returns whether more is left: a node that starts without a file may have MAX_ASSIGNMENTS.
        """
        text = self._account.log.get_metadata(ASSIGNMENTS) or ""
        if text == self._assigned and not self.records.get_meta(_BEGUN):
            self._assigned = text  # one object is compared at once, and may have MAX_TEXT
            return False
        if self._assigning is None or text != self._target:
            self._assigning, self._target = self._begin_assigning(text), text
        for order_id in list(self._assigning)[:ASSIGN_STEP]:
            self.book.orders.assign(order_id, self._assigning[order_id])
            del self._assigning[order_id]
        if self._assigning:
            return True
        self.records.put_meta(ASSIGNMENTS, text)
        self.records.put_meta(_BEGUN, "")
        self._assigned, self._assigning = text, None
        return False

    def _begin_assigning(self, text: str) -> dict[str, str]:
        """Return what differs from the assignments that are applied, and store that it begins."""
        old, new = read_assignments(self.records.get_meta(ASSIGNMENTS)), read_assignments(text)
        # A change that began, and was replaced by this one, may have reached any of its orders.
        begun = read_assignments(self.records.get_meta(_BEGUN))
        changed = {
            order_id: new.get(order_id, "")
            for order_id in old | new | begun
            if order_id in begun or old.get(order_id) != new.get(order_id)
        }
        self.records.put_meta(_BEGUN, encode(changed).decode())
        return changed

    def _warn(self) -> None:
        self._log.warn(
            "more than {limit} strategies: orders of further ones count as {other}",
            limit=f"{MAX_STRATEGIES:,}",
            other=OTHER_STRATEGIES,
        )


def _read_opening(held: Held, time: int) -> Opening | None:
    document = decode(held.document or b"{}")
    if (qty := _read_number(held.qty)) is None:
        return None
    price = _read_number(document.get("avg_entry_price")) or ZERO
    asset_class = document.get("asset_class")
    multiplier = OPTION_MULTIPLIER if asset_class == "us_option" else ONE
    text = asset_class if isinstance(asset_class, str) else ""
    # A position that has moved since is that of its newest fill, which may be an old one.
    until = FillKey(OPENING if held.has_moved else time + 1, "", "", "")
    return Opening(held.symbol, text, qty, price, multiplier, until, ZERO)


def _read_number(value: Any) -> Decimal | None:
    return parse_amount(value) if isinstance(value, str) else None
