"""The site with the REST proxy on, and a fake Alpaca in memory that each test defines."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from twisted.internet.protocol import Factory, Protocol
from twisted.web.client import Agent
from twisted.web.server import NOT_DONE_YET, Request, Site

from tests.support.proxy import ProxyTestCase, RawClient
from tests.upstream.support import MemoryHost, Page
from tradeproxy.downstream.admission import Admission, Tokens
from tradeproxy.upstream.http import ConnectionPool
from tradeproxy.web.rest_proxy import RestProxy
from tradeproxy.web.site import build_site

ORDERS = "/trade-updates-paper/v2/orders"


class RestTestCase(ProxyTestCase):
    """`answer` is the response of the fake Alpaca: a function of the request, or a JSON value."""

    def setUp(self) -> None:
        super().setUp()
        self.answer: Any = {}
        self.bodies: list[bytes] = []
        self.page = Page(self._respond)
        self.host = MemoryHost(Site(self.page, reactor=self.clock), self.wires)
        agent = Agent.usingEndpointFactory(self.clock, self.host, pool=ConnectionPool(self.clock))
        rest_proxy = RestProxy(
            agent,
            {"paper": "http://127.0.0.1:8100", "live": "http://alpaca.example/prefix"},
            Admission(self.hosts, (), Tokens(())),
            self.factory.clients,
            self.clock,
        )
        admission = Admission(self.hosts, self.origins, Tokens(()))
        accounts = {"paper": self.paper, "live": self.live}
        self.site = build_site(
            accounts, self.factory, admission, self.clock, self.clock.seconds, rest_proxy
        )

    def _respond(self, request: Request) -> bytes | int:
        assert request.content is not None
        self.bodies.append(request.content.read())
        if callable(self.answer):
            answer: bytes | int = self.answer(request)
            return answer
        return json.dumps(self.answer).encode()

    def take_requests(self) -> list[str]:
        """Return the methods and targets of the requests to Alpaca since the last call."""
        requests = [
            f"{request.method.decode()} {request.uri.decode()}" for request in self.page.requests
        ]
        self.page.requests.clear()
        return requests

    def serve(self, data: bytes, *, closes: bool = True) -> None:
        """Answer every request with `data` from now on, and close the connection if `closes`."""
        factory = Factory.forProtocol(lambda: _Server(data, closes))
        self.host.site = factory  # type: ignore[assignment]  # any factory will do

    def post(self, body: bytes, path: str = ORDERS, *headers: str) -> RawClient:
        """Send a POST with a body."""
        lines = [
            f"POST {path} HTTP/1.1",
            "Host: localhost",
            f"Content-Length: {len(body)}",
            *headers,
            "",
            "",
        ]
        return self.write("\r\n".join(lines).encode() + body)


class _Server(Protocol):
    """Answers every request with the same bytes."""

    def __init__(self, data: bytes, closes: bool) -> None:
        self._data = data
        self._closes = closes

    def dataReceived(self, data: bytes) -> None:
        assert self.transport is not None
        self.transport.write(self._data)
        if self._closes:
            self.transport.loseConnection()


def read_head(client: RawClient) -> list[str]:
    """Return the status line and the headers of a response."""
    return client.received.partition(b"\r\n\r\n")[0].decode().split("\r\n")


def read_message(client: RawClient) -> str:
    """Return the message of an error response of the proxy."""
    document = json.loads(client.body)
    assert document["code"] == client.status * 100_000 + 10_000
    message: str = document["message"]
    return message.removeprefix("tradeproxy: ")


def answer_partly(request: Request) -> int:
    """Answer with the first byte of a body of unknown length."""
    request.write(b"[")
    return NOT_DONE_YET


def answer_with(status: int, **headers: str) -> Callable[[Request], bytes]:
    """Return an `answer` with a status and headers; underscores in their names mean hyphens."""

    def answer(request: Request) -> bytes:
        request.setResponseCode(status)
        for name, value in headers.items():
            request.setHeader(name.replace("_", "-"), value)
        return b""

    return answer
