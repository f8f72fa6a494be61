"""The page about an account's strategies. docs/strategies.md has its fields."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from datetime import date
from decimal import Decimal
from operator import itemgetter

from tradeproxy.book.book import Book
from tradeproxy.book.strategy_book import StrategyBook
from tradeproxy.book.strategy_views import (
    Document,
    describe_position,
    describe_sums,
    draw_line,
    is_listed,
    list_differences,
    list_holdings,
    list_names,
    list_notes,
)
from tradeproxy.downstream.admission import Rejection
from tradeproxy.downstream.snapshot import encode_compact
from tradeproxy.query.strategies import SEPARATOR, StrategiesRequest
from tradeproxy.web.answer import Work
from tradeproxy.web.responses import build_array

MAX_BYTES = 256 * 1024
"""Bytes of the strategies on one page. A page with more ends early, with a cursor."""

MAX_DIFFERENCES = 1_000
"""Symbols that are listed because the account has another quantity than all strategies."""

STEP_POSITIONS = 50
"""Positions after which a step ends: each takes some 30 microseconds."""

COMPUTING = Rejection(503, "the strategies are being computed", retry_after=1)


def catch_up(book: Book) -> Generator[None, None, None]:
    """Let the book apply the rows that the log has now. Raises UnreadableError."""
    last = book.account.log.last
    yield
    while not book.catch_up() and book.seq < last and not book.is_building:
        yield


class _Page:
    """The strategies on a page that is being made."""

    def __init__(
        self, request: StrategiesRequest, day: date, account: Mapping[str, Decimal]
    ) -> None:
        self.documents: list[bytes] = []
        self.next = ""
        """The cursor of the next page; empty if this is the last one."""
        self._request = request
        self._day = day
        self._account = account
        self._size = self._count = 0

    @property
    def is_full(self) -> bool:
        """Whether no further strategy has room."""
        return len(self.documents) >= self._request.limit or self._size >= MAX_BYTES

    def add(self, book: StrategyBook, name: str, after: str) -> Generator[int | None, None, None]:
        """Add a strategy, in steps: its positions behind the symbol `after` that have room.

        With `after` it continues that of the page before, which had its sums.
        """
        day, request, last = self._day, self._request, ""
        positions: list[bytes] = []
        for symbol, holding in list_holdings(book, name, after):
            if request.symbols and symbol not in request.symbols:
                continue
            if not (request.names or is_listed(holding, day)):
                continue
            if self._size >= MAX_BYTES:
                self.next = f"{name}{SEPARATOR}{last}"
                break
            document = describe_position(symbol, holding, day, self._account, lots=request.lots)
            positions.append(encode_compact(document))
            self._size += len(positions[-1])
            last = symbol
            if self._is_step():
                yield self._size
        if after:
            head = encode_compact({"name": name, "continued": True})
        else:
            sums = describe_sums(name, list_holdings(book, name), day)
            if request.lots:
                sums["line"] = yield from draw_line(list_holdings(book, name), day)
            head = encode_compact(sums)
        self.documents.append(b'%b,"positions":[%b]}' % (head[:-1], b",".join(positions)))
        self._size += len(head)
        if self._is_step():
            yield self._size

    def _is_step(self) -> bool:
        self._count += 1
        return self._count % STEP_POSITIONS == 0


def list_strategies(book: Book, request: StrategiesRequest) -> Work:
    """Make the page, in steps: what comes later in it may be newer. May raise UnreadableError."""
    yield from catch_up(book)
    while not book.prepare():
        yield None
    strategies = book.strategies
    if strategies is None or not strategies.is_current():
        return COMPUTING
    day, account, cursor = strategies.today, book.amounts, book.cursor
    symbols = (position.symbol for position in book.positions())
    begun, _, after = request.after.partition(SEPARATOR)
    everything = list_names(strategies.book)
    names = _behind(everything, begun)
    page, last = _Page(request, day, account), ""
    for name in [begun, *names] if after and begun in everything else names:
        if request.names and name not in request.names:
            continue
        if page.is_full:
            page.next = last
            break
        yield from page.add(strategies.book, name, after if name == begun else "")
        if page.next:
            break
        last = name
    differences: list[Document] = []
    for difference in list_differences(strategies.book, account, symbols):
        if difference is None:
            yield None
        elif len(differences) < MAX_DIFFERENCES:
            differences.append(difference)
    if book.strategies is not strategies or not strategies.book.is_current:
        return COMPUTING  # a late fill has come meanwhile, and holdings begin again
    head = {
        "account": book.account.name,
        "cursor": cursor,
        "complete": book.is_complete,
        "date": day.isoformat(),
    }
    tail = {
        "differences": sorted(differences, key=itemgetter("symbol")),
        "notes": list_notes(strategies.book),
        "more": bool(page.next),
        "next": page.next or None,
    }
    array = build_array("strategies", page.documents)
    return [encode_compact(head)[:-1], b",", *array, b",", encode_compact(tail)[1:], b"\n"]


def _behind(names: list[str], after: str) -> list[str]:
    """Return the names behind one of them; all if it is gone."""
    return names[names.index(after) + 1 :] if after in names else names
