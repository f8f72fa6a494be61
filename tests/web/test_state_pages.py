"""The pages about an account's state, over HTTP."""

from __future__ import annotations

import json
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import quote

from twisted.internet.address import IPv4Address

from tests.book.support import BookCase, parse
from tests.support import memory
from tests.support.journals import time_of
from tests.support.sse import ClosingTransport
from tests.support.state import BlockedStateCase, StateTestCase, order_event
from tradeproxy.book.builder import WRITE_EVERY
from tradeproxy.config.settings import Limits
from tradeproxy.web import answer as answers
from tradeproxy.web import state_pages
from tradeproxy.web.answer import BLOCK_BYTES, MAX_BLOCK_BYTES, READ_TIMEOUT, STALL_TIMEOUT
from tradeproxy.web.state_pages import YIELD_AFTER
from tradeproxy.wire.event import format_time

if TYPE_CHECKING:
    from tradeproxy.book.book import Book


def ids(document: dict[str, Any]) -> list[str]:
    """Return the ids of the orders in an answer."""
    return [order["id"] for order in document["orders"]]


class StatePageTests(StateTestCase):
    """What each page has."""

    def test_state_has_what_a_client_needs_at_its_start(self) -> None:
        """The cursor is where the stream continues."""
        self.trade("1")
        self.trade("2", "fill", symbol="MSFT")
        document = self.fetch("/state")
        self.assertEqual(list(document)[:3], ["account", "cursor", "complete"])
        self.assertEqual((document["account"], document["complete"]), ("paper", False))
        self.assertEqual(document["cursor"], self.paper.cursor_at(2))
        self.assertEqual(ids(document), ["1"])
        self.assertEqual([each["symbol"] for each in document["positions"]], ["MSFT"])
        self.assertEqual([fill["order"]["id"] for fill in document["fills"]], ["2"])

    def test_question_in_a_burst_waits_for_the_events_before_it(self) -> None:
        """Behind by more than 300 events, the book answered with what it had."""
        self.ticks.tick = 0.001
        for number in range(400):
            kind = "fill" if number == 399 else "new"
            self.paper.publish(parse(order_event(next(self.numbers), "1", kind)))
        self.paper.flush()
        self.assertEqual(
            [each["symbol"] for each in self.fetch("/positions")["positions"]], ["AAPL"]
        )

    def test_state_of_many_orders_is_made_in_steps(self) -> None:
        """1,500 brackets took 43 ms in one turn."""
        orders = self.trade_often(100)
        self.assertEqual(self.fetch("/state")["orders"][-1]["id"], orders[-1])
        self.trade("1")
        self.ticks.tick = 0.001
        self.assertEqual(ids(self.fetch("/state")), ["1", *orders])

    def test_every_form_of_the_path_works(self) -> None:
        """A client knows the path of its stream, and adds the page."""
        self.trade("1")
        for path in (
            "/trade-updates-paper",
            "/trade-updates-paper/stream",
            "/paper",
            "/paper/stream",
            "//trade-updates-paper//stream/",
        ):
            for page in ("/state", "/orders", "/orders/1", "/positions", "/events/"):
                self.assertEqual(self.request(path + page).status, 200, path + page)

    def test_orders_are_open_ones_newest_first(self) -> None:
        """That is Alpaca's default."""
        for order_id in ("1", "2", "3"):
            self.trade(order_id)
        self.trade("2", "canceled")
        self.assertEqual(ids(self.fetch("/orders")), ["3", "1"])
        self.assertEqual(ids(self.fetch("/orders?status=closed")), ["2"])
        self.assertEqual(ids(self.fetch("/orders?status=all")), ["3", "2", "1"])

    def test_orders_can_be_selected(self) -> None:
        """By symbol, by client_order_id, and by the time of their submission."""
        self.trade("1", symbol="AAPL")
        self.trade("2", symbol="BTC/USD", client_order_id="grid-7")
        self.trade("3", symbol="AAPL")
        for query, expected in {
            "symbols=btcusd": ["2"],
            "client_order_id_prefix=grid-": ["2"],
            f"after={quote(format_time(time_of(1)))}": ["3", "2"],
            f"until={quote(format_time(time_of(1)))}": ["1"],
            "symbols=MSFT": [],
        }.items():
            self.assertEqual(ids(self.fetch(f"/orders?{query}")), expected, query)

    def test_orders_are_paged(self) -> None:
        """Each page continues behind the one before, whatever closes meanwhile."""
        self.trade_often(120)
        for status in ("open", "all"):
            found: list[str] = []
            query = f"status={status}&limit=50"
            document = self.fetch(f"/orders?{query}")
            while True:
                found += ids(document)
                self.trade("5000", "new")
                if not document["more"]:
                    break
                document = self.fetch(f"/orders?{query}&cursor={document['cursor']}")
            self.assertEqual(found[-120:], [str(1000 + n) for n in reversed(range(120))])
            self.assertIsNone(document["cursor"])

    def test_page_of_large_orders_ends_early(self) -> None:
        """An answer is bounded in memory. `more` says that the page is not the last one."""
        self.patch(state_pages, "MAX_PAGE_BYTES", 200_000)
        self.trade_often(200, note="x" * 5000)
        document = self.fetch("/orders?limit=200")
        self.assertTrue(document["more"])
        self.assertLess(len(document["orders"]), 100)
        rest = self.fetch(f"/orders?limit=200&cursor={document['cursor']}")
        self.assertEqual(int(ids(rest)[0]), int(ids(document)[-1]) - 1)

    def test_one_order_has_its_timeline(self) -> None:
        """It is Alpaca's object, with one entry for each event."""
        self.trade("1")
        self.trade("1", "partial_fill")
        self.trade("1", "fill")
        document = self.fetch("/orders/1")
        self.assertEqual((document["id"], document["status"]), ("1", "filled"))
        self.assertIs(document["timeline_more"], False)
        self.assertEqual(
            [(each["seq"], each["event"], each["filled_qty"]) for each in document["timeline"]],
            [(1, "new", "0"), (2, "partial_fill", "4"), (3, "fill", "10")],
        )
        self.assertEqual(
            document["timeline"][1],
            {
                "seq": 2,
                "time": format_time(time_of(1)),
                "event": "partial_fill",
                "qty": "4",
                "price": "5",
                "filled_qty": "4",
                "status": "partially_filled",
            },
        )

    def test_long_timeline_is_cut(self) -> None:
        """The rest comes with `timeline_after`."""
        self.patch(state_pages, "MAX_TIMELINE", 100)
        for _ in range(150):
            self.trade("1", "replaced", status="new")
        document = self.fetch("/orders/1")
        self.assertIs(document["timeline_more"], True)
        last = document["timeline"][-1]["seq"]
        rest = self.fetch(f"/orders/1?timeline_after={last}")
        self.assertEqual(len(document["timeline"]) + len(rest["timeline"]), 150)
        self.assertEqual(rest["timeline"][0]["seq"], last + 1)

    def test_unknown_order_is_404(self) -> None:
        """In Alpaca's shape of errors."""
        answer = self.ask("/orders/61e69015-8549-4bfd-b9c3-01e75843f47d")
        self.assertEqual((answer.status, answer.reason), (404, "there is no such order"))

    def test_positions_follow_fills(self) -> None:
        """Their amounts are text."""
        self.trade("1", "partial_fill")
        document = self.fetch("/positions")
        self.assertEqual(list(document), ["account", "complete", "positions"])
        [position] = document["positions"]
        self.assertEqual((position["symbol"], position["qty"]), ("AAPL", "4"))
        self.assertNotIn("difference", position)

    def test_events_are_searched_newest_first(self) -> None:
        """By symbol, kind, prefix, order and time."""
        self.trade("1")
        self.trade("2", symbol="MSFT", client_order_id="grid-2")
        self.trade("1", "fill")
        document = self.fetch("/events")
        self.assertEqual([each["seq"] for each in document["events"]], [3, 2, 1])
        self.assertEqual((document["matched"], document["total"]), (3, 3))
        self.assertEqual((document["more"], document["cursor"]), (False, None))
        self.assertEqual(document["events"][0]["data"]["event"], "fill")
        self.assertEqual(document["events"][0]["time"], format_time(time_of(2)))
        for query, expected in {
            "symbols=MSFT": [2],
            "events=fill": [3],
            "client_order_id_prefix=grid-": [2],
            "order_id=1": [3, 1],
            "order_id=none": [],
            f"since={quote(format_time(time_of(1)))}": [3, 2],
            f"since={quote(format_time(time_of(1)).replace('Z', '001Z'))}": [3],
            f"until={quote(format_time(time_of(1)))}": [2, 1],
            "events=fill&symbols=MSFT": [],
        }.items():
            found = self.fetch(f"/events?{query}")["events"]
            self.assertEqual([each["seq"] for each in found], expected, query)

    def test_events_are_paged_and_counted(self) -> None:
        """The first page says how many there are in all."""
        self.trade_often(120)
        self.trade("1", symbol="MSFT")
        document = self.fetch("/events?symbols=AAPL&limit=50")
        self.assertEqual((document["matched"], document["total"]), (50, 120))
        found = [each["seq"] for each in document["events"]]
        while document["more"]:
            cursor = document["cursor"]
            document = self.fetch(f"/events?symbols=AAPL&limit=50&cursor={cursor}")
            self.assertIsNone(document["total"])
            found += [each["seq"] for each in document["events"]]
        self.assertEqual(found, [*range(120, 0, -1)])

    def test_long_search_ends_with_a_cursor(self) -> None:
        """An answer looks at a bounded number of rows. The next one continues."""
        self.patch(state_pages, "MAX_EXAMINED", 100)
        self.trade("1", symbol="MSFT")
        for n in range(3):
            self.publish(
                self.paper, *[order_event(n * 1000 + k, str(n * 1000 + k)) for k in range(2, 1000)]
            )
            self.wires.advance(1)
        document, count = self.fetch("/events?symbols=MSFT"), 1
        while document["more"]:
            self.assertEqual((document["events"], document["total"]), ([], None))
            document = self.fetch(f"/events?symbols=MSFT&cursor={document['cursor']}")
            count += 1
        self.assertEqual([each["seq"] for each in document["events"]], [1])
        self.assertGreater(count, 1)


