"""The calls that one event takes, from the readable socket to the first send(), and one login."""

from __future__ import annotations

import io
import socket
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from select import select
from typing import Any

import txaio
from twisted.internet.address import IPv4Address
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.tcp import Server
from twisted.logger import globalLogPublisher
from twisted.python import log
from twisted.trial.unittest import SynchronousTestCase

import tradeproxy
from tests.support.frames import AUTH, AUTHORIZED, LISTEN, LISTENING
from tests.support.impostors import UPGRADED, accept_key
from tests.support.journals import dates_of, event, journal_at
from tests.support.socket_limits import limit_sockets
from tests.support.webhooks import MemoryReceiver, webhook_with
from tradeproxy.config.accounts import AccountSettings, BaseUrl
from tradeproxy.config.logging import Level, LogFormat, LogSettings
from tradeproxy.config.settings import Limits
from tradeproxy.downstream.admission import Admission, Tokens
from tradeproxy.downstream.factory import DownstreamFactory
from tradeproxy.hub.account import Account
from tradeproxy.logs import LogThrottle, observer
from tradeproxy.runtime.reactor import drop_log_context
from tradeproxy.upstream.client import UpstreamFactory
from tradeproxy.upstream.keys import AccountKeys
from tradeproxy.upstream.session import StreamListener
from tradeproxy.web.site import build_site
from tradeproxy.webhooks.service import Webhooks
from tradeproxy.wire.credentials import KeyPair, Secret
from tradeproxy.wire.event import format_time
from tradeproxy.wire.messages import Dialect

