"""Tests for tradeproxy.web.channel: real Twisted transports on sockets of a fake kernel."""

from __future__ import annotations

import json
import re
from typing import Any

from twisted.internet.tcp import Server
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request

from tests.support.journals import event, memory_journal
from tests.support.memory import CLIENT
from tests.support.plain import TURN, Kernel, Socket
from tests.support.socket_limits import limit_sockets
from tradeproxy.config.settings import Limits
from tradeproxy.downstream.admission import Admission, Tokens
from tradeproxy.downstream.factory import DownstreamFactory
from tradeproxy.downstream.handshake_limits import PER_TURN
from tradeproxy.downstream.sse import GRACE
from tradeproxy.hub.account import Account
from tradeproxy.web.channel import LINGER
from tradeproxy.web.site import build_site
from tradeproxy.wire.event import format_time
from tradeproxy.wire.messages import TradeUpdate, parse_server

READ = 65536
"""Bytes that Twisted reads at once; also the send buffer at which it pauses a producer."""
MUCH = 10_000_000
KEPT = READ + 0x4000
"""Bytes of requests that may be buffered: Twisted's limit and one read more."""
REQUEST = b"GET %b HTTP/1.1\r\nHost: localhost\r\n\r\n"


class HttpClient:
    """A client that sends requests and records the bytes of the responses."""

    def __init__(self, site: ChannelTestCase) -> None:
        self.received = b""
        self.socket = Socket(self)  # type: ignore[arg-type]  # it only calls `receive`
        protocol = site.site.buildProtocol(CLIENT)
        address: Any = (CLIENT.host, CLIENT.port)
        sock: Any = self.socket
        port: Any = None
        kernel: Any = site.kernel
        self.transport = Server(sock, protocol, address, port, 0, kernel)
        protocol.makeConnection(self.transport)

    def receive(self, data: bytes) -> None:
        """Record received bytes; the socket calls this."""
        self.received += data

    def send_requests(self, *paths: str) -> None:
        """Send pipelined requests, without waiting for responses."""
        self.socket.unread += b"".join(REQUEST % path.encode() for path in paths)

    @property
    def answered_names(self) -> list[str]:
        """The names in the 404 responses, in order: none of these accounts exists."""
        return re.findall(r"no account '(\w+)' here", self.received.decode())

    @property
    def unsent(self) -> int:
        """The number of bytes that the proxy buffers for this client."""
        # Twisted keeps new data in a list until it joins it with the buffer.
        return len(self.transport.dataBuffer) + self.transport._tempDataLen  # noqa: SLF001


class ChannelTestCase(SynchronousTestCase):
    """The site with one account, on sockets whose kernel buffers the test controls."""

    def setUp(self) -> None:
        self.kernel = Kernel()
        self.paper = Account("paper", memory_journal(self.kernel, "paper"), self.kernel)
        self.paper.mark_upstream_up()
        factory = DownstreamFactory(Limits(handshake_timeout=60), self.kernel, limit_sockets())
        self.site = build_site(
            {"paper": self.paper},
            factory,
            Admission((), (), Tokens(())),
            self.kernel,
            self.kernel.seconds,
        )

    def publish(self, count: int) -> None:
        """Publish `count` events of more than 1 kB each."""
        for number in range(self.paper.journal.last, self.paper.journal.last + count):
            update = parse_server(event(number, note="x" * 1000).payload)
            assert isinstance(update, TradeUpdate)
            self.paper.publish(update.event)

    def stream(self, seconds: int = 3600) -> HttpClient:
        """Connect a client of server-sent events whose query ends after `seconds`."""
        client, now = HttpClient(self), round(self.kernel.seconds() * 1_000_000)
        query = f"since={format_time(now)}&until={format_time(now + seconds * 1_000_000)}"
        client.send_requests(f"/paper/v2/events/trades?{query}")
        self.kernel.turn(4)
        self.assertIn(b"200 OK", client.received)
        return client

    def fill_throttle(self, turns: int = 2) -> None:
        """Use up the handshake throttle for this many reactor turns."""
        for _ in range(turns * PER_TURN):
            HttpClient(self).send_requests("/healthz")


