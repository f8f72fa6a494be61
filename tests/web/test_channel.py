"""Tests for tradeproxy.web.channel: Twisted's transport, on sockets that take what a test lets them."""

from __future__ import annotations

import re
from typing import Any

from twisted.internet.tcp import Server
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request

from tests.support.journals import event, memory_journal
from tests.support.memory import CLIENT
from tests.support.plain import TURN, Kernel, Socket
from tradeproxy.config.settings import Limits
from tradeproxy.downstream.admission import Admission, Tokens
from tradeproxy.downstream.factory import DownstreamFactory
from tradeproxy.downstream.handshake_limits import PER_TURN
from tradeproxy.downstream.sse import GRACE
from tradeproxy.hub.account import Account
from tradeproxy.web.site import build_site
from tradeproxy.wire.event import format_time
from tradeproxy.wire.messages import TradeUpdate, parse_server

READ = 65536
"""Bytes that Twisted reads at once; and those that wait to be sent, of which it says that they are many."""
MUCH = 10_000_000
KEPT = READ + 0x4000
"""Bytes that may be kept of requests: up to Twisted's limit, and one read more."""
REQUEST = b"GET %b HTTP/1.1\r\nHost: localhost\r\n\r\n"


class Caller:
    """A client that writes what it is told to, and keeps what comes back."""

    def __init__(self, site: CallTestCase) -> None:
        self.received = b""
        self.socket = Socket(self)  # type: ignore[arg-type]  # as much of a Peer as it takes
        protocol = site.site.buildProtocol(CLIENT)
        address: Any = (CLIENT.host, CLIENT.port)
        sock: Any = self.socket
        port: Any = None
        kernel: Any = site.kernel
        self.transport = Server(sock, protocol, address, port, 0, kernel)
        protocol.makeConnection(self.transport)

    def receive(self, data: bytes) -> None:
        """Keep it; its socket calls this."""
        self.received += data

    def ask(self, *paths: str) -> None:
        """Send requests, without waiting for the answers to those before them."""
        self.socket.unread += b"".join(REQUEST % path.encode() for path in paths)

    @property
    def named(self) -> list[str]:
        """The accounts that the answers name, in their order: each is answered that it is not set up."""
        return re.findall(r"no account '(\w+)' here", self.received.decode())

    @property
    def waiting(self) -> int:
        """How many bytes the proxy keeps for it."""
        return (
            len(self.transport.dataBuffer) + self.transport._tempDataLen
        )  # Twisted has the rest there


class CallTestCase(SynchronousTestCase):
    """The site with one account; it holds no test."""

    def setUp(self) -> None:
        self.kernel = Kernel()
        self.paper = Account("paper", memory_journal(self.kernel, "paper"), self.kernel)
        self.paper.mark_upstream_up()
        clients = DownstreamFactory(Limits(handshake_timeout=60), self.kernel)
        self.site = build_site(
            {"paper": self.paper}, clients, Admission((), (), Tokens(())), self.kernel
        )

    def publish(self, count: int) -> None:
        """Let so many events happen, of a kilobyte each and more."""
        for number in range(self.paper.journal.last, self.paper.journal.last + count):
            update = parse_server(event(number, note="x" * 1000).payload)
            assert isinstance(update, TradeUpdate)
            self.paper.publish(update.event)

    def stream(self, seconds: int = 3600) -> Caller:
        """Connect a client of server-sent events, which ends after so many seconds."""
        caller, now = Caller(self), round(self.kernel.seconds() * 1_000_000)
        span = f"since={format_time(now)}&until={format_time(now + seconds * 1_000_000)}"
        caller.ask(f"/paper/v2/events/trades?{span}")
        self.kernel.turn(4)
        self.assertIn(b"200 OK", caller.received)
        return caller

    def crowd(self, turns: int = 2) -> None:
        """Let others take all the places that there are in so many turns."""
        for _ in range(turns * PER_TURN):
            Caller(self).ask("/healthz")