class RejectedRequestTests(StateTestCase):
    """Requests that get no page."""

    def test_bad_parameter_is_400_that_names_it(self) -> None:
        """And the nearest name, or what it takes."""
        for path, line in {
            "/orders?stauts=open": "stauts: there is no such parameter; the nearest is status",
            "/orders?status=opened": "status: is none of open, closed, all; the nearest is open",
            "/orders?limit=0": "limit: is not a number from 1 to 500",
            "/orders?limit=501": "limit: is not a number from 1 to 500",
            "/orders?limit=": "limit: is empty",
            "/orders?limit=1&limit=2": "limit: is given twice",
            "/orders?cursor=x": "cursor: is not the cursor of a page of orders",
            "/orders?after=yesterday": (
                "after: is not a time with its offset from UTC, such as 2026-01-31T14:30:00Z"
            ),
            "/orders/1?timeline_after=x": "timeline_after: is not the seq of an entry",
            "/events?events=cancelled": "events: there is no cancelled; the nearest is canceled",
            "/events?orderid=1": "orderid: there is no such parameter; the nearest is order_id",
            "/events?cursor=7": "cursor: is not the cursor of a page of events",
            f"/events?cursor={'0' * 16}.7": "cursor: is of an earlier journal, now replaced",
        }.items():
            answer = self.ask(path)
            self.assertEqual((answer.status, answer.reason), (400, line), path)

    def test_other_parameters_are_ignored(self) -> None:
        """As on the streams: a reverse proxy may add some."""
        for path in ("/state?x=1", "/orders?nested=true", "/positions?page=2", "/events?_=1"):
            self.assertEqual(self.ask(path).status, 200, path)

    def test_other_methods_are_405(self) -> None:
        """An order is sent elsewhere."""
        for method in ("POST", "DELETE", "PUT"):
            answer = self.request("/trade-updates-paper/orders", method)
            self.assertEqual(answer.status, 405)
            self.assertIn(b"Allow: GET, HEAD", answer.received)

    def test_unknown_account_is_404_naming_variables(self) -> None:
        """As for a stream."""
        answer = self.request("/desk_2/orders")
        self.assertEqual(answer.status, 404)
        self.assertIn("ALPACA_DESK_2_API_KEY", answer.reason)

    def test_other_paths_are_404(self) -> None:
        """The paths of the REST proxy are others."""
        for path in ("/state/1", "/orders/1/2", "/positions/AAPL", "/v2/orders", "/orders/%31"):
            self.assertEqual(self.ask(path).status, 404, path)

    def test_book_is_off_is_404_naming_the_variable(self) -> None:
        """The stream is unaffected."""
        self.books.clear()
        answer = self.ask("/state")
        self.assertEqual((answer.status, answer.reason), (404, "PROXY_BOOK=0 turns this off"))
        self.assertTrue(self.open_client().is_open_now)

    def test_book_is_building_is_503(self) -> None:
        """The client comes again, and the stream is unaffected."""
        self.books["paper"].stop()
        for path in ("/state", "/orders", "/orders/1", "/positions", "/events"):
            answer = self.ask(path)
            self.assertEqual(answer.status, 503, path)
            self.assertIn(b"Retry-After: 1\r\n", answer.received)
        self.assertTrue(self.open_client().is_open_now)

    def test_unreadable_log_is_503(self) -> None:
        """The error is made before the head is sent."""
        self.trade("1", "canceled")
        self.clock.advance(WRITE_EVERY)
        self.clock.advance(WRITE_EVERY)  # what is not written yet would be found in memory
        self.disk.refuse_everything()
        answer = self.ask("/events")
        self.disk.refuse_everything(False)
        self.assertEqual(answer.status, 503)
        self.assertEqual(answer.reason, "the journal cannot be read at the moment")

    def test_too_many_answers_are_503(self) -> None:
        """It bounds the memory of all answers together."""
        self.patch(state_pages, "MAX_ANSWERS", 0)
        self.assertEqual(self.ask("/state").status, 503)