class PipelineTests(ChannelTestCase):
    """Pipelined requests: the client does not wait for responses."""

    names = tuple(f"a{number}" for number in range(300))

    def test_idle_site_does_not_wake_the_process(self) -> None:
        """Twisted keeps the time for its access log with a call each second."""
        before = self.kernel.getDelayedCalls()
        self.site.startFactory()
        self.addCleanup(self.site.stopFactory)
        self.assertEqual(self.kernel.getDelayedCalls(), before)

    def test_pipeline_sent_in_any_pieces_is_answered_in_order(self) -> None:
        """Requests in one write, and in pieces that end anywhere, get responses in their order."""
        whole, pieces = HttpClient(self), HttpClient(self)
        whole.send_requests(*(f"/trade-updates-{name}" for name in self.names))
        data = whole.socket.unread
        for begin in range(0, len(data), 777):
            pieces.socket.unread += data[begin : begin + 777]
            self.kernel.turn()
        self.kernel.settle()
        for client in (whole, pieces):
            self.assertEqual(client.answered_names, list(self.names))

    def test_pipeline_requests_count_in_the_limit_of_a_turn(self) -> None:
        """A read of 2 KiB holds 50 requests; ten such clients would take a tenth of a second."""
        clients = [HttpClient(self) for _ in range(10)]
        for client in clients:
            client.send_requests(*(f"/trade-updates-{name}" for name in self.names[:50]))
        answered, most = 0, 0
        while answered < 500:
            self.kernel.turn()
            before, answered = answered, sum(len(client.answered_names) for client in clients)
            most = max(most, answered - before)
        self.assertLessEqual(most, 2 * PER_TURN)  # of the timer's and of the reads' turn
        for client in clients:
            self.assertEqual(client.answered_names, list(self.names[:50]))

    def test_pipeline_while_throttled_is_answered_in_order(self) -> None:
        """Received bytes wait for the throttle, and the transport is paused until then."""
        client = HttpClient(self)
        for name in self.names[:20]:
            self.fill_throttle()
            client.send_requests(f"/trade-updates-{name}")
            self.kernel.turn()
        self.assertLess(len(client.answered_names), 10)
        self.kernel.settle()
        self.assertEqual(client.answered_names, list(self.names[:20]))

    def test_pipeline_buffered_during_response_precedes_throttled_bytes(self) -> None:
        """A response ends while a later request waits for the throttle."""
        client = self.stream(1)
        client.send_requests("/trade-updates-first")
        self.kernel.advance(1 + GRACE - 8 * TURN)
        self.fill_throttle(10)
        self.kernel.turn()
        client.send_requests("/trade-updates-second")
        self.kernel.turn()
        self.assertEqual((client.socket.unread, client.answered_names), (b"", []))
        self.kernel.turn(4)
        self.assertEqual(client.answered_names, ["first"])
        self.kernel.settle()
        self.assertEqual(client.answered_names, ["first", "second"])
        self.assertEqual(client.received.count(b"HTTP/1.1 "), 3)

    def test_pipeline_unread_responses_are_bounded_in_memory(self) -> None:
        """Neither responses nor requests pile up; once the client reads, all are answered."""
        client = HttpClient(self)
        client.socket.room = 0
        client.send_requests(*["/metrics?" + 200 * "x"] * 600)
        sent = len(client.socket.unread)
        self.kernel.settle()
        self.assertLess(client.unsent, 128 * 1024)
        self.assertLessEqual(sent - len(client.socket.unread), KEPT)
        client.socket.room = None
        self.kernel.settle()
        self.assertEqual(client.received.count(b"HTTP/1.1 200 OK"), 600)

    def test_pipeline_slowly_read_responses_are_bounded_in_memory(self) -> None:
        """The bound also holds if the client reads a few bytes at a time."""
        client = HttpClient(self)
        client.socket.room = 0
        client.send_requests(*["/metrics"] * 300)
        most = 0
        for _ in range(200):
            client.socket.room = 1000
            self.kernel.turn()
            most = max(most, client.unsent)
        self.assertLess(most, 128 * 1024)
        client.socket.room = None
        self.kernel.settle()
        self.assertEqual(client.received.count(b"HTTP/1.1 200 OK"), 300)


class LatePage(Resource):
    """Answers /late when the test does so, and every other path at once."""

    isLeaf = True

    def render(self, request: Request) -> bytes | int:
        if request.path != b"/late":
            return b"soon"
        self.late = request
        return NOT_DONE_YET


class LateAnswerTests(ChannelTestCase):
    """A response that is ready while the next requests wait for the throttle."""

    def test_late_response_unread_does_not_resume_reading(self) -> None:
        """The throttle resumes the transport, but nothing more is read until the client reads."""
        self.site.resource = pages = LatePage()
        client = HttpClient(self)
        client.send_requests("/late")
        self.kernel.turn(4)
        self.fill_throttle(8)
        self.kernel.turn()
        client.send_requests(*["/?" + 200 * "x"] * 2000)
        self.kernel.turn()
        client.socket.room, sent = 0, len(client.socket.unread)
        pages.late.write(b"x" * MUCH)
        pages.late.finish()
        self.kernel.settle()
        self.assertLessEqual(sent - len(client.socket.unread), KEPT - READ)
        client.socket.room = None
        self.kernel.settle()
        self.assertEqual(client.received.count(b"soon"), 2000)


