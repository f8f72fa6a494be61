"""What changes the book per strategy over HTTP: an assignment by hand, and the import of old fills.

Host, Origin and token are checked before, as for every page. No page of another origin may read an
answer, or send a request that is not a GET.
"""

from __future__ import annotations

import sqlite3

from twisted.internet.interfaces import IReactorTime
from twisted.web.server import Request

from tradeproxy.book.book import Book
from tradeproxy.book.strategies import AssignmentError, UnknownOrderError
from tradeproxy.downstream.admission import Rejection
from tradeproxy.downstream.snapshot import encode_compact
from tradeproxy.journal.base import UnreadableError
from tradeproxy.query.parameters import read_parameters, read_switch
from tradeproxy.web.answer import Waiting, WaitingWork
from tradeproxy.web.responses import set_uncached
from tradeproxy.web.state_pages import BUILDING
from tradeproxy.web.strategy_page import catch_up

SAVE_TIMEOUT = 4.0
"""Seconds that an assignment waits until it is durable: below the 5 s of `tradeproxy strategies`.

A reply of Redis may be lost after 1.5 s, and a second one comes 2 s later.
"""

UNREADABLE = Rejection(503, "the journal cannot be used at the moment", retry_after=1)
UNCONFIRMED = Rejection(
    503, "whether the assignment is stored is not known; the same request asks again", retry_after=1
)
UNKNOWN = Rejection(404, "the order has no fill here, and no link to another order")
FOLLOWER = Rejection(409, "this node does not lead the account: ask the leader")
NO_IMPORT = Rejection(404, "this proxy cannot import fills")


def begin_assignment(
    request: Request, book: Book, order_id: str, query: bytes, clock: IReactorTime
) -> WaitingWork | Rejection:
    """Return the work that assigns an order to the strategy in the query, or undoes that.

    It has a step of its own: with 4,000 assignments it takes some 50 ms. The answer waits until the
    change is durable, SAVE_TIMEOUT at most. Raises QueryError.
    """
    if request.method != b"POST":
        return _refuse_method(request, b"POST")
    given = read_parameters(query, ("strategy", "undo"))
    if ("strategy" in given) == read_switch(given, "undo"):
        return Rejection(400, "strategy: is missing; undo=1 undoes an assignment")
    return _assign(book, order_id, given.get("strategy", ""), clock)


def _assign(book: Book, order_id: str, name: str, clock: IReactorTime) -> WaitingWork:
    yield from catch_up(book)
    strategies = book.strategies
    if strategies is None:
        return BUILDING
    if (refusal := _find_refusal(book)) is not None:
        return refusal
    try:
        strategies.assign(order_id, name)
        name = strategies.book.orders.find_strategy(order_id)
    except UnknownOrderError:
        return UNKNOWN
    except AssignmentError as error:
        return Rejection(400, f"strategy: {error}")
    except (sqlite3.Error, UnreadableError):
        return UNREADABLE
    book.save()
    results: list[bool] = []
    saved = book.account.when_saved().addTimeout(SAVE_TIMEOUT, clock)
    saved.addCallbacks(results.append, lambda _: None)
    if not results:
        yield Waiting(saved, UNCONFIRMED)
    if results != [True]:
        return UNCONFIRMED
    return [encode_compact({"order_id": order_id, "strategy": name}), b"\n"]


def render_import(request: Request, book: Book, query: bytes) -> bytes | Rejection:
    """Show how far the import is; POST begins or continues it. Raises QueryError."""
    if request.method not in (b"GET", b"HEAD", b"POST"):
        return _refuse_method(request, b"GET, HEAD, POST")
    read_parameters(query, ())
    if book.importer is None:
        return NO_IMPORT
    if request.method == b"POST":
        if (refusal := _find_refusal(book)) is not None:
            return refusal
        book.importer.start()
    progress = book.importer.progress
    document = {
        "state": progress.state.value,
        "orders": progress.orders,
        "fills": progress.fills,
        "new": progress.new,
        "fraction": round(progress.fraction, 4),
        "reason": progress.reason,
    }
    set_uncached(request)
    return encode_compact(document) + b"\n"


def _find_refusal(book: Book) -> Rejection | None:
    """Return why nothing can be changed now; None if it can."""
    role = book.account.role
    if role is not None and not role.is_leader:
        return FOLLOWER
    # The metadata of a leader that does not write yet is replaced by that of the log.
    is_starting = role is not None and not role.is_writing
    return UNREADABLE if is_starting or not book.account.log.status.durable else None


def _refuse_method(request: Request, allowed: bytes) -> Rejection:
    request.setHeader(b"allow", allowed)
    return Rejection(405, f"only {allowed.decode()} is allowed here")
