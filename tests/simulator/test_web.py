"""Tests of the simulator over HTTP: in memory, on real sockets, and with alpaca-py."""

from __future__ import annotations

import json
from datetime import date
from decimal import Decimal
from typing import Any
from uuid import UUID

from alpaca.common.exceptions import APIError
from alpaca.trading.client import TradingClient
from alpaca.trading.enums import OrderClass, OrderSide, TimeInForce, TradeEvent
from alpaca.trading.models import TradeUpdate
from alpaca.trading.requests import (
    ClosePositionRequest,
    GetCalendarRequest,
    GetOrdersRequest,
    LimitOrderRequest,
    MarketOrderRequest,
    ReplaceOrderRequest,
    StopLimitOrderRequest,
    StopLossRequest,
    StopOrderRequest,
    TakeProfitRequest,
    TrailingStopOrderRequest,
)
from twisted.internet import reactor
from twisted.internet.endpoints import clientFromString
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.threads import deferToThread

from tests.simulator.support import HttpTestCase, SimulatorTestCase, ulid
from tests.simulator.test_exchange import market
from tests.support.frames import AUTHENTICATE, LISTEN
from tests.support.memory import CLIENT, simulator
from tests.support.proxy import RawClient
from tests.support.sockets import SocketClient, SocketTestCase
from tradeproxy.simulator.faults import Fault, FaultKind
from tradeproxy.simulator.orders import Order
from tradeproxy.simulator.web import ApiSite
from tradeproxy.wire.credentials import KeyPair, OAuthToken, Secret

MARKET = {"symbol": "SPY", "qty": 1, "side": "buy", "type": "market", "time_in_force": "day"}
RESTING = MARKET | {"type": "limit", "limit_price": "0.01"}


