"""The page about an account's strategies, over HTTP, and the strategies in the state."""

from __future__ import annotations

import json
import sqlite3
from typing import Any
from urllib.parse import quote

from twisted.internet.testing import StringTransport

from tests.support.journals import time_of
from tests.support.memory import CLIENT
from tests.support.proxy import RawClient
from tests.support.state import StateTestCase, order_event, parts
from tradeproxy.book.executions import read_strategy_event
from tradeproxy.book.fields import read_event
from tradeproxy.book.importing import ImportProgress, ImportState
from tradeproxy.client.snapshot import join_strategies
from tradeproxy.hub.replication import NodeRole
from tradeproxy.query.strategies import parse_strategies_request
from tradeproxy.web import strategy_page
from tradeproxy.wire.event import format_time


def list_strategies_to_end(work: Any) -> Any:
    """Return what the work on a page returns at last."""
    while True:
        try:
            next(work)
        except StopIteration as end:
            return end.value


class StrategyPageTests(StateTestCase):
    """What the page has."""

    def fetch_strategies(self, query: str = "") -> dict[str, Any]:
        """Return the page."""
        document = self.fetch(f"/strategies{query}")
        assert isinstance(document, dict)
        return document

    def names(self, query: str = "") -> list[str]:
        """Return the names of the strategies on the page."""
        return [each["name"] for each in self.fetch_strategies(query)["strategies"]]

    def test_page_has_positions_with_lots_and_the_line_of_the_day(self) -> None:
        """All amounts are text, as in Alpaca's positions."""
        self.trade("1", "fill", client_order_id="alpha-1")
        document = self.fetch_strategies()
        self.assertEqual(
            list(document),
            [
                *("account", "cursor", "complete", "date", "strategies", "differences", "notes"),
                *("more", "next"),
            ],
        )
        self.assertEqual(document["cursor"], self.paper.cursor_at(1))
        self.assertEqual(document["date"], "2027-01-15")
        self.assertEqual(
            document["strategies"],
            [
                {
                    "name": "alpha",
                    "realized_pl": "0",
                    "realized_intraday_pl": "0",
                    "fees": "0",
                    "fills": 1,
                    "line": [],
                    "positions": [
                        {
                            "symbol": "AAPL",
                            "asset_class": "us_equity",
                            "qty": "10",
                            "side": "long",
                            "avg_entry_price": "5",
                            "cost_basis": "50",
                            "multiplier": "1",
                            "realized_pl": "0",
                            "realized_intraday_pl": "0",
                            "fees": "0",
                            "fills": 1,
                            "account_flat": False,
                            "lots": [{"time": format_time(time_of(0)), "qty": "10", "price": "5"}],
                            "lots_total": 1,
                        }
                    ],
                }
            ],
        )
        self.assertEqual((document["differences"], document["notes"]), ([], []))

    def test_late_fill_while_a_page_is_made_ends_it(self) -> None:
        """Its holding begins again, so later strategies of the page lacked what they hold."""
        self.patch(strategy_page, "STEP_POSITIONS", 1)
        for order_id, name in (("1", "alpha-1"), ("2", "beta-1")):
            self.trade(order_id, "fill", client_order_id=name)
        book = self.books["paper"]
        self.assertTrue(book.catch_up())
        request = parse_strategies_request(b"")
        whole = list_strategies_to_end(strategy_page.list_strategies(book, request))
        assert isinstance(whole, list)
        self.assertEqual(b"".join(whole).count(b'"qty":"10","side"'), 2)
        work = strategy_page.list_strategies(book, request)
        next(work)
        next(work)  # the page has the first strategy now
        assert book.strategies is not None
        late = order_event(0, "3", "fill", client_order_id="beta-2")
        event = read_event(late)
        assert event is not None
        book.strategies.book.take(read_strategy_event(event, 0))
        self.assertIs(list_strategies_to_end(work), strategy_page.COMPUTING)

    def test_cursor_of_a_page_is_that_of_its_strategies(self) -> None:
        """A turn of the reactor passed between the two: an event of that turn could be missing."""
        self.trade("1", "fill", client_order_id="alpha-1")
        book = self.books["paper"]
        work = strategy_page.list_strategies(book, parse_strategies_request(b""))
        next(work)
        while True:
            self.trade("1", "fill", client_order_id="alpha-1")
            book.catch_up()
            try:
                next(work)
            except StopIteration as end:
                document = json.loads(b"".join(end.value))
                break
        [strategy] = document["strategies"]
        self.assertEqual(document["cursor"], self.paper.cursor_at(strategy["fills"]))

    def test_strategies_can_be_selected_and_paged(self) -> None:
        """`(none)` is the last one, whatever its name's place in the alphabet."""
        for number, name in enumerate(("beta-1", "Alpha-1", "zeta-1", "none", "gamma-1")):
            self.trade(f"{number}", "fill", client_order_id=name)
        everything = ["Alpha", "beta", "gamma", "zeta", "(none)"]
        self.assertEqual(self.names(), everything)
        self.assertEqual(self.names("?strategy=beta,(none)"), ["beta", "(none)"])
        found, query = [], "?limit=2"
        while True:
            page = self.fetch_strategies(query)
            found += [each["name"] for each in page["strategies"]]
            if not page["more"]:
                break
            query = f"?limit=2&cursor={page['next']}"
        self.assertEqual((found, page["next"]), (everything, None))

    def test_symbols_and_lots_restrict_what_is_listed(self) -> None:
        """The sums of the strategy are of all its symbols."""
        self.trade("1", "fill", client_order_id="alpha-1")
        self.trade("2", "fill", client_order_id="alpha-2", symbol="BTC/USD")
        [strategy] = self.fetch_strategies("?symbols=btc/usd&lots=0")["strategies"]
        self.assertEqual([each["symbol"] for each in strategy["positions"]], ["BTCUSD"])
        self.assertEqual((strategy["fills"], "line" in strategy), (2, False))
        self.assertNotIn("lots", strategy["positions"][0])

    def test_large_page_ends_early(self) -> None:
        """An answer is bounded in memory."""
        self.patch(strategy_page, "MAX_BYTES", 1000)
        for number in range(10):
            self.trade(f"{number}", "fill", client_order_id=f"s{number}-1")
        page = self.fetch_strategies()
        self.assertTrue(page["more"])
        self.assertLess(len(page["strategies"]), 5)

    def test_strategy_with_many_positions_continues_on_the_next_page(self) -> None:
        """One strategy alone made an answer of 6.5 MB, and 128 clients left theirs unread."""
        self.patch(strategy_page, "MAX_BYTES", 1000)
        symbols = [f"S{number}" for number in range(10)]
        for number, symbol in enumerate(symbols):
            self.trade(f"{number}", "fill", client_order_id="alpha-1", symbol=symbol)
        self.trade("99", "fill", client_order_id="beta-1")
        found: list[dict[str, Any]] = []
        query = ""
        while True:
            answer = self.ask(f"/strategies{query}")
            self.assertLess(len(answer.body), 3000)
            page = json.loads(answer.body)
            found += page["strategies"]
            if not page["more"]:
                break
            query = f"?cursor={quote(page['next'])}"
        self.assertGreater(len(found), 3)
        first, *others = found
        self.assertEqual(
            (first["name"], first["fills"], "continued" in first), ("alpha", 10, False)
        )
        for each in others[:-1]:
            self.assertEqual(list(each), ["name", "continued", "positions"])
        alpha, beta = join_strategies(found)
        self.assertEqual([each["symbol"] for each in alpha["positions"]], symbols)
        self.assertEqual((beta["name"], beta["fills"]), ("beta", 1))

    def test_cursor_inside_a_strategy_that_is_gone_lists_the_others(self) -> None:
        """It was assigned otherwise meanwhile."""
        self.trade("1", "fill", client_order_id="alpha-1")
        self.assertEqual(self.names("?cursor=gone%09AAPL"), ["alpha"])

    def test_differences_are_bounded(self) -> None:
        """Each symbol of the account may have one."""
        self.patch(strategy_page, "MAX_DIFFERENCES", 2)
        for number in range(4):
            event = json.loads(order_event(number, f"{number}", "fill", symbol=f"S{number}"))
            event["data"]["position_qty"] = "1"
            self.publish(self.paper, json.dumps(event).encode())
        differences = self.fetch_strategies()["differences"]
        self.assertEqual([each["symbol"] for each in differences], ["S0", "S1"])

    def test_wrong_parameters_are_named(self) -> None:
        """With the nearest name."""
        for query, reason in {
            "?symbol=a": "the nearest is symbols",
            "?limit=0": "limit: is not a number from 1 to 1000",
            "?limit=1001": "limit: is not a number from 1 to 1000",
            "?lots=yes": "lots: is neither 1 nor 0",
            "?cursor=%0a": "cursor: is not the cursor of a page of strategies",
        }.items():
            answer = self.ask(f"/strategies{query}")
            self.assertEqual(answer.status, 400, query)
            self.assertIn(reason, answer.reason)

    def test_state_and_snapshot_have_the_strategies(self) -> None:
        """Those with an open position or a fill of the day, without lots."""
        self.trade("1", "fill", client_order_id="alpha-1")
        [strategy] = self.fetch("/state")["strategies"]
        self.assertEqual(
            (strategy["name"], strategy["positions"][0]["qty"], "line" in strategy),
            ("alpha", "10", False),
        )
        [part] = parts(self.join().taken())
        self.assertEqual(part["strategies"], [strategy])
        json.dumps(part)