class ReplacedLogTests(BookCase):
    """The log is replaced while an answer is made, as by a Redis that is restored."""

    def test_log_with_smaller_numbers_ends_the_answer(self) -> None:
        """It waited for a snapshot of the old numbers, in each turn, without an end."""
        self.live(50)
        self.ticks.tick = 0.01
        self.assertIsNone(self.book.snapshot().made)
        self.account.publish(parse(*self.trading.take(1)))
        self.account.flush()
        book = ReplacedBook(self.book)
        work = state_pages._show_state(cast("Book", book))  # noqa: SLF001
        for _ in range(5):
            next(work)
        self.assertEqual(book.seq, 51)
        self.path = self.path.with_name("other.sqlite3")
        self.start()
        self.live(3)
        book.now = self.book
        with self.assertRaises(StopIteration) as ended:
            for _ in range(100):
                next(work)
        self.assertEqual(ended.exception.value, state_pages.BUILDING)


class ReplacedBook:
    """A book that becomes the one of another log."""

    def __init__(self, now: Book) -> None:
        self.now = now

    def __getattr__(self, name: str) -> Any:
        return getattr(self.now, name)


class AdmissionTests(StateTestCase):
    """The rules are those of the stream."""

    tokens = ("secret-token-of-20-bytes",)
    origins = ("https://desk.example",)
    hosts = ("trader.lan",)

    def test_token_is_needed(self) -> None:
        """Positions are as private as events."""
        self.assertEqual(self.ask("/state").status, 401)
        token = f"Bearer {self.tokens[0]}"
        self.assertEqual(self.ask("/state", Authorization=token).status, 200)
        self.assertEqual(self.ask("/state", APCA_API_SECRET_KEY=self.tokens[0]).status, 200)

    def test_foreign_host_and_origin_are_403(self) -> None:
        """A page must not read them by DNS rebinding either."""
        token = f"Bearer {self.tokens[0]}"
        for headers in ({"Host": "evil.example"}, {"Origin": "https://evil.example"}):
            self.assertEqual(self.ask("/orders", Authorization=token, **headers).status, 403)

    def test_page_of_allowed_origin_may_read(self) -> None:
        """Its browser asks first, without the token."""
        asked = self.request(
            "/trade-updates-paper/orders",
            "OPTIONS",
            Origin="https://desk.example",
            Access_Control_Request_Method="GET",
        )
        self.assertEqual(asked.status, 200)
        token = f"Bearer {self.tokens[0]}"
        answer = self.ask("/orders", Authorization=token, Origin="https://desk.example")
        self.assertEqual(answer.status, 200)
        self.assertIn(b"Access-Control-Allow-Origin: https://desk.example\r\n", answer.received)
        self.assertIn(b"Access-Control-Expose-Headers: ETag, Retry-After\r\n", answer.received)


