"""Tests of the trading API: in memory, and with alpaca-py."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Any

from alpaca.common.exceptions import APIError
from alpaca.trading.client import TradingClient
from alpaca.trading.enums import OrderClass, OrderSide, TimeInForce
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
from twisted.internet.threads import deferToThread

from tests.simulator.support import MARKET, WebTestCase
from tests.support.memory import simulator
from tests.support.sockets import SocketTestCase
from tradeproxy.wire.credentials import KeyPair, OAuthToken, Secret


class TradingTests(WebTestCase):
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


class AlpacaPyTests(SocketTestCase):
    """alpaca-py on a real socket."""

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
