"""Tests for the upstream client: the events of one read of the socket are one batch."""

from __future__ import annotations

import os
from typing import Any
from unittest import mock

from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.ssl import DefaultOpenSSLContextFactory
from twisted.internet.testing import MemoryReactorClock
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from twisted.python.failure import Failure

from tests.support.certificates import Authority
from tests.support.frames import AUTHORIZED, LISTENING
from tests.support.impostors import UPGRADED, accept_key
from tests.support.journals import event
from tests.support.memory import Wires
from tests.upstream.client_case import UpstreamClientTestCase
from tests.upstream.test_handshake import RawConnectionTestCase
from tradeproxy.config.accounts import BaseUrl
from tradeproxy.journal.base import Batch
from tradeproxy.upstream.client import FRAMES_PER_TURN, upstream_endpoint


def encode_event(n: int) -> bytes:
    """Return the frame of event `n`, as Alpaca sends it."""
    payload = event(n).payload
    return b"\x82\x7e" + len(payload).to_bytes(2, "big") + payload


class BatchRecorder:
    """A subscriber that records the numbers of the rows of each batch."""

    size = 1

    def __init__(self) -> None:
        self.batches: list[list[int]] = []

    def deliver(self, batch: Batch) -> None:
        self.batches.append([row.seq for row in batch.rows])

    def announce(self, status: bytes) -> None:
        pass

    def abort(self) -> None:
        raise AssertionError("nothing here fails")


class ReadBatchTests(RawConnectionTestCase):
    """The events of a read over TCP."""

    def setUp(self) -> None:
        super().setUp()
        self.subscriber = BatchRecorder()
        self.account.broadcaster.register(self.subscriber)
        self.open()
        self.stream()

    def test_events_of_one_read_are_delivered_at_its_end(self) -> None:
        """Without another turn of the reactor, whoever reads the frames."""
        self.receive(encode_event(1))
        self.receive(encode_event(2) + b"\x8a\x00" + encode_event(3) + encode_event(4)[:9])
        self.receive(encode_event(4)[9:])
        self.assertEqual(self.subscriber.batches, [[1], [2, 3], [4]])

    def test_close_frame_after_events_delivers_them(self) -> None:
        """The events came first."""
        self.receive(encode_event(1) + b"\x88\x00")
        self.assertEqual(self.subscriber.batches, [[1]])
        self.assertEqual(self.protocol.state, self.protocol.STATE_CLOSING)

    def test_event_after_the_login_in_one_read_is_delivered_with_it(self) -> None:
        """A read may begin with other messages, or with the answer to the handshake."""
        self.connect()
        key = accept_key(self.transport.value())
        answer = f"{UPGRADED}Sec-WebSocket-Accept: {key}\r\n\r\n".encode()
        frames = (bytes([0x82, len(frame)]) + frame for frame in (AUTHORIZED, LISTENING))
        self.receive(answer + b"".join(frames) + encode_event(1))
        self.assertEqual(self.subscriber.batches, [[1]])

    def test_error_of_the_delivery_keeps_the_connection(self) -> None:
        """Twisted would close it. The next events are delivered."""
        journal = self.account.journal
        journal.on_committed, kept = self.fail_to_deliver, journal.on_committed
        self.receive(encode_event(1))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        journal.on_committed = kept
        self.receive(encode_event(2))
        self.assertEqual(self.subscriber.batches, [[2]])
        self.assertTrue(self.transport.connected)

    def test_one_turn_handles_a_few_of_many_tiny_frames(self) -> None:
        """A read may hold 32,000 empty frames: they delayed every other account for seconds."""
        for n, frame in enumerate((b"\x82\x00", b"\x8a\x00", b"\x82\x00\x8a\x00"), 1):
            with self.subTest(frame=frame):
                self.receive(frame * (5 * FRAMES_PER_TURN) + encode_event(n))
                self.assertEqual(self.transport.producerState, "paused")
                self.assertEqual(len(self.subscriber.batches), n - 1)
                self.clock.pump([0] * 12)
                self.assertEqual(self.transport.producerState, "producing")
                self.assertEqual(self.subscriber.batches[n - 1 :], [[n]])
        self.assertEqual(self.account.dropped_frames, {"not JSON": 10 * FRAMES_PER_TURN})

    def test_reads_of_a_waiting_connection_keep_their_order(self) -> None:
        """Over TLS, further records of the same read follow while the transport is paused."""
        self.receive(b"\x82\x00" * (FRAMES_PER_TURN + 1) + encode_event(1))
        self.receive(encode_event(2)[:5])
        self.receive(encode_event(2)[5:] + encode_event(3))
        self.assertEqual(self.subscriber.batches, [])
        self.clock.advance(0)
        self.assertEqual(self.subscriber.batches, [[1, 2, 3]])

    def test_connection_that_is_lost_while_it_waits_ends(self) -> None:
        """No turn follows for what is left: the recovery asks for it."""
        self.receive(b"\x82\x00" * (2 * FRAMES_PER_TURN) + encode_event(1))
        self.protocol.connectionLost(Failure(connectionDone.value))
        self.disconnect()
        self.clock.advance(0)
        self.assertEqual(self.subscriber.batches, [])

    def fail_to_deliver(self, batch: Batch) -> None:
        raise ZeroDivisionError