class WebTestCase(SimulatorTestCase):
    """A client of the simulator's HTTP side."""

    def ask(self, method: str, path: str, body: Any = b"", **headers: str) -> tuple[int, Any]:
        """Send a request; return the status and the JSON body, None if empty."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        head = {"Host": "localhost", "Content-Length": str(len(content)), **headers}
        lines = [
            f"{method} {path} HTTP/1.1",
            *(f"{k.replace('_', '-')}: {v}" for k, v in head.items()),
        ]
        client = RawClient()
        self.wires.join(ApiSite(self.simulator).buildProtocol(CLIENT), client)
        assert client.transport is not None
        client.transport.write("\r\n".join([*lines, "", ""]).encode() + content)
        self.wires.flush()
        return client.status, json.loads(client.body) if client.body else None

    def submit(self, **changes: Any) -> Any:
        status, order = self.ask("POST", "/v2/orders", RESTING | changes)
        self.assertEqual(status, 200)
        return order


class OrdersTests(WebTestCase):
    """Alpaca's orders and account."""

    def test_order_submit_replace_cancel(self) -> None:
        """An order is submitted, found, replaced and canceled."""
        made = self.submit()
        path = f"/v2/orders/{made['id']}"
        self.assertEqual(self.ask("GET", path), (200, made))
        status, new = self.ask("PATCH", path, {"qty": "3"})
        self.assertEqual((status, new["qty"], new["replaces"]), (200, "3", made["id"]))
        self.assertEqual(self.ask("DELETE", f"/v2/orders/{new['id']}"), (204, None))
        status, refusal = self.ask("DELETE", path)
        self.assertEqual((status, refusal["code"]), (422, 42210000))

    def test_list_applies_parameters(self) -> None:
        """The default is open orders, newest first."""
        ids = [self.submit()["id"] for _ in range(3)]
        self.ask("DELETE", f"/v2/orders/{ids[0]}")
        for query, expected in (
            ("", [ids[2], ids[1]]),
            ("?status=closed", [ids[0]]),
            ("?status=all&direction=asc", ids),
            ("?limit=1", [ids[2]]),
        ):
            _, listed = self.ask("GET", f"/v2/orders{query}")
            self.assertEqual([order["id"] for order in listed], expected, query)
        for query in ("limit=0", "limit=501", "limit=x", "status=x", "direction=x"):
            status, refusal = self.ask("GET", f"/v2/orders?{query}")
            self.assertEqual((status, refusal["code"]), (422, 40010001), query)
            self.assertIn(query.split("=")[0], refusal["message"])

    def test_list_applies_symbols_and_side(self) -> None:
        """Both were ignored: a bot that asked for its own symbols got the orders of all."""
        spy, btc = self.submit()["id"], self.submit(symbol="BTC/USD")["id"]
        sold = self.submit(side="sell", limit_price=100_000)["id"]
        for query, expected in (
            ("symbols=SPY", {spy, sold}),
            ("symbols=spy,BTC/USD", {spy, sold, btc}),
            ("symbols=MSFT", set()),
            ("side=sell", {sold}),
            ("side=buy&symbols=SPY", {spy}),
            ("side=buy&limit=1", {btc}),
        ):
            _, listed = self.ask("GET", f"/v2/orders?{query}")
            self.assertEqual({order["id"] for order in listed}, expected, query)
        status, refusal = self.ask("GET", "/v2/orders?side=both")
        self.assertEqual((status, "side" in refusal["message"]), (422, True))

    def test_cancel_all_lists_each_order(self) -> None:
        """Every open order is canceled and listed with its status."""
        ids = [self.submit()["id"] for _ in range(3)]
        expected = [{"id": order_id, "status": 200} for order_id in ids]
        self.assertEqual(self.ask("DELETE", "/v2/orders"), (207, expected))

    def test_invalid_request_has_alpacas_error(self) -> None:
        """The response has Alpaca's status and code."""
        for method, path, body, status, code in (
            ("GET", "/v2/orders/unknown", b"", 404, 40410000),
            ("DELETE", "/v2/orders/unknown", b"", 404, 40410000),
            ("PATCH", "/v2/orders/unknown", {}, 404, 40410000),
            ("PATCH", "/v2/orders/unknown", {"qty": 0}, 422, 40010001),
            ("PATCH", "/v2/orders/unknown", b"{", 400, 40010000),
            ("POST", "/v2/orders", MARKET | {"qty": 0}, 422, 40010001),
            ("POST", "/v2/orders", MARKET | {"type": "stop"}, 422, 40010001),
            ("POST", "/v2/orders", MARKET | {"order_class": "bracket"}, 422, 42210000),
            ("POST", "/v2/orders", b"{", 400, 40010000),
            ("POST", "/v2/orders", b'{"qty":NaN}', 400, 40010000),
            ("POST", "/v2/orders", b"[" * 100_000, 400, 40010000),
            ("PUT", "/v2/orders", {}, 404, 40410000),
            ("GET", "/", b"", 404, 40410000),
            ("GET", "/v2/watchlists", b"", 404, 40410000),
            ("GET", "/v2/orders/a/b", b"", 404, 40410000),
            ("PUT", "/v2/positions", {}, 404, 40410000),
            ("POST", "/v2/account", {}, 404, 40410000),
            ("GET", "/v2/positions/SPY", b"", 404, 40410000),
            ("DELETE", "/v2/positions/SPY", b"", 404, 40410000),
            ("DELETE", "/v2/positions/SPY?percentage=101", b"", 422, 40010001),
            ("GET", "/v2/assets/no%20symbol", b"", 404, 40410000),
            ("GET", "/v2/orders:by_client_order_id", b"", 404, 40410000),
            ("GET", "/v2/calendar?start=today", b"", 422, 40010001),
            ("POST", "/simulator/price", {"symbol": "SPY"}, 422, 40010001),
            ("POST", "/simulator/price", {"symbol": "SPY", "price": 0}, 422, 40010001),
            ("DELETE", "/simulator/fault/rain", b"", 400, 40010000),
            ("GET", "/stream/deeper", b"", 404, 40410000),
        ):
            answered, refusal = self.ask(method, path, body)
            self.assertEqual((answered, refusal["code"]), (status, code), (method, path, body))

    def test_body_over_limit_is_rejected(self) -> None:
        """A body of 1 MiB is accepted, one more byte is not."""
        largest = b" " * (1024 * 1024)
        for body, status in ((largest, 400), (largest + b" ", 413), (largest * 3, 413)):
            self.assertEqual(self.ask("POST", "/v2/orders", body)[0], status)

    def test_trading_api_requires_credentials(self) -> None:
        """A key pair or an OAuth token, if set, is required."""
        pair = {"APCA_API_KEY_ID": "k", "APCA_API_SECRET_KEY": "s"}
        token = {"Authorization": "Bearer t"}
        wrong = pair | {"APCA_API_SECRET_KEY": "x"}
        for credentials, good, bad in (
            (KeyPair(Secret("k"), Secret("s")), pair, ({}, wrong, token)),
            (OAuthToken(Secret("t")), token, ({}, pair, {"Authorization": "Bearer x"})),
        ):
            self.simulator = simulator(self.clock, credentials=credentials)
            self.assertEqual(self.ask("GET", "/v2/account", **good)[0], 200)
            for headers in bad:
                status, refusal = self.ask("GET", "/v2/account", **headers)
                self.assertEqual(
                    (status, refusal), (403, {"code": 40310000, "message": "forbidden."})
                )
            self.assertEqual(self.ask("POST", "/simulator/emit", {})[0], 200)


