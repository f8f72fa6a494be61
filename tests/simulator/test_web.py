"""Tests of the simulator over HTTP, on a real socket."""

from __future__ import annotations

import json
from dataclasses import dataclass
from io import BytesIO
from random import Random
from typing import TYPE_CHECKING, Any

from twisted.internet import reactor as global_reactor
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.threads import deferToThread
from twisted.web.client import Agent, FileBodyProducer, readBody
from twisted.web.http_headers import Headers

from tests.simulator.support import LOGIN, LoopbackTestCase
from tradeproxy.secret import Credentials, KeyPair, OAuthToken, Secret
from tradeproxy.simulator.service import Simulator

if TYPE_CHECKING:
    from alpaca.trading.client import TradingClient

reactor: Any = global_reactor

MARKET = {"symbol": "SPY", "qty": 1, "side": "buy", "type": "market", "time_in_force": "day"}
RESTING = MARKET | {"type": "limit", "limit_price": "0.01"}


@dataclass
class Response:
    """A response, read to its end."""

    status: int
    body: bytes

    @property
    def document(self) -> Any:
        """The body, read as JSON."""
        return json.loads(self.body)


class WebTestCase(LoopbackTestCase):
    """A simulator on loopback and a client of its HTTP side."""

    credentials: Credentials | None = None

    async def setUp(self) -> None:  # type: ignore[override]  # trial waits for it
        self.simulator = Simulator(reactor, Random(7), credentials=self.credentials)
        self.port = await self.serve(self.simulator, reactor)
        self.agent = Agent(reactor)

    async def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Response:
        """Send a request; a body that is not bytes is sent as JSON."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        response = await self.agent.request(
            method.encode(),
            f"http://127.0.0.1:{self.port}{path}".encode(),
            Headers({name.replace("_", "-"): [value] for name, value in headers.items()}),
            None if body is None else FileBodyProducer(BytesIO(content)),
        )
        return Response(response.code, await readBody(response))


class OrdersTests(WebTestCase):
    """Alpaca's orders and account."""

    async def submit(self, **changes: Any) -> Any:
        response = await self.ask("POST", "/v2/orders", RESTING | changes)
        self.assertEqual(response.status, 200)
        return response.document

    async def test_an_order_from_its_beginning_to_its_end(self) -> None:
        """An order is made, found by both of its ids, replaced, and canceled; then it is over."""
        made = await self.submit(client_order_id="mine")
        path = f"/v2/orders/{made['id']}"
        self.assertEqual((await self.ask("GET", path)).document, made)
        by_client_id = await self.ask("GET", "/v2/orders:by_client_order_id?client_order_id=mine")
        self.assertEqual(by_client_id.document, made)
        new = await self.ask("PATCH", path, {"qty": "3"})
        self.assertEqual((new.status, new.document["qty"], new.document["replaces"]), (200, "3", made["id"]))
        gone = await self.ask("DELETE", f"/v2/orders/{new.document['id']}")
        self.assertEqual((gone.status, gone.body), (204, b""))
        again = await self.ask("DELETE", path)
        self.assertEqual((again.status, again.document["code"]), (422, 42210000))

    async def test_lists_what_is_asked_for(self) -> None:
        """Open orders by default, the newest first; status, symbols, direction and limit are honoured."""
        ids = [(await self.submit(symbol=symbol))["id"] for symbol in ("A", "B", "C")]
        await self.ask("DELETE", f"/v2/orders/{ids[0]}")
        for query, expected in (
            ("", [ids[2], ids[1]]),
            ("?status=closed", [ids[0]]),
            ("?status=all&direction=asc", ids),
            ("?status=all&symbols=A,C&direction=asc", [ids[0], ids[2]]),
            ("?limit=1", [ids[2]]),
        ):
            listed = (await self.ask("GET", f"/v2/orders{query}")).document
            self.assertEqual([order["id"] for order in listed], expected, query)
        for query in ("limit=0", "limit=501", "limit=x", "status=x", "direction=x"):
            refused = await self.ask("GET", f"/v2/orders?{query}")
            self.assertEqual((refused.status, refused.document["code"]), (422, 40010001), query)
            self.assertIn(query.split("=")[0], refused.document["message"])

    async def test_cancels_all_at_once(self) -> None:
        """Every open order is canceled, and listed with its status."""
        ids = [(await self.submit())["id"] for _ in range(3)]
        answer = await self.ask("DELETE", "/v2/orders")
        self.assertEqual((answer.status, answer.document), (207, [{"id": i, "status": 200} for i in ids]))

    async def test_refuses_as_alpaca_does(self) -> None:
        """What is wrong is answered with Alpaca's status and code."""
        for method, path, body, status, code in (
            ("GET", "/v2/orders/nobody", None, 404, 40410000),
            ("GET", "/v2/orders:by_client_order_id", None, 404, 40410000),
            ("DELETE", "/v2/orders/nobody", None, 404, 40410000),
            ("PATCH", "/v2/orders/nobody", {}, 404, 40410000),
            ("PATCH", "/v2/orders/nobody", {"qty": 0}, 422, 40010001),
            ("PATCH", "/v2/orders/nobody", b"{", 400, 40010000),
            ("POST", "/v2/orders", MARKET | {"qty": 0}, 422, 40010001),
            ("POST", "/v2/orders", b"{", 400, 40010000),
            ("POST", "/v2/orders", b'{"qty":NaN}', 400, 40010000),
            ("POST", "/v2/orders", b"[" * 100_000, 400, 40010000),
            ("PUT", "/v2/orders", {}, 404, 40410000),
            ("GET", "/", None, 404, 40410000),
            ("GET", "/v2/positions", None, 404, 40410000),
            ("GET", "/stream/deeper", None, 404, 40410000),
        ):
            answer = await self.ask(method, path, body)
            self.assertEqual((answer.status, answer.document["code"]), (status, code), (method, path, body))

    async def test_refuses_large_bodies(self) -> None:
        """A body of 1 MiB is read, one byte more is refused."""
        largest = b" " * (1024 * 1024)
        self.assertEqual((await self.ask("POST", "/v2/orders", largest)).status, 400)
        self.assertEqual((await self.ask("POST", "/v2/orders", largest + b" ")).status, 413)
        self.assertEqual((await self.ask("POST", "/v2/orders", largest * 3)).status, 413)

    async def test_a_plain_get_of_the_stream_is_told_to_upgrade(self) -> None:
        """The stream's path answers 426 to what is no WebSocket."""
        self.assertEqual((await self.ask("GET", "/stream")).status, 426)


