"""Orders placed through the proxy, by clients that have one base URL for the stream and for REST."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from alpaca.common.exceptions import APIError
from alpaca.trading.client import TradingClient
from alpaca.trading.enums import OrderSide, TimeInForce
from alpaca.trading.requests import LimitOrderRequest
from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import clientFromString, serverFromString
from twisted.internet.protocol import Factory
from twisted.internet.threads import deferToThread
from twisted.web.server import NOT_DONE_YET, Request, Site

from tests.integration.test_tls import CertificateTestCase
from tests.support.disclosure import THEIRS, DisclosureTestCase, accounts_at, request
from tests.support.proxy import RawClient
from tests.support.sockets import SocketTestCase
from tests.upstream.support import Page
from tradeproxy.simulator.faults import FaultKind
from tradeproxy.wire.credentials import KeyPair, Secret

ORDER = LimitOrderRequest(
    symbol="AAPL", qty=1, side=OrderSide.BUY, time_in_force=TimeInForce.DAY, limit_price=1
)


def trading(port: int, key: str = "any", secret: str = "any") -> TradingClient:
    """Return alpaca-py's client for orders, with nothing but its URL changed; its methods block."""
    url = f"http://localhost:{port}/trade-updates-paper"
    return TradingClient(key, secret, raw_data=True, url_override=url)


async def refusal(method: Callable[..., Any], *arguments: Any) -> APIError:
    """Call a method of such a client in a thread, and return the error that it raises."""
    try:
        await deferToThread(method, *arguments)
    except APIError as error:
        return error
    raise AssertionError("it was not refused")


class AlpacaPyTests(SocketTestCase):
    """alpaca-py against the simulator, through the proxy."""

    async def test_orders_and_their_updates_have_one_url(self) -> None:
        """What is placed comes out of the stream, at the same URL; an error is Alpaca's own."""
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
        await deferToThread(client.cancel_order_by_id, order["id"])  # an answer without a body
        await stream.has(1)
        error = await refusal(client.cancel_order_by_id, order["id"])
        self.assertEqual((error.status_code, error.code), (422, 42210000))
        await proxy.stop()
        for line in ("Traceback", "factory", "Timing out"):  # nothing is said of a request
            self.assertNotIn(line, proxy.output)

    async def test_a_client_has_its_own_keys_or_none(self) -> None:
        """The proxy's, which would open the account, are lent to nobody."""
        alpaca = await self.simulate(credentials=KeyPair(Secret("PKTEST"), Secret("test-secret")))
        await self.proxy(PROXY_REST="1")
        await alpaca.when_listening()
        error = await refusal(trading(self.port).get_account)
        self.assertEqual((error.status_code, error.message), (403, "forbidden."))
        account: Any = await deferToThread(trading(self.port, "PKTEST", "test-secret").get_account)
        self.assertEqual(account["id"], alpaca.account_id)

    async def test_without_the_variable_the_error_names_it(self) -> None:
        """The SDK raises what the proxy says."""
        await self.proxy()
        error = await refusal(trading(self.port).submit_order, ORDER)
        self.assertEqual((error.status_code, error.code), (404, 40410000))
        self.assertIn("PROXY_REST=1", error.message)

    async def test_it_does_not_start_with_tokens(self) -> None:
        """One line names both variables."""
        both = {"PROXY_REST": "1", "PROXY_TOKENS": "a-token-of-some-length"}
        command = self.command("twistd", "-n", "tradeproxy", **accounts_at(A=1), **both)
        self.assertEqual(await command.ended, 1)
        [line] = command.output.strip().splitlines()
        self.assertIn("PROXY_REST: PROXY_TOKENS is set too", line)


class TlsTests(CertificateTestCase):
    """An Alpaca behind TLS, as the real one is."""

    async def start(self, port: int, **environment: str) -> None:
        """Start the proxy, with an Alpaca at a port that shows a certificate of some kind."""
        url = f"https://localhost:{port}"
        self.process = await self.proxy(PROXY_REST="1", ALPACA_URL=url, **environment)

    async def test_a_host_that_is_trusted_is_asked(self) -> None:
        """By the trust that the stream has."""
        alpaca = await self.simulate(self.identity.endpoint())
        await self.start(self.alpaca_port, SSL_CERT_FILE=str(self.authority.certificate))
        account: Any = await deferToThread(trading(self.port).get_account)
        self.assertEqual(account["id"], alpaca.account_id)

    async def test_a_host_that_is_not_is_sent_nothing(self) -> None:
        """Neither one of an unknown authority, nor one of another name."""
        trusted = {"SSL_CERT_FILE": str(self.authority.certificate)}
        for identity, environment in (
            (self.identity, {}),
            (self.authority.issue("other.example"), trusted),
        ):
            alpaca = await self.simulate(identity.endpoint())
            await self.start(self.alpaca_port, **environment)
            error = await refusal(trading(self.port).submit_order, ORDER)
            self.assertEqual(
                (error.status_code, alpaca.exchange.orders("all", True, None, None)), (502, [])
            )
            await self.process.stop()
            self.assertNotIn("Traceback", self.process.output)

    async def test_a_client_that_goes_ends_an_answer_that_it_did_not_read(self) -> None:
        """The connection to Alpaca is closed, though nothing was read from it at the time."""
        ended: Deferred[Any] = Deferred()

        def answer(asked: Request) -> bytes | int:
            if asked.uri != b"/v2/all":
                return b""  # the stream is not here
            asked.notifyFinish().addErrback(lambda _: ended.callback(None))
            asked.write(b"x" * 32 * 1024 * 1024)
            return NOT_DONE_YET

        endpoint = serverFromString(reactor, self.identity.endpoint())
        port: Any = await endpoint.listen(Site(Page(answer)))
        self.addCleanup(port.stopListening)
        await self.start(port.getHost().port, SSL_CERT_FILE=str(self.authority.certificate))
        client = _Unreading()
        await clientFromString(reactor, f"tcp:127.0.0.1:{self.port}").connect(
            Factory.forProtocol(lambda: client)
        )
        await client.has_begun
        client.leave()
        await ended


class _Unreading(RawClient):
    """Asks, and reads no more than the first bytes of the answer."""

    def __init__(self) -> None:
        super().__init__()
        self.has_begun: Deferred[None] = Deferred()

    def connectionMade(self) -> None:
        transport: Any = self.transport
        transport.write(request(start="GET /paper/v2/all HTTP/1.1", upgrade=False))

    def dataReceived(self, data: bytes) -> None:
        transport: Any = self.transport
        transport.pauseProducing()
        reactor.callLater(0, self.has_begun.callback, None)

    def leave(self) -> None:
        transport: Any = self.transport
        transport.abortConnection()


class LogTests(DisclosureTestCase):
    """The log, with all the logging that there can be."""

    async def test_nothing_that_a_client_sends_shows(self) -> None:
        """Whether Alpaca takes it, refuses it or is away."""
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
                ask = f"GET /{name}/v2/orders/{THEIRS}?id={THEIRS} HTTP/1.1"
                place = f"POST /{name}/v2/orders?id={THEIRS} HTTP/1.1"
                body = (f"Content-Length: {len(THEIRS)}", "", THEIRS)
                visits = (
                    request(header, start=ask),
                    request(header, *body, start=place, upgrade=False),
                )
                answers[name] = {(await self.visit(visit)).status for visit in visits}
        self.assertEqual(answers, {"up": {404, 400}, "busy": {403, 400}, "down": {502}})
        await self.assert_silent(command, "is passed through")