class RecoveryTests(HttpTestCase, WebTestCase):
    """The requests after an outage, apart from events."""

    def test_after_and_until_filter_orders(self) -> None:
        """They are exclusive and apply to any status; `nested` is accepted."""
        orders: list[Order] = []
        for _ in range(4):
            orders += self.simulator.exchange.submit(
                market(type="limit", limit_price=Decimal("0.01"))
            ).orders
            self.advance(10)
        self.simulator.exchange.cancel(orders[1].id)
        times = [order.created_at for order in orders]
        for parameters, expected in (
            ({"after": times[0]}, [2, 3]),
            ({"after": times[0], "until": times[3], "nested": "true"}, [2]),
            ({"until": times[2], "status": "all"}, [0, 1]),
            ({"until": times[2], "status": "closed"}, [1]),
            ({"after": times[0], "limit": "1", "status": "all"}, [1]),
        ):
            listed = self.get("/v2/orders", direction="asc", **parameters).json
            found = [order["id"] for order in listed]
            self.assertEqual(found, [orders[number].id for number in expected], parameters)
        for name in ("after", "until"):
            response = self.get("/v2/orders", **{name: "yesterday"})
            self.assertEqual(response.status, 422)
            self.assertIn(name, response.json["message"])

    def test_account_id_is_stable(self) -> None:
        """It changes only if a test sets another."""
        first = self.get("/v2/account").json["id"]
        self.assertEqual(self.get("/v2/account").json["id"], str(UUID(first)))
        self.assertEqual(self.simulator.account_id, first)
        other = "904837e3-3b76-47ec-b432-046db621571b"
        self.simulator.account_id = other
        self.assertEqual(self.get("/v2/account").json["id"], other)
        self.assertEqual(simulator(self.clock, account_id=other).exchange.account()["id"], other)

    def test_responses_have_a_date(self) -> None:
        """It is the simulator's time, in errors too."""
        self.advance(61)
        for path in ("/v2/account", "/nowhere"):
            self.assertEqual(self.get(path).header("Date"), "Fri, 15 Jan 2027 08:01:01 GMT")

    def test_rest_refuse_affects_every_get(self) -> None:
        """They get the status and Retry-After; new orders are still accepted."""
        self.inject(FaultKind.REST_REFUSE, seconds=10, status=429, retry_after=3)
        for path in ("account", "account/activities", "events/trades", "orders", "orders/unknown"):
            response = self.get(f"/v2/{path}")
            self.assertEqual((response.status, response.header("Retry-After")), (429, "3"), path)
            self.assertEqual(response.json["code"], 42910000)
        self.submit()
        self.advance(10)
        self.assertEqual(self.get("/v2/account").status, 200)

    def test_posted_fault_affects_next_requests(self) -> None:
        """Its fields apply to the next requests only."""
        self.emit(ulid(1), ulid(2))
        fault = {"kind": "history_truncate", "events": 1}
        self.assertEqual(self.ask("POST", "/simulator/fault", fault)[0], 200)
        self.assertEqual(self.read(since_id=ulid(0)).ids, [ulid(1)])
        self.assertEqual(self.read(since_id=ulid(0)).ids, [ulid(1), ulid(2)])