class CredentialsTests(WebTestCase):
    """The trading API with credentials set."""

    credentials = KeyPair(Secret("k"), Secret("s"))

    async def test_asks_for_the_key_pair(self) -> None:
        """Only the expected pair is let in, and only the trading API asks for it."""
        pair = {"apca_api_key_id": "k", "apca_api_secret_key": "s"}
        self.assertEqual((await self.ask("GET", "/v2/account", **pair)).status, 200)
        for headers in ({}, pair | {"apca_api_secret_key": "x"}, {"authorization": "Bearer k"}):
            refused = await self.ask("GET", "/v2/account", **headers)
            self.assertEqual(refused.document, {"code": 40310000, "message": "forbidden."})
            self.assertEqual(refused.status, 403)
        self.assertEqual((await self.ask("POST", "/simulator/emit", {})).status, 200)


class OAuthTests(WebTestCase):
    """The trading API with an OAuth token set."""

    credentials = OAuthToken(Secret("t"))

    async def test_asks_for_the_token(self) -> None:
        """The token comes as a bearer's."""
        self.assertEqual((await self.ask("GET", "/v2/account", authorization="Bearer t")).status, 200)
        self.assertEqual((await self.ask("GET", "/v2/account", authorization="Bearer x")).status, 403)


class StreamTests(WebTestCase):
    """The stream, its events and its faults, on the same port."""

    async def test_emits_what_is_posted(self) -> None:
        """The posted object is the event's data; the answer says to how many clients it went."""
        lost = await self.ask("POST", "/simulator/emit", {"event": "lost"})
        self.assertEqual(lost.document, {"delivered": 0})
        peer = await self.listener(self.port, reactor)
        sent = await self.ask("POST", "/simulator/emit", {"event": "new", "n": "é"})
        self.assertEqual(sent.document, {"delivered": 1})
        event = json.loads(await peer.queue.get())
        self.assertEqual(event, {"stream": "trade_updates", "data": {"event": "new", "n": "é"}})
        peer.sendClose(1000)
        await peer.closed

    async def test_emits_objects_only(self) -> None:
        """What is not a JSON object is refused, in one line."""
        for body in (b"", b"{", b"[]", None, b"\xff", b'{"x":Infinity}'):
            refused = await self.ask("POST", "/simulator/emit", body)
            self.assertEqual(refused.status, 400)
            self.assertNotIn("\n", refused.document["message"])

    async def test_takes_no_orders_from_web_pages(self) -> None:
        """A browser says whose page is asking, and no page has any business here."""
        for path in ("/simulator/fault", "/simulator/emit", "/v2/orders"):
            answer = await self.ask("POST", path, {"kind": "drop"}, Origin="https://evil.example")
            self.assertEqual(answer.status, 403, path)

    async def test_names_the_bad_field_of_a_fault(self) -> None:
        """A fault that is not understood is refused by the field's name."""
        for body, word in (
            (b"{", "object"),
            ({"kind": "rain"}, "kind"),
            ({"kind": "drop", "count": 0}, "count"),
        ):
            refused = await self.ask("POST", "/simulator/fault", body)
            self.assertEqual(refused.status, 400)
            self.assertIn(word, refused.document["message"])

    async def test_ends_connections_as_ordered(self) -> None:
        """A drop is the end of TCP, a reset its reset, and a close is a WebSocket's."""
        for kind, clean, cause in (
            ("drop", False, ConnectionDone),
            ("reset", False, ConnectionLost),
            ("close", True, None),
        ):
            peer = await self.listener(self.port, reactor)
            answer = await self.ask("POST", "/simulator/fault", {"kind": kind})
            self.assertEqual((answer.status, answer.document), (200, {"injected": kind}))
            self.assertEqual((await peer.closed)[0], clean, kind)
            lost = await peer.lost
            if cause is not None:
                self.assertIs(type(lost), cause)
            await self.simulator.when_gone()

    async def test_throttles_handshakes(self) -> None:
        """A throttled handshake gets 429 with its Retry-After; the next one gets through."""
        await self.ask("POST", "/simulator/fault", {"kind": "throttle", "retry_after": 3})
        throttled = await self.dial(self.port, reactor)
        self.assertIn("429", str((await throttled.closed)[2]))
        self.assertEqual(throttled.http_headers["retry-after"], "3")
        peer = await self.listener(self.port, reactor)
        taken = await self.dial(self.port, reactor)
        self.assertIn("429", str((await taken.closed)[2]))
        self.assertNotIn("retry-after", taken.http_headers)
        peer.sendClose(1000)
        await peer.lost

    async def test_refuses_logins(self) -> None:
        """A refused login is unauthorized, and the connection closes."""
        await self.ask("POST", "/simulator/fault", {"kind": "refuse"})
        peer = await self.dial(self.port, reactor)
        await peer.opened
        peer.say(LOGIN)
        refusal = json.loads(await peer.queue.get())
        self.assertEqual(refusal["data"]["status"], "unauthorized")
        self.assertTrue((await peer.closed)[0])
        await peer.lost

    async def test_sends_bursts_repeats_and_garbage(self) -> None:
        """Each arrives whole: a thousand events, then the last two again, then junk."""
        peer = await self.listener(self.port, reactor)
        for fault in (
            {"kind": "burst", "count": 1000},
            {"kind": "repeat", "count": 2},
            {"kind": "garbage", "count": 5},
        ):
            await self.ask("POST", "/simulator/fault", fault)
        frames = [await peer.queue.get() for _ in range(1007)]
        self.assertEqual(len({json.loads(f)["data"]["event_id"] for f in frames[:1000]}), 1000)
        self.assertEqual(frames[1000:1002], frames[998:1000])
        self.assertIn(b"not JSON", frames[1002:])
        peer.sendClose(1000)
        await peer.lost

    async def test_silence_leaves_the_connection_open(self) -> None:
        """A silent connection says nothing, and still has the place."""
        peer = await self.listener(self.port, reactor)
        await self.ask("POST", "/simulator/fault", {"kind": "silence"})
        peer.sendPing(b"x")
        self.assertEqual(
            (await self.ask("POST", "/simulator/emit", {"event": "x"})).document, {"delivered": 0}
        )
        self.assertEqual((peer.pongs, peer.queue.pending), ([], []))
        self.assertTrue(self.simulator.connected)
        peer.dropConnection(abort=True)
        await self.simulator.when_gone()