class FakeImporter:
    """Counts starts."""

    def __init__(self) -> None:
        self.starts = 0

    @property
    def progress(self) -> ImportProgress:
        """Running, once it was started."""
        state = ImportState.RUNNING if self.starts else ImportState.IDLE
        return ImportProgress(state, 2, 1, 1, 0.25)

    def start(self) -> None:
        """Count."""
        self.starts += 1


class StrategyChangeTests(StateTestCase):
    """Assignments by hand, and the import."""

    def post(self, path: str, **headers: str) -> RawClient:
        """Return the answer to a POST below the account's path."""
        return self.request(f"/trade-updates-paper/strategies/{path}", "POST", **headers)

    def test_order_is_assigned_by_hand(self) -> None:
        """The page has it at once; `undo` takes it back."""
        self.trade("1", "fill", client_order_id="alpha-1")
        answer = self.post("orders/1?strategy=by%20hand")
        self.assertEqual(answer.status, 200, answer.received)
        self.assertEqual(json.loads(answer.body), {"order_id": "1", "strategy": "by hand"})
        [strategy] = self.fetch("/strategies")["strategies"]
        self.assertEqual((strategy["name"], strategy["fills"]), ("by hand", 1))
        self.assertEqual(json.loads(self.post("orders/1?undo=1").body)["strategy"], "alpha")
        self.assertEqual(self.fetch("/state")["strategies"][0]["name"], "alpha")

    def test_assignments_are_not_made_in_the_turn_that_reads_them(self) -> None:
        """32 were made in one turn, each in 50 ms once there were 4,000: events waited for it."""
        self.trade("1", "fill", client_order_id="alpha-1")
        self.fetch("/strategies")  # the book has the event then
        server = self.site.buildProtocol(CLIENT)
        transport = StringTransport(peerAddress=CLIENT)
        server.makeConnection(transport)
        path = b"/paper/strategies/orders/1?strategy="
        for name in (b"a", b"b"):
            server.dataReceived(b"POST %b%b HTTP/1.1\r\nHost: localhost\r\n\r\n" % (path, name))
        strategies = self.books["paper"].strategies
        assert strategies is not None
        self.assertEqual(strategies.book.orders.find_strategy("1"), "alpha")
        for _ in range(20):
            self.clock.advance(0)
        self.assertEqual(strategies.book.orders.find_strategy("1"), "b")
        self.assertEqual(transport.value().count(b"HTTP/1.1 200"), 2)
        self.assertNotIn(b"ETag", transport.value())

    def test_wrong_assignment_is_refused(self) -> None:
        """The message says why."""
        self.trade("1", "fill")
        for path, status in {
            "orders/2?strategy=a": 404,
            "orders/1": 400,
            "orders/1?strategy=a&undo=1": 400,
            "orders/1?strategy=(other)": 400,
            "orders/1?strategy=%00": 400,
            "orders/1?strateg=a": 400,
        }.items():
            self.assertEqual(self.post(path).status, status, path)
        answer = self.post("orders/1?undo=2")  # it was an undo
        self.assertEqual(answer.status, 400)
        self.assertIn("undo: is neither 1 nor 0", answer.body)
        answer = self.ask("/strategies/orders/1?strategy=a")
        self.assertEqual(answer.status, 405)
        self.assertIn(b"Allow: POST\r\n", answer.received)

    def test_assignment_is_refused_while_the_journal_is_not_durable(self) -> None:
        """It was answered with 200, and lost if the process ended before the disk healed."""
        self.trade("1", "fill", client_order_id="alpha-1")
        self.assertEqual(self.post("orders/1?strategy=first").status, 200)
        self.disk.fail("BEGIN", sqlite3.SQLITE_FULL)
        answer = self.post("orders/1?strategy=second")
        self.assertEqual((answer.status, "is not known" in answer.body), (503, True))
        answer = self.post("orders/1?strategy=third")
        self.assertEqual((answer.status, "cannot be used" in answer.body), (503, True))
        importer = self.books["paper"].importer = FakeImporter()
        self.assertEqual((self.post("import").status, importer.starts), (503, 0))
        self.disk.fail("BEGIN", None)
        self.clock.advance(1)
        self.clock.advance(1)
        self.assertEqual(json.loads(self.post("orders/1?strategy=second").body)["order_id"], "1")
        self.assertEqual(self.fetch("/strategies")["strategies"][0]["name"], "second")

    def test_page_of_another_origin_cannot_change_anything(self) -> None:
        """A browser names the page in `Origin`, and the rules of the stream apply."""
        self.trade("1", "fill", client_order_id="alpha-1")
        importer = self.books["paper"].importer = FakeImporter()
        for path in ("orders/1?strategy=evil", "import"):
            self.assertEqual(self.post(path, Origin="http://evil.example").status, 403)
        self.assertEqual(self.fetch("/strategies")["strategies"][0]["name"], "alpha")
        self.assertEqual(importer.starts, 0)

    def test_page_of_an_allowed_origin_cannot_change_anything(self) -> None:
        """It may read what the stream has. A form needs no preflight, and no token by default."""
        self.admission.replace_origin_rules(self.hosts, ("https://dash.example",))
        self.trade("1", "fill", client_order_id="alpha-1")
        headers = {"Origin": "https://dash.example"}
        self.assertEqual(self.ask("/state", **headers).status, 200)
        self.assertEqual(self.post("orders/1?strategy=evil", **headers).status, 403)
        self.assertEqual(self.fetch("/strategies")["strategies"][0]["name"], "alpha")

    def test_follower_refuses_assignments_and_imports(self) -> None:
        """Only the leader writes to the log that nodes share. Each node shows how far it is."""
        self.trade("1", "fill")
        importer = self.books["paper"].importer = FakeImporter()
        self.paper.role = NodeRole(0.0)
        self.assertEqual(self.post("orders/1?strategy=a").status, 409)
        self.assertEqual(self.post("import").status, 409)
        self.assertEqual(importer.starts, 0)
        self.assertEqual(self.fetch("/strategies/import")["state"], "idle")

    def test_import_is_started_by_post_only(self) -> None:
        """GET shows how far it is."""
        self.assertEqual(self.ask("/strategies/import").status, 404)
        importer = self.books["paper"].importer = FakeImporter()
        self.assertEqual(self.fetch("/strategies/import")["state"], "idle")
        self.assertEqual(importer.starts, 0)
        answer = json.loads(self.post("import").body)
        self.assertEqual(
            answer,
            {
                "state": "running",
                "orders": 2,
                "fills": 1,
                "new": 1,
                "fraction": 0.25,
                "reason": "",
            },
        )
        self.assertEqual(self.request("/paper/strategies/import", "PUT").status, 405)
