"""The site with its REST interface passed through to a page of the test's own, or to a server of any kind."""

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
from tradeproxy.upstream.http import build_pool
from tradeproxy.web.rest_proxy import RestProxy
from tradeproxy.web.site import build_site

ORDERS = "/trade-updates-paper/v2/orders"


class RestTestCase(ProxyTestCase):
    """`answer` is what Alpaca answers: a function of the request, or a JSON value."""

    def setUp(self) -> None:
        super().setUp()
        self.answer: Any = {}
        self.bodies: list[bytes] = []
        self.page = Page(self._respond)
        self.host = MemoryHost(Site(self.page, reactor=self.clock), self.wires)
        agent = Agent.usingEndpointFactory(self.clock, self.host, pool=build_pool(self.clock))
        passthrough = RestProxy(
            agent,
            {"paper": "http://127.0.0.1:8100", "live": "http://alpaca.example/prefix"},
            Admission(self.hosts, (), Tokens(())),
            self.factory.clients,
            self.clock,
        )
        admission = Admission(self.hosts, self.origins, Tokens(()))
        accounts = {"paper": self.paper, "live": self.live}
        self.site = build_site(accounts, self.factory, admission, self.clock, passthrough)

    def _respond(self, request: Request) -> bytes | int:
        assert request.content is not None
        self.bodies.append(request.content.read())
        if callable(self.answer):
            answer: bytes | int = self.answer(request)
            return answer
        return json.dumps(self.answer).encode()

    def asked(self) -> list[str]:
        """Return what Alpaca was asked for since the last call: methods and targets."""
        asked = [
            f"{request.method.decode()} {request.uri.decode()}" for request in self.page.requests
        ]
        self.page.requests.clear()
        return asked

    def serve(self, data: bytes, *, ends: bool = True) -> None:
        """Let a server answer with these bytes from now on, and then close the connection, or keep it."""
        self.host.site = Factory.forProtocol(lambda: _Server(data, ends))  # type: ignore[assignment]

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
    """Answers each request, whatever it is, with the same bytes."""

    def __init__(self, data: bytes, ends: bool) -> None:
        self._data = data
        self._ends = ends

    def dataReceived(self, data: bytes) -> None:
        assert self.transport is not None
        self.transport.write(self._data)
        if self._ends:
            self.transport.loseConnection()


def head_of(client: RawClient) -> list[str]:
    """Return the lines of a response before its body."""
    return client.received.partition(b"\r\n\r\n")[0].decode().split("\r\n")


def message_of(client: RawClient) -> str:
    """Return what an error of the proxy's says."""
    document = json.loads(client.body)
    assert document["code"] == client.status * 100_000 + 10_000
    message: str = document["message"]
    return message.removeprefix("tradeproxy: ")


def begun(request: Request) -> int:
    """Answer with the first byte of a body of unknown length."""
    request.write(b"[")
    return NOT_DONE_YET


def refusing(status: int, **headers: str) -> Callable[[Request], bytes]:
    """Return an answer with a status and headers, underscores for hyphens."""

    def answer(request: Request) -> bytes:
        request.setResponseCode(status)
        for name, value in headers.items():
            request.setHeader(name.replace("_", "-"), value)
        return b""

    return answer