class InjectionTests(WebTestCase):
    """Events and faults posted over HTTP."""

    def test_posted_event_is_emitted(self) -> None:
        """The response is the number of clients that it went to."""
        event = {"at": "now", "event_id": "1", "timestamp": "now", "event": "new", "n": "é"}
        self.assertEqual(self.ask("POST", "/simulator/emit", event), (200, {"delivered": 0}))
        client = self.listener()
        self.assertEqual(self.ask("POST", "/simulator/emit", event), (200, {"delivered": 1}))
        [payload] = client.messages
        data = json.loads(payload)["data"]
        self.assertEqual({name: data[name] for name in event}, event)

    def test_order_that_is_no_object_stays(self) -> None:
        """So a client's own tolerance can be tried."""
        client = self.listener()
        for order in (None, 5, [1]):
            client.taken()
            self.ask("POST", "/simulator/emit", {"event": "fill", "order": order})
            [payload] = client.messages
            data = json.loads(payload)["data"]
            self.assertEqual(list(data), ["at", "event_id", "timestamp", "event", "order"])
            self.assertEqual(data["order"], order)

    def test_event_without_id_gets_one(self) -> None:
        """It gets a time too: clients resume after it, and repeats are duplicates."""
        client = self.listener()
        for _ in range(2):
            self.ask("POST", "/simulator/emit", {"event": "fill"})
        first, second = (json.loads(payload)["data"] for payload in client.messages)
        self.assertEqual(list(first)[:4], ["at", "event_id", "timestamp", "event"])
        self.assertLess(first["event_id"], second["event_id"])

    def test_event_must_be_an_object(self) -> None:
        """Other JSON is rejected with one line."""
        for body in (b"", b"{", b"[]", b"null", b"\xff", b"NaN"):
            status, refusal = self.ask("POST", "/simulator/emit", body)
            self.assertEqual(status, 400)
            self.assertNotIn("\n", refusal["message"])

    def test_event_may_have_nan_and_infinity(self) -> None:
        """A proxy has to forward them: the stream and the history have them as they are."""
        client = self.listener()
        body = b'{"event":"fill","price":NaN,"qty":-Infinity}'
        self.assertEqual(self.ask("POST", "/simulator/emit", body), (200, {"delivered": 1}))
        self.assertIn(b'"price":NaN,"qty":-Infinity', client.messages[0])

    def test_fault_ends_early(self) -> None:
        """All of them, or one kind; those in force are listed."""
        for kind in ("throttle", "refuse"):
            self.ask("POST", "/simulator/fault", {"kind": kind, "seconds": 1000})
        path = "/simulator/fault"
        self.assertEqual(self.ask("GET", path), (200, {"in_force": ["throttle", "refuse"]}))
        self.assertEqual(self.ask("DELETE", f"{path}/throttle"), (200, {"ended": ["throttle"]}))
        self.assertEqual(self.ask("DELETE", path), (200, {"ended": ["refuse"]}))
        self.assertEqual(self.ask("DELETE", path), (200, {"ended": []}))
        client = self.listener()
        for kind in ("silence", "mute"):
            self.ask("POST", path, {"kind": kind})
            self.assertEqual(self.ask("POST", "/simulator/emit", {})[1], {"delivered": 0})
            self.assertEqual(self.ask("DELETE", path), (200, {"ended": [kind]}))
            self.assertEqual(self.ask("POST", "/simulator/emit", {})[1], {"delivered": 1})
        self.assertEqual(client.events(), ["new", "new"])

    def test_outage_goes_on_with_trading(self) -> None:
        """The client cannot return; orders are accepted, and the history has them."""
        client = self.listener()
        self.ask("POST", "/simulator/fault", {"kind": "outage", "seconds": 5})
        self.wires.flush()
        self.assertFalse(self.simulator.connected)
        self.assertEqual(client.taken(), [])
        self.assertIn("502", self.connect().http_status_line)
        self.submit()
        self.assertEqual(len(self.simulator.history.last(9)), 1)
        self.wires.advance(5)
        self.assertEqual(self.listener().events(), [])
        self.assertTrue(self.simulator.listening)

    def test_price_fills_orders(self) -> None:
        """A test of a stop needs no patience: it sets the price."""
        client = self.listener()
        self.ask("POST", "/simulator/price", {"symbol": "spy", "price": 100})
        stop = self.submit(type="stop", side="sell", stop_price=90, limit_price=None)
        self.assertEqual(
            self.ask("POST", "/simulator/price", {"symbol": "SPY", "price": "89"}),
            (200, {"reached": [stop["id"]]}),
        )
        self.wires.advance(1)
        self.assertEqual(client.events(), ["new", "fill"])

    def test_posted_fault_is_injected(self) -> None:
        """An invalid fault is rejected with the field's name."""
        self.assertEqual(self.ask("POST", "/simulator/fault", {"kind": "throttle"})[0], 200)
        self.assertIn("429", self.connect().http_status_line)
        status, refusal = self.ask("POST", "/simulator/fault", {"kind": "drop", "count": 0})
        self.assertEqual((status, refusal["message"][:5]), (400, "count"))

    def test_request_of_another_site_is_rejected(self) -> None:
        """Web pages must not place orders, inject faults or read the stream.

        A page whose host name resolves to this machine (DNS rebinding) sends its own name as Host,
        and to the browser it is no cross-site request.
        """
        upgrade = {
            "Connection": "Upgrade",
            "Upgrade": "websocket",
            "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
            "Sec-WebSocket-Version": "13",
        }
        foreign = (
            {"Host": "evil.example:8100"},
            {"Host": "evil.example:8100", "Origin": "http://evil.example:8100"},
            {"Origin": "https://evil.example"},
            {"Sec_Fetch_Site": "cross-site"},
        )
        for headers in foreign:
            for method, path, more in (
                ("POST", "/simulator/fault", {}),
                ("POST", "/simulator/emit", {}),
                ("POST", "/v2/orders", {}),
                ("GET", "/v2/orders", {}),
                ("GET", "/stream", upgrade),
            ):
                self.assertEqual(self.ask(method, path, **headers, **more)[0], 403, (path, headers))
        self.assertEqual(self.ask("GET", "/v2/orders", Origin="http://localhost")[0], 200)


