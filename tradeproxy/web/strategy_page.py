"""The page about an account's strategies. docs/strategies.md has its fields."""

from __future__ import annotations

from collections.abc import Generator

from tradeproxy.book.book import Book
from tradeproxy.book.strategies import read_account
from tradeproxy.book.strategy_views import (
    describe_position,
    describe_sums,
    group_holdings,
    list_differences,
    list_notes,
    select_positions,
)
from tradeproxy.downstream.admission import Rejection
from tradeproxy.downstream.snapshot import encode_compact
from tradeproxy.query.strategies import StrategiesRequest
from tradeproxy.web.answer import Work

MAX_BYTES = 512 * 1024
"""Bytes of the strategies on one page. A page with more ends early, with a cursor."""

STEP_POSITIONS = 50
"""Positions after which a step ends: each takes some 30 microseconds."""

COMPUTING = Rejection(503, "the strategies are being computed", retry_after=1)


def catch_up(book: Book) -> Generator[None, None, None]:
    """Let the book apply the rows that the log has now. Raises UnreadableError."""
    last = book.account.log.last
    yield
    while not book.catch_up() and book.seq < last and not book.is_building:
        yield


def list_strategies(book: Book, request: StrategiesRequest) -> Work:
    """Make the page, in steps: what comes later in it may be newer. May raise UnreadableError."""
    yield from catch_up(book)
    strategies = book.strategies
    if strategies is None or not strategies.is_current():
        return COMPUTING
    day, account = strategies.today, read_account(book.positions())
    cursor = book.cursor
    groups = group_holdings(strategies.book)
    names = _behind(list(groups), request.after)
    documents: list[bytes] = []
    size = count = 0
    last = ""
    for name in names:
        if request.names and name not in request.names:
            continue
        if len(documents) >= request.limit or size >= MAX_BYTES:
            break
        own, positions = groups[name], []
        listed = select_positions(own, day, request.symbols, all_positions=bool(request.names))
        for symbol, holding in listed:
            document = describe_position(symbol, holding, day, account, lots=request.lots)
            positions.append(encode_compact(document))
            count += 1
            if count % STEP_POSITIONS == 0:
                yield
        sums = encode_compact(describe_sums(name, own, day, lots=request.lots))
        documents.append(b'%b,"positions":[%b]}' % (sums[:-1], b",".join(positions)))
        size += len(documents[-1])
        last, count = name, count + 1
        if count % STEP_POSITIONS == 0:
            yield
    else:
        last = ""
    if book.strategies is not strategies or not strategies.book.is_current:
        return COMPUTING  # a late fill has come meanwhile, and holdings begin again
    head = {
        "account": book.account.name,
        "cursor": cursor,
        "complete": book.is_complete,
        "date": day.isoformat(),
    }
    tail = {
        "differences": list_differences(strategies.book, account),
        "notes": list_notes(strategies.book),
        "more": bool(last),
        "next": last or None,
    }
    pieces = [encode_compact(head)[:-1], b',"strategies":[']
    for number, each in enumerate(documents):
        pieces += ([b","] if number else []) + [each]
    return [*pieces, b"],", encode_compact(tail)[1:], b"\n"]


def _behind(names: list[str], after: str) -> list[str]:
    """Return the names behind one of them; all if it is gone."""
    return names[names.index(after) + 1 :] if after in names else names
