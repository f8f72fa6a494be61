"""Tests for tradeproxy.downstream.handshake_limits: the site over Twisted's TLS, in memory."""

from __future__ import annotations

import contextlib
import gc
from functools import partial
from typing import Any
from weakref import WeakSet

from OpenSSL import SSL
from twisted.internet.ssl import CertificateOptions, PrivateCertificate
from twisted.internet.tcp import Server
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.trial.unittest import SynchronousTestCase

from tests.support.certificates import Authority
from tests.support.garbage import count_garbage
from tests.support.memory import CLIENT
from tests.support.plain import Kernel, Socket
from tests.support.socket_limits import limit_sockets
from tests.support.sockets import SocketTestCase
from tradeproxy.config.settings import Limits
from tradeproxy.downstream.admission import Admission, Tokens
from tradeproxy.downstream.factory import DownstreamFactory
from tradeproxy.downstream.handshake_limits import (
    HELLOS_PER_TURN,
    MAX_HANDSHAKE,
    PER_TURN,
)
from tradeproxy.runtime import socket_limit
from tradeproxy.web.site import build_site

REQUEST = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"


class TlsClient:
    """A client of the site over TLS, whose socket is the test's."""

    def __init__(
        self,
        case: TlsHandshakesTests,
        version: int = SSL.TLS1_3_VERSION,
        host: str = CLIENT.host,
    ) -> None:
        context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        context.set_max_proto_version(version)
        self.tls = SSL.Connection(context)
        self.tls.set_connect_state()
        self.has_answer = False
        self.socket = Socket(self)  # type: ignore[arg-type]  # it only calls `receive`
        protocol: Any = case.factory.buildProtocol(CLIENT)
        kernel: Any = case.kernel
        unused: Any = None
        sock: Any = self.socket
        self.transport = Server(sock, protocol, (host, CLIENT.port), unused, 0, kernel)
        protocol.makeConnection(self.transport)

    def receive(self, data: bytes) -> None:
        """Give OpenSSL what the server sends; the socket calls this."""
        self.has_answer = True
        self.tls.bio_write(data)

    def send_hello(self) -> None:
        """Begin the handshake."""
        self.send(self.make_hello())

    def make_hello(self) -> bytes:
        """Return the first message of a handshake."""
        return self.go_on()

    def go_on(self) -> bytes:
        """Go on with the handshake; return what OpenSSL has to send."""
        with contextlib.suppress(SSL.WantReadError):
            self.tls.do_handshake()
        with contextlib.suppress(SSL.WantReadError):
            return self.tls.bio_read(MAX_HANDSHAKE)
        return b""

    def send(self, data: bytes) -> None:
        """Let the socket have these bytes."""
        self.socket.unread += data

    @property
    def is_connected(self) -> bool:
        """Whether the server has the connection."""
        return bool(self.transport.connected)