class PipelineTests(CallTestCase):
    """Requests that do not wait for the answers to those before them."""

    names = tuple(f"a{number}" for number in range(300))

    def test_are_answered_in_their_order(self) -> None:
        """Sent at once, and in pieces that end anywhere."""
        whole, pieces = Caller(self), Caller(self)
        whole.ask(*(f"/trade-updates-{name}" for name in self.names))
        data = whole.socket.unread
        for begin in range(0, len(data), 777):
            pieces.socket.unread += data[begin : begin + 777]
            self.kernel.turn()
        self.kernel.settle()
        for caller in (whole, pieces):
            self.assertEqual(caller.named, list(self.names))

    def test_are_answered_in_their_order_at_a_busy_door(self) -> None:
        """What was read waits its turn, and nothing is read meanwhile."""
        caller = Caller(self)
        for name in self.names[:20]:
            self.crowd()
            caller.ask(f"/trade-updates-{name}")
            self.kernel.turn()
        self.assertLess(len(caller.named), 10)
        self.kernel.settle()
        self.assertEqual(caller.named, list(self.names[:20]))

    def test_what_came_during_an_answer_is_before_what_waits_at_the_door(self) -> None:
        """An answer may take its time; here it ends while the request after the next waits its turn."""
        caller = self.stream(1)
        caller.ask("/trade-updates-first")
        self.kernel.advance(1 + GRACE - 8 * TURN)
        self.crowd(10)
        self.kernel.turn()
        caller.ask("/trade-updates-second")
        self.kernel.turn()
        self.assertEqual((caller.socket.unread, caller.named), (b"", []))
        self.kernel.turn(4)
        self.assertEqual(caller.named, ["first"])
        self.kernel.settle()
        self.assertEqual(caller.named, ["first", "second"])
        self.assertEqual(caller.received.count(b"HTTP/1.1 "), 3)

    def test_cost_little_where_nobody_reads_the_answers(self) -> None:
        """Neither answers nor requests pile up; once they are read, all are answered."""
        caller = Caller(self)
        caller.socket.room = 0
        caller.ask(*["/metrics?" + 200 * "x"] * 600)
        sent = len(caller.socket.unread)
        self.kernel.settle()
        self.assertLess(caller.waiting, 128 * 1024)
        self.assertLessEqual(sent - len(caller.socket.unread), KEPT)
        caller.socket.room = None
        self.kernel.settle()
        self.assertEqual(caller.received.count(b"HTTP/1.1 200 OK"), 600)

    def test_cost_little_where_the_answers_are_read_a_little_at_a_time(self) -> None:
        """However often there is room for some bytes."""
        caller = Caller(self)
        caller.socket.room = 0
        caller.ask(*["/metrics"] * 300)
        most = 0
        for _ in range(200):
            caller.socket.room = 1000
            self.kernel.turn()
            most = max(most, caller.waiting)
        self.assertLess(most, 128 * 1024)
        caller.socket.room = None
        self.kernel.settle()
        self.assertEqual(caller.received.count(b"HTTP/1.1 200 OK"), 300)


class Pages(Resource):
    """One that is answered when a test wants it to be, and others that are answered at once."""

    isLeaf = True

    def render(self, request: Request) -> bytes | int:
        if request.path != b"/late":
            return b"soon"
        self.late = request
        return NOT_DONE_YET


class LateAnswerTests(CallTestCase):
    """An answer that comes while the next requests wait at the door, as those of Alpaca's own may."""

    def test_costs_little_where_nobody_reads_it(self) -> None:
        """The door lets its connection be read from again, which is of no use then."""
        self.site.resource = pages = Pages()
        caller = Caller(self)
        caller.ask("/late")
        self.kernel.turn(4)
        self.crowd(8)
        self.kernel.turn()
        caller.ask(*["/?" + 200 * "x"] * 2000)
        self.kernel.turn()
        caller.socket.room, sent = 0, len(caller.socket.unread)
        pages.late.write(b"x" * MUCH)
        pages.late.finish()
        self.kernel.settle()
        self.assertLessEqual(sent - len(caller.socket.unread), KEPT - READ)
        caller.socket.room = None
        self.kernel.settle()
        self.assertEqual(caller.received.count(b"soon"), 2000)


class StreamTests(CallTestCase):
    """Clients of server-sent events that send more, which the answer's end alone would make a request."""

    def test_what_they_send_costs_little(self) -> None:
        """While they read, and while they do not."""
        for room in (None, 0):
            caller = self.stream()
            caller.socket.room = room
            self.publish(200)
            self.kernel.settle()
            self.assertEqual(caller.waiting > 0, room == 0)
            caller.socket.unread += b"x" * MUCH
            self.kernel.settle()
            self.assertGreaterEqual(len(caller.socket.unread), MUCH - KEPT, room)

    def test_they_are_served_on(self) -> None:
        """Events come, whatever waits there unread, and little of them waits for one who does not read."""
        caller = self.stream()
        caller.socket.unread += b"x" * MUCH
        self.kernel.turn(4)
        self.publish(100)
        self.kernel.settle()
        self.assertEqual(caller.received.count(b'"event_id"'), 100)
        caller.socket.room = 0
        self.publish(1000)
        self.kernel.settle()
        self.assertLess(caller.waiting, 512 * 1024)
        caller.socket.room = None
        self.kernel.settle()
        self.assertEqual(caller.received.count(b'"event_id"'), 1100)


class HeaderTests(CallTestCase):
    """What every answer says."""

    def test_no_answer_is_to_be_taken_for_something_else(self) -> None:
        """A browser would look into a text for signs of a script, and into an error too."""
        for path in ("/metrics", "/status.json", "/healthz", "/readyz", "/", "/nothing", "/paper"):
            caller = Caller(self)
            caller.ask(path)
            self.kernel.settle()
            head = caller.received.partition(b"\r\n\r\n")[0].lower()
            self.assertEqual(head.count(b"x-content-type-options: nosniff"), 1, path)