class TlsAlpaca(Protocol):
    """A server that accepts every handshake."""

    def dataReceived(self, data: bytes) -> None:
        """Answer the request; ignore frames."""
        assert self.transport is not None
        if b"\r\n\r\n" in data:
            answer = f"{UPGRADED}Sec-WebSocket-Accept: {accept_key(data)}\r\n\r\n"
            self.transport.write(answer.encode())


class TlsReadTests(UpstreamClientTestCase):
    """The events of a read over TLS."""

    def setUp(self) -> None:
        super().setUp()
        self.subscriber = BatchRecorder()
        self.account.broadcaster.register(self.subscriber)
        directory = self.mktemp()
        os.mkdir(directory)
        authority = Authority(directory)
        identity = authority.issue("127.0.0.1")
        context = DefaultOpenSSLContextFactory(str(identity.key), str(identity.certificate))
        server = TLSMemoryBIOFactory(context, False, Factory.forProtocol(TlsAlpaca))
        server.protocol = TLSMemoryBIOProtocol  # each write is a record
        reactor: Any = MemoryReactorClock()
        with mock.patch.dict(os.environ, SSL_CERT_FILE=str(authority.certificate)):
            endpoint = upstream_endpoint(BaseUrl(True, "127.0.0.1", 8443), reactor)
            connected = endpoint.connect(self.upstream_factory)
            [(_, _, factory, _, _)] = reactor.tcpClients
            self.wires = Wires(self.clock)
            self.server: Any = server.buildProtocol(None)
            self.wires.join(self.server, factory.buildProtocol(None))
        self.wires.flush()
        reactor.advance(0)
        self.wires.flush()
        protocol: Any = self.successResultOf(connected)
        self.assertEqual(protocol.state, protocol.STATE_OPEN)
        self.protocol = protocol

    def test_events_of_several_records_are_one_batch(self) -> None:
        """Twisted passes on one record at a time."""
        for n in (1, 2, 3):
            self.server.write(encode_event(n))
        self.wires.flush()
        self.server.write(encode_event(4))
        self.wires.flush()
        self.assertEqual(self.subscriber.batches, [[1, 2, 3], [4]])

    def test_data_that_is_left_when_the_connection_is_lost_is_delivered(self) -> None:
        """Twisted passes it on without a read."""
        self.protocol.dataReceived(encode_event(1))
        self.assertEqual(self.subscriber.batches, [[1]])
        self.protocol.transport.connectionLost(Failure(connectionDone.value))
        self.successResultOf(self.protocol.disconnected)