class SocketTests(SocketTestCase):
    """The simulator on a real socket."""

    async def listener(self) -> SocketClient:
        """Connect a client that listens to trade updates."""
        endpoint = clientFromString(reactor, f"tcp:127.0.0.1:{self.alpaca_port}")
        client = await self.dial(endpoint, f"ws://127.0.0.1:{self.alpaca_port}/stream")
        await client.opened
        client.sendMessage(AUTHENTICATE)
        client.sendMessage(LISTEN)
        await client.has(2)
        return client

    async def test_drop_reset_and_close_on_a_socket(self) -> None:
        """A drop is FIN, a reset is RST, and a close is a WebSocket close."""
        alpaca = await self.simulate(binary=False)
        for kind, close_frame, causes in (
            (FaultKind.DROP, None, (ConnectionDone,)),
            (FaultKind.RESET, None, (ConnectionLost,)),
            (FaultKind.CLOSE, (1000, None), (ConnectionDone, ConnectionLost)),
        ):
            client = await self.listener()
            alpaca.inject(Fault(kind))
            await client.gone()
            self.assertEqual(client.closed, close_frame, kind)
            self.assertIn(client.lost, causes, kind)
            await alpaca.when_gone()

    async def test_alpaca_py_trades(self) -> None:
        """alpaca-py submits, lists, replaces and cancels orders, and reads the account."""
        await self.simulate()
        await deferToThread(self.trade)

    def trade(self) -> None:
        client = TradingClient("any", "any", url_override=f"http://127.0.0.1:{self.alpaca_port}")
        request = LimitOrderRequest(
            symbol="SPY", qty=1, side=OrderSide.BUY, time_in_force=TimeInForce.DAY, limit_price=0.01
        )
        first: Any = client.submit_order(request)
        second: Any = client.replace_order_by_id(first.id, ReplaceOrderRequest(qty=2))
        listed: Any = client.get_orders()
        self.assertEqual([(order.id, order.replaces) for order in listed], [(second.id, first.id)])
        client.cancel_order_by_id(second.id)
        client.submit_order(request)
        canceled: Any = client.cancel_orders()
        self.assertEqual([response.status for response in canceled], [200])
        account: Any = client.get_account()
        self.assertEqual((account.status.value, account.cash), ("ACTIVE", "100000"))
        self.trade_advanced(client)
        client._session.close()  # noqa: SLF001  # alpaca-py has no public close

    def trade_advanced(self, client: TradingClient) -> None:
        """Place stops, read what is held, and close it."""
        common: Any = {"symbol": "SPY", "qty": 1, "time_in_force": TimeInForce.GTC}
        stops: Any = [
            client.submit_order(request)
            for request in (
                StopOrderRequest(**common, side=OrderSide.SELL, stop_price=0.02),
                StopLimitOrderRequest(
                    **common, side=OrderSide.SELL, stop_price=0.02, limit_price=0.01
                ),
                TrailingStopOrderRequest(**common, side=OrderSide.SELL, trail_percent=50),
            )
        ]
        self.assertEqual(stops[2].stop_price, str(Decimal(stops[2].hwm) / 2))
        listed: Any = client.get_orders(GetOrdersRequest(side=OrderSide.SELL, symbols=["SPY"]))
        self.assertEqual({order.id for order in listed}, {order.id for order in stops})
        mine = MarketOrderRequest(**common, side=OrderSide.BUY, client_order_id="mine")
        bought: Any = client.submit_order(mine)
        found: Any = client.get_order_by_client_id("mine")
        self.assertEqual(found.id, bought.id)
        bracket = MarketOrderRequest(
            **common,
            side=OrderSide.BUY,
            order_class=OrderClass.BRACKET,
            take_profit=TakeProfitRequest(limit_price=1000),
            stop_loss=StopLossRequest(stop_price=1),
        )
        try:  # assertRaises would keep the exception, and with it the client's connection
            client.submit_order(bracket)
        except APIError as error:
            self.assertEqual((error.status_code, error.code), (422, 42210000))
        else:
            self.fail("the order was accepted")
        positions: Any = []
        while not positions:
            positions = client.get_all_positions()
        [position] = positions
        self.assertEqual((position.symbol, position.qty, position.side.value), ("SPY", "1", "long"))
        clock: Any = client.get_clock()
        self.assertTrue(clock.is_open)
        self.assertGreater(clock.next_close, clock.timestamp)
        week = GetCalendarRequest(start=date(2026, 7, 20), end=date(2026, 7, 26))
        self.assertEqual(len(client.get_calendar(week)), 7)
        asset: Any = client.get_asset("BTC/USD")
        self.assertEqual(asset.asset_class.value, "crypto")
        self.assertIn("SPY", {known.symbol for known in client.get_all_assets()})  # type: ignore[union-attr]
        half: Any = client.close_position("SPY", ClosePositionRequest(percentage="50"))
        self.assertEqual(Decimal(half.qty), Decimal("0.5"))
        closed: Any = client.close_all_positions(cancel_orders=True)
        self.assertEqual([response.symbol for response in closed], ["SPY"])