class EtagTests(StateTestCase):
    """A client that polls."""

    def tag(self, path: str = "/orders") -> str:
        """Return the ETag at a path."""
        head = self.ask(path).received.partition(b"\r\n\r\n")[0].decode()
        [tag] = [line[6:] for line in head.split("\r\n") if line.startswith("ETag: ")]
        return tag

    def test_known_answer_is_304_until_it_changes(self) -> None:
        """It has no body then."""
        self.trade("1")
        tag = self.tag()
        for value in (tag, f"W/{tag}", f'"other", {tag}', f"W/{tag},W/{tag}", "*"):
            answer = self.ask("/orders", If_None_Match=value)
            self.assertEqual((answer.status, answer.body), (304, ""), value)
        self.assertEqual(self.ask("/orders", If_None_Match='"other"').status, 200)
        self.trade("2")
        self.assertEqual(self.ask("/orders", If_None_Match=tag).status, 200)
        self.assertNotEqual(self.tag(), tag)

    def test_head_has_the_length_and_no_body(self) -> None:
        """As every page here."""
        self.trade("1")
        answer, head = self.ask("/orders"), self.request("/paper/orders", "HEAD")
        self.assertEqual((head.status, head.body), (200, ""))
        self.assertIn(b"Content-Length: %d\r\n" % len(answer.body), head.received)
        self.assertEqual(self.request("/paper/orders/7", "HEAD").body, "")

    def test_state_is_hashed_once_for_all_clients_of_a_moment(self) -> None:
        """100 clients of one address delayed their next answer, of 30 MB, by ten seconds."""
        digests: list[object] = []

        def count(**options: Any) -> Any:
            digests.append(options)
            return blake2b(**options)

        self.patch(answers, "blake2b", count)
        self.trade("1")
        tags = {self.tag("/state") for _ in range(5)}
        self.assertEqual((len(tags), len(digests)), (1, 1))
        self.trade("2")
        self.assertNotIn(self.tag("/state"), tags)
        self.assertEqual(len(digests), 2)

    def test_answer_may_be_stored_by_its_client_alone(self) -> None:
        """A shared cache would give it to others."""
        self.assertIn(b"Cache-Control: private, no-cache\r\n", self.ask("/orders").received)