class AlpacaPyTests(WebTestCase):
    """The simulator as Alpaca's own client for Python finds it."""

    def trade(self) -> dict[str, Any]:
        from alpaca.trading.client import TradingClient
        from alpaca.trading.enums import OrderSide, TimeInForce
        from alpaca.trading.requests import LimitOrderRequest, MarketOrderRequest, ReplaceOrderRequest

        client: TradingClient = TradingClient(
            "k", "s", paper=True, url_override=f"http://127.0.0.1:{self.port}"
        )
        common = {"side": OrderSide.BUY, "time_in_force": TimeInForce.DAY}
        market: Any = client.submit_order(MarketOrderRequest(symbol="SPY", qty=0.5, **common))
        worth: Any = client.submit_order(MarketOrderRequest(symbol="SPY", notional=15, **common))
        limit: Any = client.submit_order(LimitOrderRequest(symbol="SPY", qty=1, limit_price=0.01, **common))
        other: Any = client.replace_order_by_id(limit.id, ReplaceOrderRequest(qty=2))
        client.cancel_order_by_id(other.id)
        open_orders: Any = client.get_orders()
        account: Any = client.get_account()
        canceled: Any = client.cancel_orders()
        client._session.close()  # noqa: SLF001  # it has no close of its own
        return {
            "symbols": [market.symbol, worth.symbol],
            "replaces": (str(other.replaces), str(limit.id)),
            "open": {str(order.id) for order in open_orders} <= {str(market.id), str(worth.id)},
            "status": account.status.value,
            "canceled": {response.status for response in canceled} <= {200},
        }

    async def test_trades(self) -> None:
        """alpaca-py submits, replaces, cancels and lists orders, and reads the account."""
        result = await deferToThread(self.trade)
        self.assertEqual(result["symbols"], ["SPY", "SPY"])
        self.assertEqual(*result["replaces"])
        self.assertEqual((result["open"], result["status"], result["canceled"]), (True, "ACTIVE", True))
