"""Orders through the REST proxy, by clients with one base URL for the stream and for REST."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from alpaca.common.exceptions import APIError
from alpaca.trading.client import TradingClient
from alpaca.trading.enums import OrderSide, TimeInForce
from alpaca.trading.requests import LimitOrderRequest
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import clientFromString
from twisted.internet.protocol import Factory
from twisted.internet.threads import deferToThread
from twisted.web.server import NOT_DONE_YET, Request, Site

from tests.integration.test_tls import CertificateTestCase
from tests.support.disclosure import THEIRS, DisclosureTestCase, accounts_at, request
from tests.support.listening import listen
from tests.support.proxy import RawClient
from tests.support.sockets import SocketTestCase
from tests.upstream.support import Page
from tradeproxy.simulator.faults import FaultKind
from tradeproxy.wire.credentials import KeyPair, Secret

ORDER = LimitOrderRequest(
    symbol="AAPL", qty=1, side=OrderSide.BUY, time_in_force=TimeInForce.DAY, limit_price=1
)


def trading(port: int, key: str = "any", secret: str = "any") -> TradingClient:
    """Return alpaca-py's client for orders, with only its URL changed; its methods block."""
    url = f"http://localhost:{port}/trade-updates-paper"
    return TradingClient(key, secret, raw_data=True, url_override=url)


async def api_error(method: Callable[..., Any], *arguments: Any) -> APIError:
    """Call a blocking method in a thread, and return the APIError that it raises."""
    try:
        await deferToThread(method, *arguments)
    except APIError as error:
        return error
    raise AssertionError("no error was raised")


class AlpacaPyTests(SocketTestCase):
    """alpaca-py, the REST proxy and the simulator."""

    async def test_order_through_proxy_appears_in_stream(self) -> None:
        """The stream has the same base URL, and errors are Alpaca's own."""
        alpaca = await self.simulate()
        proxy = await self.proxy(PROXY_REST="1")
        await alpaca.when_listening()
        stream = await self.subscribe()
        client = trading(self.port)
        order: Any = await deferToThread(client.submit_order, ORDER)
        await stream.has(1)
        self.assertIn(f'"id":"{order["id"]}"'.encode(), stream.taken()[0])
        listed: Any = await deferToThread(client.get_orders)
        self.assertEqual([listed_order["id"] for listed_order in listed], [order["id"]])
        await deferToThread(client.cancel_order_by_id, order["id"])  # the response has no body
        await stream.has(1)
        error = await api_error(client.cancel_order_by_id, order["id"])
        self.assertEqual((error.status_code, error.code), (422, 42210000))
        await proxy.stop()
        for line in ("Traceback", "factory", "Timing out"):
            self.assertNotIn(line, proxy.output)

    async def test_request_uses_only_the_clients_keys(self) -> None:
        """The proxy's keys, which would be accepted, are never sent for a client."""
        alpaca = await self.simulate(credentials=KeyPair(Secret("PKTEST"), Secret("test-secret")))
        await self.proxy(PROXY_REST="1")
        await alpaca.when_listening()
        error = await api_error(trading(self.port).get_account)
        self.assertEqual((error.status_code, error.message), (403, "forbidden."))
        account: Any = await deferToThread(trading(self.port, "PKTEST", "test-secret").get_account)
        self.assertEqual(account["id"], alpaca.exchange.portfolio.account_id)

    async def test_rest_off_error_names_variable(self) -> None:
        """The SDK raises the proxy's message."""
        await self.proxy()
        error = await api_error(trading(self.port).submit_order, ORDER)
        self.assertEqual((error.status_code, error.code), (404, 40410000))
        self.assertIn("PROXY_REST=1", error.message)

    async def test_rest_with_tokens_exits_1(self) -> None:
        """One line names both variables."""
        both = {"PROXY_REST": "1", "PROXY_TOKENS": "a-token-of-some-length"}
        command = self.command("twistd", "-n", "tradeproxy", **accounts_at(A=1), **both)
        self.assertEqual(await command.ended, 1)
        [line] = command.output.strip().splitlines()
        self.assertIn("PROXY_REST: PROXY_TOKENS is set too", line)


