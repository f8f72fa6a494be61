"""Tests for tradeproxy.query.state."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.query.parsing import parse_or_explain
from tradeproxy.book.views import EventQuery, OrderKey, OrderQuery, OrderScope
from tradeproxy.query.state import (
    EventsRequest,
    OrdersRequest,
    format_event_key,
    format_order_key,
    parse_events_request,
    parse_orders_request,
    parse_timeline_after,
)

EPOCH = "0123456789abcdef"
MORNING = "2027-01-15T05:13:20Z"
MICROSECONDS = 1_799_990_000_000_000


def read_orders(query: bytes) -> OrdersRequest | str:
    """Return the query of `/orders` as a value, or the line of its error."""
    return parse_or_explain(parse_orders_request, query)


def read_events(query: bytes) -> EventsRequest | str:
    """Return the query of `/events` as a value, or the line of its error."""
    return parse_or_explain(parse_events_request, query, EPOCH)


class OrdersRequestTests(SynchronousTestCase):
    """The query of `/orders`."""

    def test_query_without_parameters_asks_for_fifty_open_orders(self) -> None:
        """As docs/state.md promises."""
        query = OrderQuery(OrderScope.OPEN, frozenset(), "", None, None)
        self.assertEqual(read_orders(b""), OrdersRequest(query, 50))

    def test_every_parameter_has_its_effect(self) -> None:
        """Symbols have one form, and the cursor is the one of the page before."""
        key = OrderKey(MICROSECONDS, "id.1")
        self.assertEqual(
            read_orders(
                b"status=all&symbols=spy,BTC/USD&client_order_id_prefix=a-&limit=500"
                b"&after=%b&until=%b&cursor=%b"
                % (MORNING.encode(), MORNING.encode(), format_order_key(key).encode())
            ),
            OrdersRequest(
                OrderQuery(
                    OrderScope("all"),
                    frozenset(("SPY", "BTCUSD")),
                    "a-",
                    MICROSECONDS,
                    MICROSECONDS,
                ),
                500,
                key,
            ),
        )

    def test_wrong_value_is_explained(self) -> None:
        """The line has the nearest status, of which a long text has none."""
        scopes = "status: is none of open, closed, all"
        for query, line in (
            (b"status=Close", f"{scopes}; the nearest is closed"),
            (b"status=x", scopes),
            (b"status=open%b" % (b"x" * 28), scopes),
            (b"limit=501", "limit: is not a number from 1 to 500"),
            (b"cursor=1", "cursor: is not the cursor of a page of orders"),
            (b"cursor=x.1", "cursor: is not the cursor of a page of orders"),
        ):
            self.assertEqual(read_orders(query), line, query)


class EventsRequestTests(SynchronousTestCase):
    """The queries of `/events` and of `/orders/{id}`."""

    def test_query_without_parameters_asks_for_fifty_events(self) -> None:
        """As docs/state.md promises."""
        query = EventQuery(frozenset(), frozenset(), "", None, None, None)
        self.assertEqual(read_events(b""), EventsRequest(query, 50))

    def test_every_parameter_has_its_effect(self) -> None:
        """`since` is the first microsecond that is not before a time."""
        for text, since in ((MORNING, 0), (MORNING.replace("Z", ".0000001Z"), 1)):
            self.assertEqual(
                read_events(
                    b"symbols=SPY&events=Fill&client_order_id_prefix=a&order_id=7&limit=1"
                    b"&since=%b&until=%b&cursor=%b"
                    % (text.encode(), text.encode(), format_event_key(EPOCH, 9).encode())
                ),
                EventsRequest(
                    EventQuery(
                        frozenset(("SPY",)),
                        frozenset(("fill",)),
                        "a",
                        "7",
                        MICROSECONDS + since,
                        MICROSECONDS,
                    ),
                    1,
                    9,
                ),
            )

    def test_cursor_of_another_journal_is_rejected(self) -> None:
        """Its numbers are of other events."""
        line = "cursor: is of an earlier journal, now replaced"
        self.assertEqual(read_events(b"cursor=fedcba9876543210.9"), line)
        line = "cursor: is not the cursor of a page of events"
        self.assertEqual(read_events(b"cursor=9"), line)

    def test_timeline_begins_behind_a_row(self) -> None:
        """Or with the first one."""
        line = "timeline_after: is not the seq of an entry"
        for query, after in ((b"", 0), (b"timeline_after=12", 12), (b"timeline_after=-1", line)):
            self.assertEqual(parse_or_explain(parse_timeline_after, query), after, query)