class StreamTests(ChannelTestCase):
    """Clients of server-sent events that send more bytes during their response."""

    def test_bytes_during_stream_are_bounded_in_memory(self) -> None:
        """The bound holds whether or not the client reads."""
        for room in (None, 0):
            client = self.stream()
            client.socket.room = room
            self.publish(200)
            self.kernel.settle()
            self.assertEqual(client.unsent > 0, room == 0)
            client.socket.unread += b"x" * MUCH
            self.kernel.settle()
            self.assertGreaterEqual(len(client.socket.unread), MUCH - KEPT, room)

    def test_bytes_during_stream_do_not_stop_events(self) -> None:
        """Events are sent; few are buffered for a client that does not read."""
        client = self.stream()
        client.socket.unread += b"x" * MUCH
        self.kernel.turn(4)
        self.publish(100)
        self.kernel.settle()
        self.assertEqual(client.received.count(b'"event_id"'), 100)
        client.socket.room = 0
        self.publish(1000)
        self.kernel.settle()
        self.assertLess(client.unsent, 512 * 1024)
        client.socket.room = None
        self.kernel.settle()
        self.assertEqual(client.received.count(b'"event_id"'), 1100)


class UnparsedRequestTests(ChannelTestCase):
    """Requests that are answered before their end: the client gets the answer, then the end."""

    def refuse(self, request: bytes) -> tuple[bytes, dict[str, Any]]:
        """Return status line and document of the answer; the rest of the request is discarded."""
        client = HttpClient(self)
        client.socket.unread = request
        self.kernel.settle()
        self.assertEqual(client.socket.unread, b"")
        client.send_requests("/paper")
        self.kernel.settle()
        self.assertEqual(client.received.count(b"HTTP/1.1 "), 1)
        self.assertTrue(client.transport.connected)
        self.kernel.advance(LINGER)
        self.kernel.settle()
        self.assertFalse(client.transport.connected)
        head, _, body = client.received.partition(b"\r\n\r\n")
        return head.partition(b"\r\n")[0], json.loads(body)

    def test_content_length_of_many_digits_is_400(self) -> None:
        """Python reads at most 4300 digits: a stranger could fill the log with tracebacks."""
        for digits in (20, 4301):
            answer = self.refuse(b"POST / HTTP/1.1\r\nContent-Length: %b\r\n\r\n" % (b"9" * digits))
            self.assertIn(b" 400 ", answer[0])

    def test_headers_over_the_limit_are_431(self) -> None:
        """Both limits: 16 KiB in one line or in many, and 500 headers."""
        for headers in (
            b"X: " + b"x" * 16_384 + b"\r\n",
            b"".join(b"X%d: %b\r\n" % (n, b"x" * 100) for n in range(1000)),
            b"X: x\r\n" * 501,
            b"X: " + b"x" * 1_000_000,
        ):
            status, document = self.refuse(b"GET /paper HTTP/1.1\r\n" + headers + b"\r\n")
            self.assertEqual(status, b"HTTP/1.1 431 Request Header Fields Too Large")
            self.assertEqual(document["code"], 43_110_000)
        long_target = b"GET /paper?%b HTTP/1.1\r\n\r\n" % (b"x" * 20_000)
        self.assertIn(b" 431 ", self.refuse(long_target)[0])

    def test_other_bytes_are_400(self) -> None:
        """What is no HTTP request, such as the hello of TLS."""
        for request in (
            b"\x16\x03\x01 hello\r\n",
            b"GET /paper HTTP/1.1\r\nno header\r\nHost: x\r\n\r\n",
            b"GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n",
        ):
            status, document = self.refuse(request)
            self.assertEqual(status, b"HTTP/1.1 400 Bad Request")
            self.assertEqual(document["code"], 40_010_000)


class HeaderTests(ChannelTestCase):
    """Headers of every response."""

    def test_every_response_has_nosniff(self) -> None:
        """Without the header a browser may run a text response as a script; errors have it too."""
        for path in ("/metrics", "/status.json", "/healthz", "/readyz", "/", "/nothing", "/paper"):
            client = HttpClient(self)
            client.send_requests(path)
            self.kernel.settle()
            head = client.received.partition(b"\r\n\r\n")[0].lower()
            self.assertEqual(head.count(b"x-content-type-options: nosniff"), 1, path)