class TlsHandshakesTests(SynchronousTestCase):
    """Connections that have not finished their TLS handshake."""

    def setUp(self) -> None:
        self.kernel = Kernel()
        downstream = DownstreamFactory(Limits(handshake_timeout=60), self.kernel, limit_sockets())
        self.sockets = downstream.clients.sockets
        site = build_site(
            {}, downstream, Admission((), (), Tokens(())), self.kernel, self.kernel.seconds
        )
        authority = Authority(SocketTestCase.make_directory(self))  # type: ignore[arg-type]
        identity = authority.issue("localhost")
        loaded = PrivateCertificate.loadPEM(
            identity.certificate.read_bytes() + identity.key.read_bytes()
        )
        options = CertificateOptions(loaded.privateKey.original, loaded.original)
        clock: Any = self.kernel
        self.factory: Any = TLSMemoryBIOFactory(options, False, site, clock)
        self.states: WeakSet[Any] = WeakSet()
        make = self.factory._creatorCallable  # noqa: SLF001

        def make_counted(protocol: Any) -> Any:
            state = make(protocol)
            self.states.add(state)
            return state

        self.factory._creatorCallable = make_counted  # noqa: SLF001

    def connect(self, count: int, version: int = SSL.TLS1_3_VERSION) -> list[TlsClient]:
        return [TlsClient(self, version) for _ in range(count)]

    def count_states(self) -> int:
        """Return how many connections have a state of OpenSSL's."""
        gc.collect()
        return len(self.states)

    def count_answers(self, clients: list[TlsClient]) -> int:
        """Return how many hellos are answered, each with a signature."""
        return sum(client.has_answer for client in clients)

    def finish(self, client: TlsClient) -> None:
        """Go on with the handshake until nothing is left to send."""
        for _ in range(6):
            client.send(client.go_on())
            self.kernel.turn(2)

    def test_client_that_leaves_is_freed_without_a_collection(self) -> None:
        """The client leaves before, during or after the handshake.

        Twisted's own cycle, the traceback of a failed read, begins only at the end of a connection.
        So the next collection of young objects frees it.
        """

        def churn(steps: int) -> None:
            for client in self.connect(10):
                for _ in range(steps):
                    client.send(client.go_on())
                    self.kernel.turn(2)
                if steps > 2:
                    client.tls.send(REQUEST.replace(b"/healthz", b"/nothing"))
                    client.send(client.tls.bio_read(MAX_HANDSHAKE))
                    self.kernel.turn(2)
                client.socket.is_reset = True
                self.kernel.settle()
                del client.socket  # which refers to the client

        for steps in (0, 1, 2, 3):
            found = count_garbage(self, partial(churn, steps), 10)
            self.assertEqual(found.keys() & {"_Channel", "_Request", "_ProducerMembrane"}, set())

    def test_silent_sockets_have_no_tls_state(self) -> None:
        """2,000 sockets that sent nothing took 48 KB each: 95 MB."""
        self.connect(20)
        self.kernel.turn(2)
        self.assertEqual((self.count_states(), len(self.sockets)), (0, 20))

    def test_first_byte_begins_handshake_that_succeeds(self) -> None:
        """A client may send its hello in pieces; it gets its answer."""
        [client] = self.connect(1)
        hello = client.make_hello()
        client.send(hello[:1])
        self.kernel.turn(2)
        self.assertEqual(self.count_states(), 1)
        client.send(hello[1:])
        self.kernel.turn(2)
        self.finish(client)
        client.tls.send(REQUEST)
        client.send(client.tls.bio_read(MAX_HANDSHAKE))
        self.kernel.turn(4)
        self.assertIn(b"200 OK", client.tls.recv(65536))

    def test_many_hellos_in_a_turn_wait_for_later_turns(self) -> None:
        """2,000 hellos that came at once took 0.4 s of one turn: each needs a signature."""
        for client in (clients := self.connect(3 * HELLOS_PER_TURN)):
            client.send_hello()
        self.kernel.turn()
        self.assertEqual(self.count_states(), HELLOS_PER_TURN)
        self.kernel.turn(3)
        self.assertEqual(self.count_states(), 3 * HELLOS_PER_TURN)
        self.assertTrue(all(client.is_connected for client in clients))

    def test_rests_of_many_hellos_in_a_turn_wait_for_later_turns(self) -> None:
        """Only a first byte waited: the rests of 80 hellos were signed in one turn, 80 ms long."""
        clients = self.connect(3 * HELLOS_PER_TURN)
        hellos = [client.make_hello() for client in clients]
        for client, hello in zip(clients, hellos, strict=True):
            client.send(hello[:1])
        self.kernel.turn(5)
        self.assertEqual(self.count_answers(clients), 0)
        for client, hello in zip(clients, hellos, strict=True):
            client.send(hello[1:])
        answers = []
        for _ in range(4):
            self.kernel.turn()
            answers.append(self.count_answers(clients))
        self.assertEqual(answers, [HELLOS_PER_TURN * n for n in (1, 2, 3, 3)])

    def test_key_exchanges_of_tls_1_2_wait_for_later_turns(self) -> None:
        """They come after the answer, and may need the private key."""
        clients = self.connect(3 * HELLOS_PER_TURN, SSL.TLS1_2_VERSION)
        for client in clients:
            client.send_hello()
        self.kernel.turn(5)
        for client in clients:
            client.has_answer = False
            client.send(client.go_on())
        answers = []
        for _ in range(4):
            self.kernel.turn()
            answers.append(self.count_answers(clients))
        self.assertEqual(answers, [HELLOS_PER_TURN * n for n in (1, 2, 3, 3)])

    def test_ends_of_handshakes_need_no_turns_of_their_own(self) -> None:
        """They take no signature, and clients that reconnect at once waited longer for them."""
        clients = self.connect(PER_TURN)
        for client in clients:
            client.send_hello()
        self.kernel.turn(6)
        self.assertEqual(self.count_answers(clients), len(clients))
        for client in clients:
            self.send_end(client)
        self.kernel.turn(2)
        self.assertEqual(self.count_answers(clients), len(clients))

    def send_end(self, client: TlsClient) -> None:
        """Send the end of the handshake, and a request behind it."""
        client.has_answer = False
        end = client.go_on()
        client.tls.send(REQUEST)
        client.send(end + client.tls.bio_read(MAX_HANDSHAKE))

    def test_ends_of_aborted_handshakes_use_up_no_turn(self) -> None:
        """A limit aborts connections whose ends wait. The next client waited for them."""
        *clients, late = self.connect(4 * PER_TURN + 1)
        for client in (*clients, late):
            client.send_hello()
        self.kernel.turn(4 * PER_TURN // HELLOS_PER_TURN + 2)
        self.assertEqual(self.count_answers(clients), len(clients))
        for client in clients:
            self.send_end(client)
        self.kernel.turn()
        waiting = [client for client in clients if not client.has_answer]
        self.assertEqual(len(waiting), 3 * PER_TURN)
        for client in waiting:
            client.transport.abortConnection()
        self.send_end(late)
        self.kernel.turn(2)
        self.assertTrue(late.has_answer)

    def test_byte_by_byte_handshake_succeeds(self) -> None:
        """Each byte waits for its turn, in order; what follows the handshake does not."""
        clients = self.connect(2 * HELLOS_PER_TURN)
        for data in zip(*[client.make_hello() for client in clients], strict=False):
            for client, byte in zip(clients, data, strict=True):
                client.send(bytes([byte]))
            self.kernel.turn(3)
        self.assertEqual(self.count_answers(clients), len(clients))
        for client in clients:
            self.finish(client)
            client.tls.send(REQUEST)
            client.send(client.tls.bio_read(MAX_HANDSHAKE))
        self.kernel.turn(4)
        for client in clients:
            self.assertIn(b"200 OK", client.tls.recv(65536))

    def test_unfinished_handshakes_beyond_limit_wait_then_replace_oldest(self) -> None:
        """2,000 half hellos took 56 KB each, and 10,000 would have taken 560 MB."""
        self.patch(socket_limit, "MAX_ENCRYPTED", 3)
        clients = self.connect(5)
        for client in clients[:4]:
            client.send(client.make_hello()[:100])
        self.kernel.turn(2)
        self.assertEqual(self.count_states(), 3)
        self.assertTrue(all(client.is_connected for client in clients))
        self.kernel.advance(socket_limit.LOGIN_TIME)
        self.kernel.turn(2)
        self.assertEqual([each.is_connected for each in clients], [False, True, True, True, True])
        self.assertEqual(self.count_states(), 3)

    def test_newcomer_does_not_wait_behind_handshakes_that_never_finish(self) -> None:
        """With 2,000 unfinished ones, each newcomer had to wait 5 s, and gave up before."""
        self.patch(socket_limit, "MAX_ENCRYPTED", 3)
        *unfinished, newcomer = self.connect(7)
        for client in unfinished:
            client.send(client.make_hello()[:100])
        self.kernel.turn(2)
        newcomer.send_hello()
        self.kernel.turn(2)
        self.kernel.advance(socket_limit.LOGIN_TIME)
        self.kernel.turn(2)
        self.finish(newcomer)
        newcomer.tls.send(REQUEST)
        newcomer.send(newcomer.tls.bio_read(MAX_HANDSHAKE))
        self.kernel.turn(4)
        self.assertIn(b"200 OK", newcomer.tls.recv(65536))

    def test_client_of_another_address_need_not_wait_for_a_place(self) -> None:
        """One address that sent the first byte of 1,500 hellos a second shut all others out."""
        self.patch(socket_limit, "MAX_ENCRYPTED", 3)
        flood = self.connect(30)
        for client in flood:
            client.send(client.make_hello()[:1])
        self.kernel.turn(2)
        newcomer = TlsClient(self, host="192.0.2.2")
        newcomer.send_hello()
        self.kernel.turn(2)
        for client in self.connect(30):
            client.send(client.make_hello()[:1])
        self.kernel.advance(0.05)
        self.finish(newcomer)
        newcomer.tls.send(REQUEST)
        newcomer.send(newcomer.tls.bio_read(MAX_HANDSHAKE))
        self.kernel.turn(4)
        self.assertIn(b"200 OK", newcomer.tls.recv(65536))
        self.assertEqual([each.is_connected for each in flood], [False] + [True] * 29)

    def test_handshake_that_is_too_long_is_aborted(self) -> None:
        """OpenSSL keeps 200 KB for the largest hello."""
        [client] = self.connect(1)
        size = MAX_HANDSHAKE.to_bytes(2, "big")
        hello = b"\x16\x03\x01" + size + b"\x01\x00\x80\x00\x03\x03" + bytes(MAX_HANDSHAKE - 11)
        for at in range(0, MAX_HANDSHAKE, 1000):
            client.send(hello[at : at + 1000])
            self.kernel.turn(2)
        self.assertTrue(client.is_connected)
        client.send(b"\0")
        self.kernel.turn(2)
        self.assertFalse(client.is_connected)

    def test_end_before_handshake_frees_place(self) -> None:
        """The socket ends without a byte, with half a hello, or while its hello waits."""
        silent, half, *waiting = self.connect(2 + 2 * HELLOS_PER_TURN)
        half.send(half.make_hello()[:10])
        self.kernel.turn(2)
        for client in waiting:
            client.send_hello()
        for client in (silent, half, *waiting):
            client.socket.is_reset = True
        self.kernel.turn(6)
        self.assertEqual((len(self.sockets), self.count_states()), (0, 0))
        self.flushLoggedErrors(SSL.Error)
