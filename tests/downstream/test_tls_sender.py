"""Direct writes over TLS, on Twisted's real transports and real sockets."""

from __future__ import annotations

import shutil
import socket
import ssl
import struct
from collections.abc import Callable
from importlib.util import find_spec, module_from_spec
from types import SimpleNamespace
from typing import Any

from OpenSSL import SSL
from twisted.internet import reactor as chosen
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, ProcessProtocol, Protocol
from twisted.internet.ssl import CertificateOptions, PrivateCertificate
from twisted.internet.task import Clock
from twisted.internet.tcp import Server
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.python.failure import Failure
from twisted.python.monkey import MonkeyPatcher
from twisted.trial.unittest import SkipTest, SynchronousTestCase, TestCase

from tests.downstream.test_direct_write import Connection, RecordingProtocol, Writers
from tests.support.certificates import Authority, Identity
from tests.support.listening import listen
from tests.support.processes import PATIENCE
from tests.support.sockets import SocketTestCase
from tradeproxy.downstream import direct_write
from tradeproxy.downstream.direct_write import find_writer, write_direct

reactor: Any = chosen
SMALL_BUFFER = 4096
PLENTY = b"".join(b"%07d " % number for number in range(2_000_000))
"""More than the kernel buffers."""


def make_options(identity: Identity) -> CertificateOptions:
    """Return the server's side of TLS, with Twisted's defaults."""
    pem = identity.certificate.read_bytes() + identity.key.read_bytes()
    certificate = PrivateCertificate.loadPEM(pem)
    return CertificateOptions(certificate.privateKey.original, certificate.original)


def import_with(names: dict[str, Any]) -> Any:
    """Return another copy of the module, imported while pyOpenSSL has these names."""
    patcher = MonkeyPatcher(*((SSL, name, value) for name, value in names.items()))
    found = find_spec(direct_write.__name__)
    assert found is not None
    assert found.loader is not None
    module = module_from_spec(found)
    patcher.runWithPatches(found.loader.exec_module, module)
    return module


class TlsPeer:
    """A TLS client on a blocking socket: it decrypts what has arrived."""

    def __init__(self, end: socket.socket) -> None:
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        self.socket = end
        self._received = ssl.MemoryBIO()
        self._to_send = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._received, self._to_send)

    def shake_hands(self) -> bool:
        """Go on with the handshake, and return whether it is complete."""
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        finally:
            self.flush()
        return True

    def say(self, data: bytes) -> None:
        """Encrypt a record, which `flush` sends."""
        self._tls.write(data)

    def close(self) -> None:
        """Send the alert that ends TLS."""
        try:
            self._tls.unwrap()
        except ssl.SSLWantReadError:
            self.flush()

    def flush(self) -> None:
        if data := self._to_send.read():
            self.socket.sendall(data)

    def feed(self) -> bool:
        """Read from the socket; return False if nothing has arrived."""
        self.socket.settimeout(0.2)
        try:
            data = self.socket.recv(1 << 20)
        except (TimeoutError, ConnectionResetError):
            return False
        self._received.write(data)
        return bool(data)

    def taken(self) -> bytes:
        """Return what has been decrypted. An error in the order of records raises."""
        taken = b""
        while True:
            try:
                data = self._tls.read(1 << 20)
            except ssl.SSLWantReadError:
                return taken
            if not data:
                return taken
            taken += data