class CompletionTests(WebTestCase):
    """Partial events become events that alpaca-py can parse."""

    def emit(self, data: Any) -> TradeUpdate:
        client = self.listener()
        self.assertEqual(self.ask("POST", "/simulator/emit", data), (200, {"delivered": 1}))
        [payload] = client.taken()
        client.dropConnection(abort=True)
        self.wires.flush()
        return TradeUpdate(**json.loads(payload)["data"])

    def test_example_of_the_docs_is_parsed(self) -> None:
        """It raised a ValidationError in alpaca-py: most fields were absent, and "1" is no UUID."""
        first, second = (
            self.emit({"event": "fill", "order": {"id": "1", "symbol": "SPY"}}) for _ in range(2)
        )
        self.assertEqual(first.order.id, second.order.id)
        self.assertNotEqual(first.execution_id, second.execution_id)
        order = first.order
        self.assertEqual((order.symbol, order.status.value), ("SPY", "filled"))
        self.assertEqual(order.filled_qty, order.qty)
        self.assertIsNotNone(order.filled_at)
        self.assertEqual(str(order.filled_avg_price), str(first.price))

    def test_every_event_is_complete(self) -> None:
        """Whatever part of the order is sent."""
        for event in TradeEvent:
            for order in ({}, {"id": "x"}, {"symbol": "BTC/USD", "limit_price": "5", "qty": "10"}):
                update = self.emit({"event": event.value, "order": order})
                self.assertEqual(update.event, event)
        self.assertEqual(self.emit({}).event, TradeEvent.NEW)

    def test_fields_that_are_sent_stay(self) -> None:
        """The rest follows from them."""
        sent = {"symbol": "BTC/USD", "side": "sell", "qty": "10", "type": "limit"}
        data = {"event": "partial_fill", "price": "7", "order": sent | {"limit_price": "6"}}
        update = self.emit(data)
        order = update.order.model_dump()
        self.assertEqual({name: order[name] for name in sent}, sent)
        self.assertEqual((order["order_type"], order["asset_class"]), ("limit", "crypto"))
        self.assertEqual((update.price, update.qty, order["filled_qty"]), (7, 5, "5"))
        self.assertEqual(self.emit({"event": "fill", "qty": "3"}).order.filled_qty, "3")

    def test_order_of_the_exchange_is_the_base(self) -> None:
        """Its id suffices."""
        placed = self.submit(client_order_id="mine", qty="8")
        update = self.emit({"event": "canceled", "order": {"id": placed["id"]}})
        self.assertEqual((update.order.client_order_id, update.order.qty), ("mine", "8"))
        self.assertEqual(update.order.status.value, "canceled")
