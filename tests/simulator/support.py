"""A simulator and clients of its stream, in memory and in fake time."""

from __future__ import annotations

import json
from typing import Any

from autobahn.twisted.websocket import WebSocketClientFactory
from twisted.trial.unittest import SynchronousTestCase

from tests.support.frames import AUTHENTICATE, LISTEN
from tests.support.memory import Wires, fake_time, simulator
from tests.support.proxy import Client
from tradeproxy.simulator.faults import Fault, FaultKind
from tradeproxy.simulator.ids import ALPHABET


class StreamClient(Client):
    """A client of Alpaca's stream: it takes binary frames as well, and remembers which were."""

    def __init__(self) -> None:
        super().__init__()
        self.binary: list[bool] = []

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        self.messages.append(payload)
        self.binary.append(isBinary)

    def events(self) -> list[str]:
        """Return the names of the events among the messages since the last call."""
        documents = [json.loads(message) for message in self.taken()]
        return [document["data"]["event"] for document in documents if document["stream"] == "trade_updates"]


class SimulatorTestCase(SynchronousTestCase):
    """A simulator and its clients in one process."""

    def setUp(self) -> None:
        self.clock = fake_time(self)
        self.wires = Wires(self.clock)
        self.simulator = simulator(self.clock)

    def connect(self, *messages: bytes) -> StreamClient:
        """Connect a client and let it say something; `self.server` is what it is connected to."""
        client = StreamClient()
        client.factory = WebSocketClientFactory("ws://localhost/stream", reactor=self.clock)
        client.factory.setProtocolOptions(failByDrop=False)
        self.server: Any = self.simulator.factory.buildProtocol(None)
        self.wires.join(self.server, client)
        self.wires.flush()
        for message in messages:
            client.sendMessage(message)
        self.wires.flush()
        return client

    def listener(self) -> StreamClient:
        """Connect a client that listens to trade updates, with its replies taken."""
        client = self.connect(AUTHENTICATE, LISTEN)
        client.taken()
        return client

    def say(self, client: StreamClient, *messages: bytes) -> list[bytes]:
        """Let a client send messages, and return what it has been sent since the last time."""
        for message in messages:
            client.sendMessage(message)
        self.wires.flush()
        return client.taken()

    def inject(self, kind: FaultKind, **details: Any) -> None:
        self.simulator.inject(Fault(kind, **details))
        self.wires.flush()


def milliseconds_of(ulid: str) -> int:
    """Read the time out of a ULID."""
    number = 0
    for character in ulid:
        number = number << 5 | ALPHABET.index(character)
    return number >> 80