class TlsSenderTests(SynchronousTestCase):
    """All bytes arrive, once and in order, whether or not the socket takes them at once."""

    def setUp(self) -> None:
        authority = Authority(SocketTestCase.make_directory(self))  # type: ignore[arg-type]
        self.identity = authority.issue("127.0.0.1")
        self.writers = Writers()
        self.clock = Clock()
        self.open()

    def open(self) -> None:
        """Open a connection, which this object is then about."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            end = socket.socket()
            end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER)
            end.connect(listener.getsockname())
            self.accepted, address = listener.accept()
        self.addCleanup(end.close)
        self.addCleanup(self.accepted.close)
        self.accepted.setblocking(False)
        self.protocol = RecordingProtocol()
        application = Factory.forProtocol(lambda: self.protocol)
        factory = TLSMemoryBIOFactory(make_options(self.identity), False, application, self.clock)
        tls: Any = factory.buildProtocol(address)
        self.tls = tls
        needed: Any = (self.writers, None)
        self.tcp = Server(self.accepted, tls, address, needed[1], 0, needed[0])
        tls.makeConnection(self.tcp)
        transport: Any = self.protocol.transport
        self.connection = Connection(transport)
        self.peer = TlsPeer(end)

    def pump(self) -> None:
        """Let TCP's transport read and write, and run what is due."""
        self.clock.advance(0)
        try:
            self.tcp.doRead()
        except AttributeError:  # its socket is closed
            return
        if self.tcp in self.writers.waiting:
            self.tcp.doWrite()

    def connect(self) -> None:
        """Complete the handshake."""
        while not self.peer.shake_hands():
            self.pump()
            self.peer.feed()
        self.pump()

    def received(self) -> bytes:
        """Return everything that arrives, while the transport sends the rest."""
        taken = b""
        while True:
            self.pump()
            if not self.peer.feed():
                return taken
            taken += self.peer.taken()

    def find_send(self) -> Callable[[bytes], int]:
        """Return a function that sends as a group does, and returns how many bytes are taken."""
        sender = find_writer(self.connection)
        assert sender is not None
        send_all, target = sender
        return lambda data: send_all([target], data).get(target, len(data))

    def write(self, data: bytes) -> bool:
        return write_direct(self.connection, data, self.connection.write)

    def test_write_is_sent_at_once(self) -> None:
        """Nothing waits for the reactor, and nothing for the end of the turn."""
        self.connect()
        self.assertTrue(self.write(b"hello"))
        self.assertEqual((self.writers.waiting, self.clock.getDelayedCalls()), (set(), []))
        self.assertEqual(self.received(), b"hello")

    def test_short_write_rest_arrives_once_and_in_order(self) -> None:
        """The record that the socket did not take is queued as it is, and the rest behind it.

        A second encryption of the same bytes would be another record of the stream.
        """
        self.connect()
        self.assertFalse(self.write(PLENTY))
        self.assertIn(self.tcp, self.writers.waiting)
        self.write(b"behind it")
        self.assertEqual(self.received(), PLENTY + b"behind it")
        self.assertTrue(self.write(b" and at once again"))
        self.assertEqual(self.received(), b" and at once again")

    def test_sender_queues_at_most_one_record(self) -> None:
        """A full socket: what the sender does not take is left to the caller, unencrypted."""
        self.connect()
        send = self.find_send()
        taken = send(PLENTY)
        self.assertLess(taken, len(PLENTY))
        tcp: Any = self.tcp
        self.assertLess(tcp._tempDataLen, 17_000)  # noqa: SLF001
        self.assertEqual(send(b"more"), 0)
        self.assertEqual(self.received(), PLENTY[:taken])
        self.assertEqual(send(b"more"), 4)
        self.assertEqual(self.received(), b"more")

    def test_bytes_of_tls_are_not_overtaken(self) -> None:
        """An alert or an answer of TLS waits in the transport.

        A record that overtook it would have the wrong number, and the client would close.
        """
        self.connect()
        send = self.find_send()
        tls: Any = self.tls
        tls._tlsConnection.send(b"by TLS, ")  # noqa: SLF001
        tls._flushSendBIO()  # noqa: SLF001
        self.assertEqual(send(b"behind"), 0)
        self.assertIsNone(find_writer(self.connection))
        self.write(b"behind")
        self.assertEqual(self.received(), b"by TLS, behind")

    def test_client_that_waits_does_not_delay_others(self) -> None:
        """One loop serves both: the other gets its bytes at once, and is not reported."""
        self.connect()
        busy: Any = find_writer(self.connection)
        tls: Any = self.tls
        tls._tlsConnection.send(b"by TLS")  # noqa: SLF001
        tls._flushSendBIO()  # noqa: SLF001
        self.open()
        self.connect()
        other: Any = find_writer(self.connection)
        self.assertEqual(busy.send_all, other.send_all)
        for targets in ([busy.target, other.target], [other.target, busy.target]):
            self.assertEqual(other.send_all(targets, b"hello"), {busy.target: 0})
            self.assertEqual(self.received(), b"hello")

    def test_connection_that_is_not_ready_uses_fallback(self) -> None:
        """In the handshake, behind a write of the same turn, and while TLS is shut down."""
        self.assertIsNone(find_writer(self.connection))
        self.connect()
        self.connection.transport.write(b"1")
        self.write(b"2")
        self.assertEqual(self.received(), b"12")
        self.assertTrue(self.write(b"3"))
        self.tls.loseConnection()
        self.assertFalse(self.write(b"4"))
        self.assertEqual(self.connection.fallback, [b"2", b"4"])
        self.assertEqual(self.received(), b"3")

    def test_pyopenssl_with_other_names_uses_fallback(self) -> None:
        """Clients of a later pyOpenSSL are served through Twisted's queue, and nothing fails."""
        self.connect()
        without_clear = SimpleNamespace(SSL_write=None, BIO_read=None)
        for names in ({"_lib": None}, {"_ffi": None}, {"_lib": without_clear}):
            sender = import_with(names)
            self.assertFalse(sender.IS_SUPPORTED)
            self.assertIsNone(sender.find_target(self.tls))
            self.patch(direct_write, "find_target", sender.find_target)
            self.assertFalse(self.write(b"by the queue"))
            self.assertEqual(self.received(), b"by the queue")

    def test_connection_with_other_names_uses_fallback(self) -> None:
        """The same if the names of a connection have changed."""
        self.connect()
        connection = self.tls._tlsConnection  # noqa: SLF001
        for name in ("_ssl", "_into_ssl", "_from_ssl"):
            value = vars(connection).pop(name)
            self.assertIsNone(find_writer(self.connection))
            setattr(connection, name, value)
        self.assertIsNotNone(find_writer(self.connection))

    def test_replies_between_records_of_one_read(self) -> None:
        """The protocol replies to the first, and Twisted then reads the others: none is lost."""
        self.connect()
        received: list[bytes] = []

        def reply(data: bytes) -> None:
            received.append(data)
            self.write(b"to " + data + b", ")

        self.protocol.dataReceived = reply  # type: ignore[method-assign]
        for times in range(1, 4):
            for number in range(3):
                self.peer.say(b"%d" % number)
            self.peer.flush()
            self.pump()
            self.assertEqual(self.received(), b"to 0, to 1, to 2, ")
            self.assertEqual(received, [b"0", b"1", b"2"] * times)
            self.assertTrue(self.write(b"event"))
            self.assertEqual(self.received(), b"event")

    def test_sender_goes_on_after_a_read_and_a_reply(self) -> None:
        """A ping ends no membership of a send group; the reply is a write of its own."""
        self.connect()
        send = self.find_send()
        for _ in range(3):
            self.peer.say(b"ping")
            self.peer.flush()
            self.pump()
            self.assertTrue(self.write(b"pong, "))
            self.assertEqual(send(b"event"), 5)
            self.assertEqual(self.received(), b"pong, event")

    def test_lost_connection_takes_nothing(self) -> None:
        """Its socket is closed: another client may have the same number by then."""
        self.connect()
        send = self.find_send()
        self.assertEqual(send(b"hello"), 5)
        self.peer.socket.close()
        self.tcp.connectionLost(Failure(self.tcp.doRead()))
        self.assertEqual(send(b"hello"), 0)

    def test_client_that_ends_tls_gets_nothing_more(self) -> None:
        """The sender takes nothing then, and raises nothing: a send group has other members."""
        self.connect()
        send = self.find_send()
        self.peer.close()
        self.pump()
        self.assertEqual(send(b"hello"), 0)
        self.assertIsNone(find_writer(self.connection))

    def test_reset_is_reported_by_transport(self) -> None:
        """The transport finds a reset and reports it, as without TLS."""
        self.connect()
        self.peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.peer.socket.close()
        self.write(b"hello")
        self.clock.advance(0)
        self.assertTrue(self.tcp in self.writers.waiting)
        self.assertIsInstance(self.tcp.doWrite(), Exception)