class RestTlsTests(CertificateTestCase):
    """Alpaca behind TLS, as in production."""

    async def start(self, port: int, **environment: str) -> None:
        """Start the proxy with Alpaca at this port, over TLS."""
        url = f"https://localhost:{port}"
        self.process = await self.proxy(PROXY_REST="1", ALPACA_URL=url, **environment)

    async def test_trusted_host_gets_request(self) -> None:
        """The trusted authorities are those of the stream."""
        alpaca = await self.simulate(self.identity.endpoint())
        await self.start(self.alpaca_port, SSL_CERT_FILE=str(self.authority.certificate))
        account: Any = await deferToThread(trading(self.port).get_account)
        self.assertEqual(account["id"], alpaca.exchange.portfolio.account_id)

    async def test_untrusted_host_gets_nothing(self) -> None:
        """The certificate has an unknown authority, or another host name."""
        trusted = {"SSL_CERT_FILE": str(self.authority.certificate)}
        for identity, environment in (
            (self.identity, {}),
            (self.authority.issue("other.example"), trusted),
        ):
            alpaca = await self.simulate(identity.endpoint())
            await self.start(self.alpaca_port, **environment)
            error = await api_error(trading(self.port).submit_order, ORDER)
            self.assertEqual(
                (error.status_code, alpaca.exchange.orders("all", True, None, None)), (502, [])
            )
            await self.process.stop()
            self.assertNotIn("Traceback", self.process.output)

    async def test_disconnect_with_unread_response_closes_alpacas_connection(self) -> None:
        """It is closed although its transport is paused."""
        ended: Deferred[Any] = Deferred()

        def answer(request: Request) -> bytes | int:
            if request.uri != b"/v2/all":
                return b""  # the stream also tries to connect
            request.notifyFinish().addErrback(lambda _: ended.callback(None))
            request.write(b"x" * 32 * 1024 * 1024)
            return NOT_DONE_YET

        port = await listen(self, Site(Page(answer)), self.identity.endpoint())
        await self.start(port, SSL_CERT_FILE=str(self.authority.certificate))
        client = _UnreadingClient()
        await clientFromString(reactor, f"tcp:127.0.0.1:{self.port}").connect(
            Factory.forProtocol(lambda: client)
        )
        await client.response_started
        client.abort()
        await ended


class _UnreadingClient(RawClient):
    """A client that sends a request and reads only the first bytes of the response."""

    def __init__(self) -> None:
        super().__init__()
        self.response_started: Deferred[None] = Deferred()

    def connectionMade(self) -> None:
        transport: Any = self.transport
        transport.write(request(start="GET /paper/v2/all HTTP/1.1", upgrade=False))

    def dataReceived(self, data: bytes) -> None:
        transport: Any = self.transport
        transport.pauseProducing()
        reactor.callLater(0, self.response_started.callback, None)

    def abort(self) -> None:
        transport: Any = self.transport
        transport.abortConnection()


class RestLogTests(DisclosureTestCase):
    """The log, at the most detailed level."""

    async def test_client_data_is_not_logged(self) -> None:
        """Whether Alpaca accepts the request, rejects it or is down."""
        alpaca = await self.simulate()
        ports = {
            "UP": self.alpaca_port,
            "BUSY": await self.serve_fault(FaultKind.REST_REFUSE),
            "DOWN": 1,
        }
        command = self.start("-n", PROXY_REST="1", PROXY_TOKENS="", **accounts_at(**ports))
        await command.says("listening on")
        await alpaca.when_listening()
        headers = (
            f"APCA-API-KEY-ID: {THEIRS}\r\nAPCA-API-SECRET-KEY: {THEIRS}",
            f"Authorization: Bearer {THEIRS}",
            f"X-{THEIRS}: {THEIRS}",
        )
        answers: dict[str, set[int]] = {}
        for name in map(str.lower, ports):
            for header in headers:
                get = f"GET /{name}/v2/orders/{THEIRS}?id={THEIRS} HTTP/1.1"
                post = f"POST /{name}/v2/orders?id={THEIRS} HTTP/1.1"
                body = (f"Content-Length: {len(THEIRS)}", "", THEIRS)
                requests = (
                    request(header, start=get),
                    request(header, *body, start=post, upgrade=False),
                )
                answers[name] = {(await self.visit(data)).status for data in requests}
        self.assertEqual(answers, {"up": {404, 400}, "busy": {403, 400}, "down": {502}})
        await self.assert_silent(command, "is passed through")
