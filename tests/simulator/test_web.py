"""Tests of the simulator over HTTP: in memory, on real sockets, and with alpaca-py."""

from __future__ import annotations

import json
from decimal import Decimal
from uuid import UUID

from twisted.internet import reactor
from twisted.internet.endpoints import clientFromString
from twisted.internet.error import ConnectionDone, ConnectionLost

from tests.simulator.support import HttpTestCase, WebTestCase, ulid
from tests.simulator.test_exchange import market
from tests.support.frames import AUTHENTICATE, LISTEN
from tests.support.memory import simulator
from tests.support.sockets import SocketClient, SocketTestCase
from tradeproxy.simulator.faults import Fault, FaultKind
from tradeproxy.simulator.orders import Order


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
        self.assertEqual(self.simulator.exchange.portfolio.account_id, first)
        other = "904837e3-3b76-47ec-b432-046db621571b"
        self.simulator.exchange.portfolio.account_id = other
        self.assertEqual(self.get("/v2/account").json["id"], other)
        self.assertEqual(
            simulator(self.clock, account_id=other).exchange.portfolio.account_id, other
        )

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