class SlowReaderTests(BlockedStateCase):
    """Clients that read slowly, or leave."""

    limits = Limits(max_clients=20)

    def setUp(self) -> None:
        super().setUp()
        self.trade_often(300, note="x" * 4000)

    def test_slow_reader_gets_all_of_it(self) -> None:
        """It is sent as the client reads, and buffers little meanwhile."""
        answer = self.ask("/state")
        [transport] = self.servers
        self.assertLess(transport.buffered, 2 * MAX_BLOCK_BYTES)
        transport.blocked = False
        self.wires.flush()
        self.assertEqual(len(json.loads(answer.body)["orders"]), 300)

    def test_addresses_have_equal_shares_of_what_is_sent_in_a_turn(self) -> None:
        """A block of 64 KiB waited for each turn of a busy process: a large state took 3 s."""
        self.patch(state_pages, "SENT_BYTES", 2 * MAX_BLOCK_BYTES)
        for _ in range(10):
            self.ask("/state")
        with_others = [transport.buffered for transport in self.servers][-5:]
        self.assertLess(max(with_others), 2 * BLOCK_BYTES)
        self.patch(memory, "CLIENT", IPv4Address("TCP", "192.0.2.1", 50_000))
        self.ask("/state")
        self.assertGreaterEqual(self.servers[-1].buffered, MAX_BLOCK_BYTES)

    def test_large_object_is_sent_as_its_client_reads(self) -> None:
        """A strategy of 20,000 positions was one block of 6.5 MB for each client."""
        self.trade("5000", note="x" * 400_000)
        answer = self.ask("/orders/5000")
        [transport] = self.servers
        self.assertLess(transport.buffered, 2 * MAX_BLOCK_BYTES)
        transport.blocked = False
        self.wires.flush()
        self.assertEqual(len(json.loads(answer.body)["note"]), 400_000)

    def test_reader_that_never_reads_is_dropped(self) -> None:
        """It would hold the state as it was."""
        answer = self.ask("/state")
        self.wires.advance(STALL_TIMEOUT - 1)
        self.assertFalse(self.servers[0].disconnecting)
        self.wires.advance(2)
        self.assertTrue(self.servers[0].disconnecting)
        self.assertEqual(len(self.factory.clients), 0)
        self.assertEqual(answer.received, b"")

    def test_answer_must_be_read_in_three_minutes(self) -> None:
        """A client that read a block each minute held the state of hours ago."""
        self.ask("/state")
        for _ in range(3):
            self.wires.advance(STALL_TIMEOUT - 1)
            self.assertFalse(self.servers[0].disconnecting)
            self.servers[0].producer.resumeProducing()
            self.clock.advance(0)
        self.wires.advance(READ_TIMEOUT - 3 * (STALL_TIMEOUT - 1))
        self.assertTrue(self.servers[0].disconnecting)

    def test_places_are_taken_reader_that_does_not_read_gives_way(self) -> None:
        """140 answers that nobody read took all places: others got 503 for as long as a minute."""
        self.patch(state_pages, "MAX_ANSWERS", 2)
        self.ask("/state")
        self.wires.advance(1)
        self.ask("/state")
        self.wires.advance(YIELD_AFTER - 1.5)
        self.assert_next_is(503)
        self.wires.advance(1)
        self.assert_next_is(200)
        dropped = [transport.disconnecting for transport in self.servers]
        self.assertEqual(dropped[:2], [True, False], "the one that has waited longest")

    def assert_next_is(self, status: int) -> None:
        """Assert what the next client gets, which reads."""
        answer = self.ask("/positions")
        self.servers[-1].blocked = False
        self.wires.flush()
        self.assertEqual(answer.status, status)

    def test_client_that_leaves_ends_the_work(self) -> None:
        """Nothing is read for it any more."""
        self.ask("/state")
        self.servers[0].blocked = False
        self.servers[0].abortConnection()
        self.wires.flush()
        self.assertEqual(len(self.factory.clients), 0)
        self.assertEqual([c for c in self.clock.getDelayedCalls() if "Answer" in str(c)], [])

    def test_stop_waits_for_an_answer(self) -> None:
        """It has two seconds."""
        answer = self.ask("/state")
        self.service.stopService()
        self.servers[0].blocked = False
        self.wires.flush()
        self.assertEqual(len(json.loads(answer.body)["orders"]), 300)

    def test_pipelined_requests_are_answered_in_order(self) -> None:
        """The second one waits for the first."""
        self.wires.transport = ClosingTransport
        head = b"GET /paper/%b HTTP/1.1\r\nHost: localhost\r\n\r\n"
        answer = self.write(head % b"positions" + head % b"state" + head % b"orders?limit=1")
        bodies = answer.received.split(b"\r\n\r\n")
        self.assertEqual(answer.received.count(b"HTTP/1.1 200"), 3)
        self.assertTrue(bodies[1].startswith(b'{"account":"paper","complete":false,"positions"'))
        self.assertTrue(bodies[-1].endswith(b"}\n"))