HANDSHAKE = (
    b"GET %b HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
MAX_TURNS = 1000
"""Turns of the reactor, of up to 10 ms each, in which anything must have happened."""


class CallCounter:
    """Counts the calls between the poll that reports a readable socket and the next send()."""

    def __init__(self, *, until_send: bool = True) -> None:
        """Create a counter; it counts all calls unless `until_send`."""
        self._until_send = until_send
        self.functions: list[str] = []
        """The functions in Python that were called."""
        self.builtins: list[str] = []
        """The built-in functions that were called."""
        self.files: list[str] = []
        """The files of the functions in Python."""

    def count(self, action: Callable[[], object]) -> None:
        """Call `action`."""
        sys.setprofile(self._observe)
        try:
            action()
        finally:
            sys.setprofile(None)

    def _observe(self, frame: Any, kind: str, function: Any) -> None:
        if self._until_send and "socket.send" in self.builtins:
            return
        if kind == "call":
            self.functions.append(frame.f_code.co_qualname)
            self.files.append(frame.f_code.co_filename)
        elif kind == "c_call":
            self.builtins.append(function.__qualname__)
        elif (
            self._until_send
            and kind == "c_return"
            and "socket.recv" not in self.builtins
            and (function.__qualname__ == "epoll.poll")
        ):
            self.functions, self.builtins, self.files = [], [], []


class EventCostTests(SynchronousTestCase):
    """An account with a journal on the disk, its upstream and a client, over real sockets."""

    def setUp(self) -> None:
        self.reactor: Any = EPollReactor()
        module: Any = txaio  # `config` is set at run time
        self.patch(module.config, "loop", self.reactor)
        self.patch(log, "callWithLogger", log.callWithLogger)
        drop_log_context()
        path = Path(self.mktemp()) / "paper.sqlite3"
        journal = journal_at(path, self.reactor, dates=dates_of(self.reactor))
        self.account = Account("paper", journal, self.reactor)
        self.account.open()
        self.addCleanup(self.account.close)
        self.alpaca = self.connect_upstream()
        factory = DownstreamFactory(Limits(), self.reactor, limit_sockets())
        self.site = build_site(
            {"paper": self.account},
            factory,
            Admission((), (), Tokens(())),
            self.reactor,
            self.reactor.seconds,
        )
        self.client = self.log_in()
        for n in range(3):  # the client joins a send group, and what is built once is built
            self.publish(event(n).payload)

    def connect(self, protocol: Any) -> socket.socket:
        """Connect a protocol of the proxy, and return the socket of its peer."""
        with socket.create_server(("127.0.0.1", 0)) as listening:
            ours = socket.create_connection(listening.getsockname())
            theirs, address = listening.accept()
        self.addCleanup(ours.close)
        self.addCleanup(theirs.close)
        ours.setblocking(False)
        no_port: Any = None
        transport = Server(ours, protocol, address, no_port, 0, self.reactor)
        protocol.makeConnection(transport)
        self.addCleanup(self.run_until, lambda: not transport.connected)
        self.addCleanup(transport.abortConnection)
        theirs.setblocking(False)
        return theirs

    def log_in(self, path: bytes = b"/paper") -> socket.socket:
        """Connect a client that sends its auth message and `listen`, and return its socket."""
        client = self.connect(self.site.buildProtocol(IPv4Address("TCP", "127.0.0.1", 1)))
        client.sendall(HANDSHAKE % path)
        self.assertIn(b" 101 ", self.receive(client))
        for message, reply in ((AUTH, b"auth"), (LISTEN, b"listening")):
            client.sendall(bytes([0x81, 0x80 | len(message), 0, 0, 0, 0]) + message)
            self.assertIn(reply, self.receive(client))
        return client

    def connect_upstream(self) -> socket.socket:
        """Connect the account's stream, and return Alpaca's socket."""
        settings = AccountSettings(
            "paper",
            BaseUrl(False, "127.0.0.1", 8100),
            KeyPair(Secret("PK"), Secret("secret")),
            Dialect.AUTH,
            "ALPACA_PAPER_API_KEY",
        )
        factory = UpstreamFactory(
            AccountKeys(settings), self.account, StreamListener(), self.reactor
        )
        alpaca = self.connect(factory.buildProtocol(None))
        key = accept_key(self.receive(alpaca))
        alpaca.sendall(f"{UPGRADED}Sec-WebSocket-Accept: {key}\r\n\r\n".encode())
        for frame in (AUTHORIZED, LISTENING):
            alpaca.sendall(bytes([0x82, len(frame)]) + frame)
        self.run_until(lambda: self.account.upstream.streaming)
        return alpaca

    def run_until(self, condition: Callable[[], object]) -> None:
        """Run turns of the reactor until the condition is true, and two more."""
        for _ in range(MAX_TURNS):
            if condition():
                break
            self.reactor.iterate(0.01)
        else:
            raise AssertionError("waited in vain")
        self.reactor.iterate(0)
        self.reactor.iterate(0)

    def receive(self, peer: socket.socket) -> bytes:
        """Return the next bytes that the proxy sends."""
        self.run_until(lambda: select([peer], [], [], 0)[0])
        return peer.recv(65_536)

    def publish(self, *payloads: bytes) -> None:
        """Send events in one write of Alpaca's, and receive them."""
        frames = [b"\x82\x7e" + len(each).to_bytes(2, "big") + each for each in payloads]
        last = self.account.journal.last + len(payloads)
        self.alpaca.sendall(b"".join(frames))
        self.run_until(lambda: self.account.journal.last == last)
        self.assertIn(payloads[-1], self.receive(self.client))

    def count(self, *payloads: bytes) -> tuple[int, int]:
        """Publish events, and return the number of calls: Python's functions, and built-in ones."""
        counter = CallCounter()
        counter.count(lambda: self.publish(*payloads))
        self.assertEqual(counter.builtins[-1], "socket.send")
        return len(counter.functions), len(counter.builtins)

    def assert_cost(self, limit: tuple[int, int], *payloads: bytes) -> None:
        """Assert that these events take at most this number of functions and built-in ones."""
        functions, builtins = self.count(*payloads)
        self.assertLessEqual(functions, limit[0])
        self.assertLessEqual(builtins, limit[1])

    def test_new_order_event_takes_few_calls(self) -> None:
        """31 functions in Python and 45 built-in ones; 149 and 105 at first."""
        self.assert_cost((36, 52), event(10).payload)

    def test_fill_takes_few_calls(self) -> None:
        """32 functions in Python and 48 built-in ones; 159 and 129 at first."""
        fields = {"execution_id": "e", "price": "100.5", "qty": "10"}
        fill = event(10, event="fill", status="filled", filled_qty="10", **fields)
        self.assert_cost((37, 55), fill.payload)

    def test_files_of_event_are_those_of_the_architecture(self) -> None:
        """A reader follows an event with that page alone."""
        counter = CallCounter()
        counter.count(lambda: self.publish(event(10).payload))
        self.assert_files(counter.files, 16, "## The way of an event\n", "Beside this way")

    def test_files_of_login_are_those_of_the_architecture(self) -> None:
        """From the accepted socket to the ack of `listen`, with the line in the log."""
        settings = LogSettings(format=LogFormat.JSON, level=Level.INFO)
        lines = io.StringIO()
        show = LogThrottle(observer(settings, lines))
        globalLogPublisher.addObserver(show)
        self.addCleanup(globalLogPublisher.removeObserver, show)
        for path in (b"/paper", b"/paper/stream"):
            self.log_in(path)  # what is built once is built
            counter = CallCounter(until_send=False)
            counter.count(partial(self.log_in, path))
            self.assert_files(counter.files, 24, "## The way of a client\n", "A request for the")
        self.assertIn("client connected", lines.getvalue())

    def assert_files(self, called: list[str], number: int, begin: str, end: str) -> None:
        """Assert how many files of the package were called, and that this part names each."""
        text = (Path(__file__).parents[2] / "docs" / "architecture.md").read_text()
        way = text.split(begin)[1].split(end)[0]
        package = f"{Path(tradeproxy.__file__).parent}/"
        files = sorted({file.removeprefix(package) for file in called if file.startswith(package)})
        self.assertEqual([file for file in files if f"`{file}`" not in way], [])
        self.assertEqual(len(files), number)

    def test_webhook_takes_no_call_before_the_send(self) -> None:
        """Its work begins once the clients have the event."""
        now = format_time(round(self.reactor.seconds() * 1_000_000))
        fields = {"event": "fill", "price": "100.5", "qty": "10", "filled_qty": "10", "at": now}
        fills = [event(n, execution_id=f"{n}", **fields).payload for n in range(10, 16)]
        before = min(map(self.count, fills[:3]))  # a timer or another socket may come between
        receiver = MemoryReceiver()
        webhooks = Webhooks(
            (webhook_with(),),
            {"paper": self.account},
            lambda _: receiver,
            "one",
            self.reactor,
            lambda: 1.0,
        )
        webhooks.startService()
        self.addCleanup(webhooks.stopService)
        self.assertEqual(min(map(self.count, fills[3:])), before)
        self.run_until(lambda: receiver.requests)
