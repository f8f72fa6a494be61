"""A simulator and clients of its stream, in memory and in fake time."""

from __future__ import annotations

import json
from typing import Any

import treq
from autobahn.twisted.websocket import WebSocketClientFactory
from treq.client import HTTPClient
from treq.testing import RequestTraversalAgent
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from tests.support.frames import AUTHENTICATE, LISTEN
from tests.support.memory import CLIENT, Wires, fake_time, simulator
from tests.support.proxy import Client, RawClient
from tradeproxy.simulator.clock import ALPHABET, nanoseconds
from tradeproxy.simulator.faults import Fault, FaultKind
from tradeproxy.simulator.stream import StreamFactory
from tradeproxy.simulator.web import ApiSite

MARKET = {"symbol": "SPY", "qty": 1, "side": "buy", "type": "market", "time_in_force": "day"}
RESTING = MARKET | {"type": "limit", "limit_price": "0.01"}


class StreamClient(Client):
    """A client of Alpaca's stream. It accepts binary frames and records which were binary."""

    def __init__(self) -> None:
        super().__init__()
        self.binary: list[bool] = []

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        self.messages.append(payload)
        self.binary.append(isBinary)

    def events(self) -> list[str]:
        """Return the event names in the messages since the last call."""
        documents = [json.loads(message) for message in self.taken()]
        return [
            document["data"]["event"]
            for document in documents
            if document["stream"] == "trade_updates"
        ]


class SimulatorTestCase(SynchronousTestCase):
    """A simulator and its clients in one process."""

    def setUp(self) -> None:
        self.clock = fake_time(self)
        self.wires = Wires(self.clock)
        self.simulator = simulator(self.clock)

    def connect(self, *messages: bytes) -> StreamClient:
        """Connect a client and send its messages; `self.server` is its connection."""
        client = StreamClient()
        client.factory = WebSocketClientFactory("ws://localhost/stream", reactor=self.clock)
        client.factory.setProtocolOptions(failByDrop=False)
        self.server: Any = StreamFactory(self.simulator).buildProtocol(None)
        self.wires.join(self.server, client)
        self.wires.flush()
        for message in messages:
            client.sendMessage(message)
        self.wires.flush()
        return client

    def listener(self) -> StreamClient:
        """Connect a client that listens to trade updates, with its replies consumed."""
        client = self.connect(AUTHENTICATE, LISTEN)
        client.taken()
        return client

    def say(self, client: StreamClient, *messages: bytes) -> list[bytes]:
        """Send a client's messages, and return what it received since the last call."""
        for message in messages:
            client.sendMessage(message)
        self.wires.flush()
        return client.taken()

    def inject(self, kind: FaultKind, **details: Any) -> None:
        self.simulator.inject(Fault(kind, **details))
        self.wires.flush()


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


class Response:
    """An HTTP response in progress: `ended` after a complete end, else with a `failure`."""

    status = 0
    headers: Any = None
    ended = False
    failure: Failure | None = None

    def __init__(self) -> None:
        self.text = ""

    def begin(self, response: Any) -> Any:
        """Store status and headers, and return a Deferred that fires at the end."""
        self.status, self.headers = response.code, response.headers
        return treq.collect(response, self._take).addCallbacks(self._end, self.fail)

    def fail(self, failure: Failure) -> None:
        """Record that the response is missing or incomplete."""
        self.failure = failure

    def header(self, name: str) -> str | None:
        """Return a header that occurs at most once."""
        [value] = self.headers.getRawHeaders(name, [None])
        return value  # type: ignore[no-any-return]  # treq has no types for it

    @property
    def json(self) -> Any:
        return json.loads(self.text)

    @property
    def lines(self) -> list[str]:
        """The lines of an event stream without blank ones."""
        return [line for line in self.text.split("\n") if line]

    @property
    def events(self) -> list[Any]:
        """The data of the events in an event stream."""
        return [json.loads(line[6:]) for line in self.lines if line.startswith("data: ")]

    @property
    def ids(self) -> list[str]:
        """The ids of those events."""
        return [event["event_id"] for event in self.events]

    def _take(self, data: bytes) -> None:
        self.text += data.decode()

    def _end(self, _: Any) -> None:
        self.ended = True


class HttpTestCase(SimulatorTestCase):
    """Clients of the simulator's HTTP side, with treq."""

    def setUp(self) -> None:
        super().setUp()
        self.agent = RequestTraversalAgent(ApiSite(self.simulator).resource)

    def get(self, path: str, **parameters: str) -> Response:
        """Send a GET request; each `flush` advances the response."""
        response = Response()
        begun = HTTPClient(self.agent).get(f"http://localhost{path}", params=parameters)
        begun.addCallback(response.begin).addErrback(response.fail)
        self.flush()
        return response

    def read(self, **parameters: str) -> Response:
        """Request trade events."""
        return self.get("/v2/events/trades", **parameters)

    def emit(self, *event_ids: str, **data: Any) -> None:
        """Emit `data` once for each id."""
        for event_id in event_ids:
            self.simulator.emit({"event": "new", "event_id": event_id, **data})
        self.flush()

    def flush(self) -> None:
        self.agent.flush()
        self.wires.flush()

    def advance(self, seconds: float) -> None:
        self.wires.advance(seconds)
        self.flush()


def ulid(number: int, milliseconds: int = 1_800_000_000_000) -> str:
    """Return a ULID of a time; ULIDs of one time sort by number."""
    value = milliseconds << 80 | number
    return "".join(ALPHABET[value >> 5 * place & 31] for place in reversed(range(26)))


def at(text: str) -> int:
    """Return an RFC 3339 time in nanoseconds since 1970."""
    time = nanoseconds(text)
    assert time is not None, text
    return time


def milliseconds_of(ulid: str) -> int:
    """Return the time in a ULID."""
    number = 0
    for character in ulid:
        number = number << 5 | ALPHABET.index(character)
    return number >> 80
