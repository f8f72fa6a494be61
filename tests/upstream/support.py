"""Alpaca's REST API in memory and in fake time: from the simulator, or from the test."""

from __future__ import annotations

import json
from collections.abc import Callable
from email.utils import formatdate
from typing import Any

from twisted.internet import error
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IProtocolFactory, IReactorTime, IStreamClientEndpoint
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.client import URI, Agent
from twisted.web.iweb import IAgentEndpointFactory
from twisted.web.resource import IResource, Resource
from twisted.web.server import NOT_DONE_YET, Request, Site
from zope.interface import implementer

from tests.support.journals import dates_of
from tests.support.memory import CLIENT, Wires, fake_time
from tradeproxy.config.accounts import AccountSettings, BaseUrl
from tradeproxy.upstream.http import ConnectionPool
from tradeproxy.upstream.keys import AccountKeys
from tradeproxy.upstream.rate_limiter import RateLimiter
from tradeproxy.upstream.rest import RestClient
from tradeproxy.wire.credentials import Credentials, KeyPair, Secret
from tradeproxy.wire.messages import Dialect

KEYS = KeyPair(Secret("PKUPSTREAM"), Secret("upstream-secret"))
BASE_URL = "http://127.0.0.1:8100"


@implementer(IAgentEndpointFactory, IStreamClientEndpoint)
class MemoryHost:
    """Connects an Agent to a site, unless the host rejects (`refusing`) or is mute (`hanging`)."""

    def __init__(self, site: Site, wires: Wires) -> None:
        self.refusing = False
        self.hanging = False
        self.site = site
        self._wires = wires

    def endpointForURI(self, uri: URI) -> IStreamClientEndpoint:
        endpoint: IStreamClientEndpoint = self
        return endpoint

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[Any]:
        if self.refusing:
            return fail(error.ConnectionRefusedError("to 127.0.0.1, with the key PKUPSTREAM"))
        if self.hanging:
            return Deferred()
        client = protocolFactory.buildProtocol(CLIENT)
        self._wires.join(self.site.buildProtocol(CLIENT), client)
        return succeed(client)


class Page(Resource):
    """Answers every request with a function of the test, and records the requests."""

    isLeaf = True

    def __init__(self, answer: Callable[[Request], bytes | int]) -> None:
        super().__init__()
        self.requests: list[Request] = []
        self._answer = answer

    def render(self, request: Request) -> bytes | int:
        self.requests.append(request)
        return self._answer(request)


def memory_agent(host: MemoryHost, clock: Clock) -> Agent:
    """Return an HTTP client that connects to `host`."""
    agent: Agent = Agent.usingEndpointFactory(clock, host, pool=ConnectionPool(clock))
    return agent


@implementer(IReactorTime)
class ClockAhead:
    """A clock that is some seconds ahead of another one. It uses the other one's timers."""

    def __init__(self, clock: Clock, seconds: float) -> None:
        self.callLater = clock.callLater
        self.getDelayedCalls = clock.getDelayedCalls
        self._clock = clock
        self._seconds = seconds

    def seconds(self) -> float:
        return self._clock.seconds() + self._seconds


class OverridingResource(Resource):
    """Answers like another resource, except where a function of the test returns an answer."""

    isLeaf = True

    def __init__(
        self, resource: IResource, clock: Clock, answer: Callable[[Request], bytes | int | None]
    ) -> None:
        super().__init__()
        self._resource = resource
        self._clock = clock
        self._answer = answer

    def render(self, request: Request) -> bytes | int:
        request.setHeader("date", formatdate(self._clock.seconds(), usegmt=True))
        answered = self._answer(request)
        if answered is not None:
            return answered
        rendered: bytes | int = self._resource.render(request)
        return rendered


def keys_of(credentials: Credentials) -> AccountKeys:
    """Return keys of an account that never change."""
    return AccountKeys(
        AccountSettings(
            "paper", BaseUrl.parse(BASE_URL), credentials, Dialect.AUTHENTICATE, "ALPACA_API_KEY"
        )
    )


class RestClientTestCase(SynchronousTestCase):
    """A REST client in memory. `answer` is a JSON value or a function of the request."""

    credentials: Credentials = KEYS

    def setUp(self) -> None:
        self.clock = fake_time(self)
        self.wires = Wires(self.clock)
        self.answer: Any = {}
        self.page = Page(self._respond)
        self.host = MemoryHost(Site(self.page, reactor=self.clock), self.wires)
        agent = memory_agent(self.host, self.clock)
        self.dates = dates_of(self.clock)
        self.rest = RestClient(
            agent, BASE_URL, self.build_keys(), self.clock, self.dates, RateLimiter()
        )

    def build_keys(self) -> AccountKeys:
        return keys_of(self.credentials)

    def _respond(self, request: Request) -> bytes | int:
        if callable(self.answer):
            answer: bytes | int = self.answer(request)
            return answer
        return json.dumps(self.answer).encode()

    def start(self, coroutine: Any) -> Deferred[Any]:
        """Start a coroutine, and run it as far as it gets without time passing."""
        started = Deferred.fromCoroutine(coroutine)
        self.wires.flush()
        return started

    def outcome(self, coroutine: Any) -> Any:
        """Return the result that a coroutine has at once."""
        return self.successResultOf(self.start(coroutine))

    def requested_uris(self) -> list[str]:
        """Return the path and query of each request."""
        return [request.uri.decode() for request in self.page.requests]


def status(code: int, body: bytes = b"", **headers: str) -> Callable[[Request], bytes]:
    """Return an answer with a status, a body and headers (underscores stand for hyphens)."""

    def answer(request: Request) -> bytes:
        request.setResponseCode(code)
        for name, value in headers.items():
            request.setHeader(name.replace("_", "-"), value)
        return body

    return answer


def event_stream(*chunks: bytes, complete: bool = True) -> Callable[[Request], int]:
    """Return an answer that is an event stream; an incomplete one is cut after its chunks."""

    def answer(request: Request) -> int:
        request.setHeader("content-type", "text/event-stream; charset=utf-8")
        for chunk in chunks:
            request.write(chunk)
        if complete:
            request.finish()
        else:
            request.loseConnection()
        return NOT_DONE_YET

    return answer


def never(_: Request) -> int:
    """Send no answer."""
    return NOT_DONE_YET
