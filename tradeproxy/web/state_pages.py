"""The pages about an account's state: open orders, orders, one order, positions, events.

They are JSON, made of the account's book in steps. docs/state.md describes them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator
from functools import partial
from weakref import WeakKeyDictionary

from twisted.internet.interfaces import IReactorTime
from twisted.web.server import NOT_DONE_YET, Request

from tradeproxy.book.book import Book
from tradeproxy.book.snapshot import PendingSnapshot
from tradeproxy.book.views import EventQuery, TimelineEntry
from tradeproxy.downstream.admission import Rejection
from tradeproxy.downstream.clients import Clients
from tradeproxy.downstream.snapshot import encode_compact
from tradeproxy.hub.log_tail import ReplacedLogError
from tradeproxy.journal.base import Row, TrimmedError, UnreadableError
from tradeproxy.query.parameters import read_parameters
from tradeproxy.query.state import (
    EventsRequest,
    OrdersRequest,
    format_event_key,
    format_order_key,
    parse_events_request,
    parse_orders_request,
    parse_timeline_after,
)
from tradeproxy.query.strategies import parse_strategies_request
from tradeproxy.web.answer import (
    BLOCK_BYTES,
    MAX_BLOCK_BYTES,
    Answer,
    Content,
    WaitingWork,
    Work,
)
from tradeproxy.web.responses import build_array
from tradeproxy.web.routes import StatePage
from tradeproxy.web.strategy_page import catch_up, list_strategies
from tradeproxy.web.turns import Turns
from tradeproxy.wire.event import format_time
from tradeproxy.wire.frame import extract_data

MAX_ANSWERS = 128
"""Answers that are under way at once."""

HELD_BYTES = 32 * 1024 * 1024
"""Bytes that all of these hold in memory, from their first step until their clients have read them.
What is in memory anyway does not count."""

YIELD_AFTER = 2.0
"""Seconds without reading after which an answer gives way, if all places are taken."""

MAX_PAGE_BYTES = 512 * 1024
"""Bytes of the objects on one page. A page with more ends early, with a cursor."""

SENT_BYTES = 8 * 1024 * 1024
"""Bytes of the blocks that wait for clients to read. The addresses have equal shares of them, and
so have the answers of an address."""

MAX_EXAMINED = 20_000
"""Rows or orders that are looked at for one answer."""

STEP_ITEMS = 50
"""Objects that one step reads."""

STEP_ENTRIES = 200
"""Rows of a timeline that one step reads."""

MAX_TIMELINE = 2_000
"""Entries of a timeline in one answer."""

_CONTENTS: WeakKeyDictionary[PendingSnapshot, Content] = WeakKeyDictionary()
"""The answers of the newest snapshots. To hash 30 MB for each of 100 clients took ten seconds."""

BOOK_OFF = Rejection(404, "PROXY_BOOK=0 turns this off")
BUILDING = Rejection(503, "the state of the account is still being built", retry_after=1)
UNREADABLE = Rejection(503, "the journal cannot be read at the moment", retry_after=1)
BUSY = Rejection(503, "too many answers are under way", retry_after=1)


class StatePages:
    """Answers requests for the pages, and has what the answers share."""

    def __init__(self, clients: Clients, clock: IReactorTime) -> None:
        self._clients = clients
        self._clock = clock
        self._turns = Turns(clock)
        self._under_way: dict[Answer, int] = {}  # the oldest first, and the bytes that each holds
        self._counts = Counter[str]()  # of these, by address
        self._held = Counter[str]()  # their bytes, by address

    def render(
        self, request: Request, book: Book, page: StatePage, order_id: str | None, query: bytes
    ) -> int | Rejection:
        """Answer an admitted GET or HEAD, for `Resource.render`; a Rejection changes nothing.

        Raises QueryError.

        Args:
            request: the request.
            book: the state of the account.
            page: what is asked for.
            order_id: of the order, for ORDERS; None for the list.
            query: the query of the URL.
        """
        work = _find_work(book, page, order_id, query)
        return BUILDING if book.is_building else self.begin(request, work)

    def begin(self, request: Request, work: WaitingWork) -> int | Rejection:
        """Answer an admitted request with what `work` makes, as `render` does."""
        answer = Answer(
            request,
            _guard(work),
            self._find_block_bytes,
            self._hold,
            self._turns,
            self._clients,
            self._clock,
        )
        is_full = len(self._under_way) >= MAX_ANSWERS
        other = self._choose_other(answer.host) if is_full else None
        if (is_full and other is None) or not answer.begin():
            return BUSY
        self._under_way[answer] = 0
        self._counts[answer.host] += 1
        answer.is_closed.addCallback(lambda _: self._forget(answer))
        if other is not None:
            # The place is taken already: the end of an answer may begin a pipelined request.
            self._forget(other)
            other.give_way(BUSY)
        return NOT_DONE_YET

    def _forget(self, answer: Answer) -> None:
        if answer in self._under_way:
            self._held[answer.host] -= self._under_way.pop(answer)
            self._counts[answer.host] -= 1
            if not self._counts[answer.host]:
                del self._counts[answer.host], self._held[answer.host]

    def _hold(self, answer: Answer, size: int) -> None:
        """Record how many bytes an answer holds. Beyond HELD_BYTES others give way, or itself.

        That is one of the address that holds most: the one whose client has read nothing for
        longest, or the newest.
        """
        if answer not in self._under_way:
            return  # it is about to end
        self._held[answer.host] += size - self._under_way[answer]
        self._under_way[answer] = size
        while self._held.total() > HELD_BYTES:
            [(host, _)] = self._held.most_common(1)
            holding = [each for each, held in self._under_way.items() if held and each.host == host]
            other = max(reversed(holding), key=lambda each: each.stalled)
            self._forget(other)
            other.give_way(BUSY)

    def _find_block_bytes(self, host: str) -> int:
        """Return the bytes of the next block for an answer to this address."""
        share = SENT_BYTES // max(len(self._counts) * self._counts[host], 1)
        return max(min(share, MAX_BLOCK_BYTES), BLOCK_BYTES)

    def _choose_other(self, host: str) -> Answer | None:
        """Return the answer that gives its place to a request of this address; None if none does.

        It is one of the address with the most answers: the one whose client has read nothing for
        longest, or the newest. If this address would have as many, only an answer that has stalled
        for YIELD_AFTER gives way, and none of an address with fewer.
        """
        counts = self._counts
        most = max(counts.values(), default=0)
        is_owed = counts[host] + 1 < most
        least = most if is_owed else counts[host]
        others = [each for each in reversed(self._under_way) if counts[each.host] >= least]
        longest = max(others, key=lambda answer: answer.stalled, default=None)
        if longest is None or (not is_owed and longest.stalled < YIELD_AFTER):
            return None
        return longest


def _find_work(book: Book, page: StatePage, order_id: str | None, query: bytes) -> Work:
    match page:
        case StatePage.STATE:
            read_parameters(query, ())
            return _show_state(book)
        case StatePage.POSITIONS:
            read_parameters(query, ())
            return _list_positions(book)
        case StatePage.STRATEGIES:
            return list_strategies(book, parse_strategies_request(query))
        case StatePage.ORDERS if order_id is not None:
            return _show_order(book, order_id, parse_timeline_after(query))
        case StatePage.ORDERS:
            return _list_orders(book, parse_orders_request(query))
        case _:
            return _list_events(book, parse_events_request(query, book.account.log.epoch))


def _guard(work: WaitingWork) -> WaitingWork:
    """Return the same work; it ends with a Rejection if the log or the book cannot be read."""
    try:
        return (yield from work)
    except (UnreadableError, TrimmedError, ReplacedLogError):
        return UNREADABLE


# The work for each page.


def _show_state(book: Book) -> Work:
    yield from catch_up(book)
    if book.is_building:
        return BUILDING
    seq = book.seq
    while not book.prepare() or (pending := book.snapshot()).seq < seq:
        yield None
        if book.is_building or book.seq < seq:
            return BUILDING  # the log is another one, with smaller numbers
    while (snapshot := pending.made) is None:
        yield None
    if pending in _CONTENTS:
        return _CONTENTS[pending]
    pieces = [
        _head({"account": book.account.name, "cursor": snapshot.cursor}, snapshot.is_complete),
        *build_array("orders", (order.document for order in snapshot.list_orders())),
        b",",
        *build_array("positions", [position.document for position in snapshot.positions]),
        b",",
        *build_array("fills", [fill.document for fill in snapshot.fills]),
        b",",
        *build_array("strategies", [strategy.document for strategy in snapshot.strategies]),
        b"}\n",
    ]
    content = Content(pieces, partial(book.hold, snapshot))
    return _CONTENTS.setdefault(pending, content)


def _list_positions(book: Book) -> Work:
    yield from catch_up(book)
    while not book.prepare():
        yield None
    if book.is_building:
        return BUILDING
    positions = book.positions()
    pieces = [
        _head({"account": book.account.name}, book.is_complete),
        *build_array("positions", [position.document for position in positions]),
        b"}\n",
    ]
    return Content(pieces, partial(book.hold, positions))


def _list_orders(book: Book, request: OrdersRequest) -> Work:
    yield from catch_up(book)
    after, examined, size = request.after, 0, 0
    documents: list[bytes] = []
    while True:
        limit = min(request.limit - len(documents), STEP_ITEMS)
        page = book.orders(request.query, after, limit)
        documents += [order.document for order in page.orders]
        size += sum(len(order.document) for order in page.orders)
        examined += max(page.examined, 1)
        after = page.next
        is_full = len(documents) >= request.limit or size >= MAX_PAGE_BYTES
        if after is None or is_full or examined >= MAX_EXAMINED:
            break
        yield size
    return [
        _head({"account": book.account.name}, book.is_complete),
        *build_array("orders", documents),
        _tail(None if after is None else format_order_key(after)),
    ]


def _show_order(book: Book, order_id: str, after: int) -> Work:
    yield from catch_up(book)
    order = book.order(order_id)
    if order is None:
        return Rejection(404, "there is no such order")
    document = order.document.rstrip()[:-1]
    del order  # its JSON may be large
    entries: list[bytes] = []
    count = size = 0
    next_: int | None = after
    while next_ is not None and count < MAX_TIMELINE and size < MAX_PAGE_BYTES:
        yield len(document) + size
        page = book.timeline(order_id, next_, STEP_ENTRIES)
        if page.entries:
            entries.append(b",".join(map(_encode_entry, page.entries)))
            count += len(page.entries)
            size += len(entries[-1])
        next_ = page.next
    return [
        document,
        b',"timeline":[',
        b",".join(entries),
        b'],"timeline_more":%b}\n' % encode_compact(next_ is not None),
    ]


def _list_events(book: Book, request: EventsRequest) -> Work:
    yield from catch_up(book)
    epoch = book.account.log.epoch
    documents: list[bytes] = []
    before, examined, size = request.before, 0, 0
    while True:
        page = book.events(request.query, before, min(request.limit - len(documents), STEP_ITEMS))
        for row in page.rows:
            documents.append(_encode_event(row))
            size += len(documents[-1])
        before, examined = page.next, examined + max(page.examined, 1)
        is_full = len(documents) >= request.limit or size >= MAX_PAGE_BYTES
        if before is None or is_full or examined >= MAX_EXAMINED:
            break
        yield size
    total: int | None = None
    if request.before is None:  # only a page that began at the newest event may count all
        total = yield from _count_rest(book, request.query, before, examined, len(documents))
    return [
        encode_compact({"account": book.account.name})[:-1] + b",",
        *build_array("events", documents),
        b',"matched":%d,"total":%b' % (len(documents), encode_compact(total)),
        _tail(None if before is None else format_event_key(epoch, before)),
    ]


def _count_rest(
    book: Book, query: EventQuery, before: int | None, examined: int, count: int
) -> Generator[None, None, int | None]:
    """Count the matches behind a page; return None if MAX_EXAMINED rows do not reach the end."""
    while before is not None:
        if examined >= MAX_EXAMINED:
            return None
        yield
        found = book.count_events(query, before)
        count, before = count + found.matched, found.next
        examined += max(found.examined, 1)
    return count


# JSON in pieces.


def _head(members: dict[str, str | None], is_complete: bool) -> bytes:
    return encode_compact({**members, "complete": is_complete})[:-1] + b","


def _tail(cursor: str | None) -> bytes:
    members = encode_compact({"more": cursor is not None, "cursor": cursor})
    return b",%b\n" % members[1:]


def _encode_entry(entry: TimelineEntry) -> bytes:
    return encode_compact(
        {
            "seq": entry.seq,
            "time": None if entry.time is None else format_time(entry.time),
            "event": entry.kind,
            "qty": entry.qty,
            "price": entry.price,
            "filled_qty": entry.filled_qty,
            "status": entry.status,
        }
    )


def _encode_event(row: Row) -> bytes:
    data, recovered = extract_data(row.payload or b"")
    head = {"seq": row.seq, "time": None if row.time is None else format_time(row.time)}
    mark = b"" if recovered is None else b',"recovered":' + encode_compact(recovered)
    return encode_compact(head)[:-1] + mark + b',"data":' + data + b"}"
