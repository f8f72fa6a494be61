"""Tests that a client which leaves is freed at once, without a garbage collection."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.tcp import Server

from tests.support.frames import AUTH
from tests.support.garbage import count_garbage
from tests.support.memory import CLIENT
from tests.support.plain import HANDSHAKE, TEXT, Socket
from tests.support.send_groups import SendGroupTestCase
from tests.support.socket_limits import limit_sockets
from tradeproxy.book.book import Book
from tradeproxy.config.settings import Limits
from tradeproxy.downstream.admission import Admission, Tokens
from tradeproxy.downstream.factory import DownstreamFactory
from tradeproxy.downstream.feed import INSERT_RETRY
from tradeproxy.web.site import build_site

CLIENTS = 10

FILTER = b"client_name=%b&symbols=" % (b"n" * 64) + b",".join(b"S%d" % n for n in range(100))
LOG_IN = bytes([0x80 | TEXT, 0x80 | len(AUTH), 0, 0, 0, 0]) + AUTH
GET = b"GET %b HTTP/1.1\r\nHost: localhost:8099\r\n\r\n"


class NoPeer:
    """A client that drops what it receives, and sends no wrong query."""

    def receive(self, data: bytes) -> None:
        assert b" 400 " not in data, data


class ChurnTests(SendGroupTestCase):
    """Clients that come, and reset their connections.

    Reference cycles kept 17 KB of each client with a long filter until a full garbage collection,
    up to a minute later. At 1,800 logins a second memory grew by 40 MB a second, and the collection
    stopped the stream for 3.8 seconds.
    """

    def setUp(self) -> None:
        super().setUp()
        self.books = {"paper": Book(self.account, self.kernel)}
        self.books["paper"].start()
        self.factory = DownstreamFactory(Limits(), self.kernel, limit_sockets(), self.books)
        self.site = build_site(
            {"paper": self.account},
            self.factory,
            Admission((), (), Tokens(())),
            self.kernel,
            self.kernel.seconds,
        )
        self.publish(20)

    def churn(
        self,
        *reads: bytes,
        room: int | None = None,
        turns: int = 3,
        then: Callable[[], None] = lambda: None,
    ) -> None:
        """Connect CLIENTS clients that send these bytes, run turns, call `then`, and reset them.

        Each of them reads `room` bytes, or everything.
        """
        sockets = []
        for _ in range(CLIENTS):
            sock: Any = Socket(NoPeer())  # type: ignore[arg-type]  # it only calls `receive`
            sock.room = room
            protocol: Any = self.site.buildProtocol(CLIENT)
            others: Any = (None, self.kernel)
            address = (CLIENT.host, CLIENT.port)
            protocol.makeConnection(Server(sock, protocol, address, others[0], 0, others[1]))
            sockets.append(sock)
        for data in reads:
            for sock in sockets:
                sock.unread += data
            self.kernel.turn(turns)
        then()
        for sock in sockets:
            sock.is_reset = True
        self.kernel.settle()
        assert all(sock.is_closed for sock in sockets)

    def assert_no_garbage(self, *reads: bytes, **options: Any) -> None:
        """Assert that no reference cycle is left of each client that does the same."""
        found = count_garbage(self, lambda: self.churn(*reads, **options), CLIENTS)
        self.assertEqual(found, {})
        self.assertEqual(len(self.factory.clients.sockets), 0)

    def test_logged_in_client_leaves_no_garbage(self) -> None:
        """It gets all events."""
        self.assert_no_garbage(HANDSHAKE % b"/paper", LOG_IN)

    def test_client_with_its_login_behind_the_request_leaves_no_garbage(self) -> None:
        """The HTTP connection passes on what it has read already."""
        self.assert_no_garbage(HANDSHAKE % b"/paper" + LOG_IN)

    def test_client_with_a_long_filter_leaves_no_garbage(self) -> None:
        """Its answers are unread."""
        self.assert_no_garbage(HANDSHAKE % b"/paper?%b" % FILTER, LOG_IN, room=200)

    def test_client_with_a_replay_leaves_no_garbage(self) -> None:
        """It does not read, so it has a stall timer."""
        path = b"/paper?replay=20&proxy_status=1&%b" % FILTER
        self.assert_no_garbage(HANDSHAKE % path, LOG_IN, room=300)

    def test_client_with_a_snapshot_leaves_no_garbage(self) -> None:
        """It leaves before the last part."""
        self.assert_no_garbage(HANDSHAKE % b"/paper?snapshot=1", LOG_IN, room=300)

    def test_client_that_has_waited_for_a_snapshot_leaves_no_garbage(self) -> None:
        """The book was not built when it first looked."""

        def build() -> None:
            self.books["paper"].start()
            for _ in range(3):
                self.kernel.advance(INSERT_RETRY)
                self.kernel.turn(3)
            self.books["paper"].stop()

        self.books["paper"].stop()
        self.assert_no_garbage(HANDSHAKE % b"/paper?snapshot=1", LOG_IN, then=build)

    def test_client_that_does_not_log_in_leaves_no_garbage(self) -> None:
        """It has a deadline."""
        self.assert_no_garbage(HANDSHAKE % b"/paper?%b" % FILTER)

    def test_closed_client_leaves_no_garbage(self) -> None:
        """It does not answer the close frame."""
        not_json = bytes([0x80 | TEXT, 0x81, 0, 0, 0, 0]) + b"?"
        self.assert_no_garbage(HANDSHAKE % b"/paper", LOG_IN, not_json)

    def test_refused_client_leaves_no_garbage(self) -> None:
        """No stream has this path."""
        self.assert_no_garbage(HANDSHAKE % b"/nothing")

    def test_server_sent_events_leave_no_garbage(self) -> None:
        """The response has no end."""
        self.assert_no_garbage(GET % b"/paper/v2/events/trades?%b" % FILTER)
        self.assert_no_garbage(GET % b"/paper/v2/events/trades?replay=20&%b" % FILTER, room=300)

    def test_page_leaves_no_garbage(self) -> None:
        """The client leaves before the answer, during it, and after it."""
        for path in (b"/metrics", b"/nothing", b"/paper/orders", b"/paper/state"):
            for turns in (1, 5):
                self.assert_no_garbage(GET % path, turns=turns)
                self.assert_no_garbage(GET % path, room=10, turns=turns)

    def test_incomplete_request_leaves_no_garbage(self) -> None:
        """Its head or its body has no end."""
        self.assert_no_garbage(b"GET /paper")
        for length in (b"Content-Length: 9", b"Transfer-Encoding: chunked"):
            self.assert_no_garbage(
                b"POST /paper HTTP/1.1\r\nHost: localhost\r\n%b\r\n\r\n1" % length
            )