class _Shell(ProcessProtocol):
    """Collects the output of `openssl s_client`."""

    def __init__(self) -> None:
        self.output = b""
        self.ended: Deferred[None] = Deferred()
        self._awaited: tuple[bytes, Deferred[None]] | None = None

    def outReceived(self, data: bytes) -> None:
        self.output += data
        if self._awaited is not None and self._awaited[0] in self.output:
            (_, found), self._awaited = self._awaited, None
            found.callback(None)

    errReceived = outReceived

    def processEnded(self, reason: Any) -> None:
        self.ended.callback(None)

    def says(self, text: bytes) -> Deferred[None]:
        """Return a Deferred that fires when the output contains the text."""
        found: Deferred[None] = Deferred()
        self._awaited = (text, found)
        self.outReceived(b"")
        return found.addTimeout(PATIENCE, reactor)


class _Receiver(Protocol):
    """Reports what arrives."""

    def __init__(self) -> None:
        self.connected_: Deferred[None] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        found, self.connected_ = self.connected_, Deferred()
        found.callback(None)


class OpensslTests(TestCase):
    """OpenSSL's own client, which can ask for what Python's cannot."""

    timeout = 60

    async def connect(self, *options: str) -> tuple[Any, Any]:
        """Return the client, which has sent something, and the server's protocol."""
        program = shutil.which("openssl")
        if program is None:
            raise SkipTest("openssl is not installed")
        authority = Authority(SocketTestCase.make_directory(self))  # type: ignore[arg-type]
        identity = authority.issue("127.0.0.1")
        server = _Receiver()
        factory = Factory.forProtocol(lambda: server)
        port = await listen(self, factory, identity.endpoint())
        shell = _Shell()
        address = f"127.0.0.1:{port}"
        process = reactor.spawnProcess(
            shell, program, ["openssl", "s_client", *options, address], {}
        )
        self.addCleanup(lambda: shell.ended)
        self.addCleanup(process.signalProcess, "KILL")
        arrived = server.connected_
        process.write(b"hello\n")
        await arrived
        connection: Any = server
        connection.send_queue = []
        return process, connection

    async def test_write_after_key_update_is_decrypted(self) -> None:
        """The client asks for new keys of the server. The answer goes before the next event.

        See RFC 8446, 4.6.3.
        """
        process, connection = await self.connect()
        shell = process.proto
        for number in range(5):
            arrived = connection.connected_
            shell.output = b""
            process.write(b"K\n")  # a command of s_client
            await shell.says(b"KEYUPDATE")
            process.write(b"what now?\n")
            await arrived
            event = b"event %d\n" % number
            self.assertTrue(write_direct(connection, event, connection.transport.write))
            await shell.says(event)

    async def test_client_with_small_records_gets_all_in_order(self) -> None:
        """OpenSSL then takes less of a write than it could, though the socket is not full.

        The rest of the first 16 KiB was left out. See RFC 6066, 4.
        """
        process, connection = await self.connect("-maxfraglen", "512")
        for large in (PLENTY[:1_000], PLENTY[:40_000]):
            process.proto.output = b""
            write_direct(connection, large, connection.transport.write)
            await process.proto.says(large)
