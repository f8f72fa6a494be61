"""Tests for tradeproxy.upstream.http, with the server's bytes written by the test."""

from __future__ import annotations

import gc
from collections.abc import Callable
from socket import socket, socketpair
from typing import Any
from weakref import ref

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IProtocolFactory, IStreamClientEndpoint
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock, StringTransportWithDisconnection
from twisted.logger import capturedLogs, formatEvent
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.client import URI, Agent, ResponseFailed, readBody
from twisted.web.iweb import IAgentEndpointFactory
from zope.interface import implementer

from tests.support.memory import SERVER
from tradeproxy.runtime.http_body import PIECE, StreamedBody, discard_body, read_body
from tradeproxy.upstream import http
from tradeproxy.upstream.http import READ_TIME, ConnectionPool, build_agent

URL = b"http://127.0.0.1:8100/v2/account"


@implementer(IAgentEndpointFactory, IStreamClientEndpoint)
class RecordingHost:
    """Accepts every connection, and records the protocol of each."""

    def __init__(self) -> None:
        self.protocols: list[Any] = []

    def endpointForURI(self, uri: URI) -> IStreamClientEndpoint:
        endpoint: IStreamClientEndpoint = self
        return endpoint

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[Any]:
        protocol: Any = protocolFactory.buildProtocol(SERVER)
        transport = StringTransportWithDisconnection()  # `disconnected` if aborted
        transport.protocol = protocol
        protocol.makeConnection(transport)
        self.protocols.append(protocol)
        return succeed(protocol)


class KeptConnectionTests(SynchronousTestCase):
    """A pool that keeps a connection for ten seconds."""

    def setUp(self) -> None:
        self.clock: Any = Clock()
        self.host = RecordingHost()
        self.pool = ConnectionPool(self.clock, idle_timeout=10)
        self.agent = Agent.usingEndpointFactory(self.clock, self.host, pool=self.pool)

    def answer(self, use: Callable[[Any], object] = lambda _: None) -> Any:
        """Send a request, and answer it; return the connection. `use` gets the response."""
        answered = self.agent.request(b"POST", URL)
        protocol = self.host.protocols[-1]
        protocol.dataReceived(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]")
        response = self.successResultOf(answered)
        self.assertEqual(self.successResultOf(readBody(response)), b"[]")
        use(response)
        return protocol

    def test_answer_is_freed_at_once(self) -> None:
        """Thirty objects of each message waited for a collection, which stops all else."""
        gc.disable()
        self.addCleanup(gc.enable)
        responses: list[ref[Any]] = []
        self.answer(lambda response: responses.append(ref(response)))
        self.assertIsNone(responses[0]())

    def test_idle_connection_is_aborted(self) -> None:
        """A close over TLS would wait for the server."""
        transport = self.answer().transport
        self.clock.advance(9)
        self.assertTrue(transport.connected)
        self.clock.advance(1)
        self.assertTrue(transport.disconnected)

    def test_connection_is_kept_if_the_whole_of_an_unwanted_answer_has_come(self) -> None:
        """The next request follows on it. With a rest that is still to come, it is aborted."""
        for length, is_kept in ((b"2", True), (b"3", False)):
            answered = self.agent.request(b"POST", URL)
            protocol = self.host.protocols[-1]
            protocol.dataReceived(b"HTTP/1.1 404 No\r\nContent-Length: %b\r\n\r\n[]" % length)
            discard_body(self.successResultOf(answered))
            self.assertEqual(protocol.transport.connected, is_kept)
        self.assertEqual(len(self.host.protocols), 1)

    def test_idle_connection_is_aborted_with_the_pool(self) -> None:
        """A receiver that does not close, too, kept a socket of every webhook before a reload."""
        transport = self.answer().transport
        self.pool.closeCachedConnections()
        self.assertTrue(transport.disconnected)

    def test_connection_that_the_server_has_closed_is_not_aborted(self) -> None:
        """A lost connection over TLS raises an error then, and the next request failed too."""
        lost = self.answer()
        lost.connectionLost(Failure(ConnectionDone()))
        self.clock.advance(10)
        self.assertFalse(lost.transport.disconnected)
        self.assertIsNot(self.answer(), lost)

    def test_connection_with_bytes_behind_its_answer_is_not_kept(self) -> None:
        """A second answer, or the beginning of one, was that to the next request."""
        chunked = b"Transfer-Encoding: chunked\r\n\r\n2\r\n[]\r\n0\r\n\r\n"
        for head in (b"Content-Length: 2\r\n\r\n[]", b"Content-Length: 0\r\n\r\n", chunked):
            for rest in (b"H", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"):
                answered = self.agent.request(b"POST", URL)
                protocol = self.host.protocols[-1]
                protocol.dataReceived(b"HTTP/1.1 200 OK\r\n" + head + rest)
                self.assertEqual(self.successResultOf(answered).code, 200)
                self.assertFalse(protocol.transport.connected, head)
        self.assertEqual(len(self.host.protocols), 6)

    def test_connection_with_unread_bytes_is_not_used(self) -> None:
        """A second answer that came before the next request was the answer to that one."""
        kept, there = self.keep_on_a_socket()
        self.assertIs(self.answer(), kept)
        there.send(b"H")
        self.assertIsNot(self.answer(), kept)
        self.assertTrue(kept.transport.disconnected)

    def test_connection_that_was_reset_in_this_turn_is_not_used(self) -> None:
        """To look at the socket takes its error away: the reactor would find a close in order."""
        kept, there = self.keep_on_a_socket()
        kept.transport.socket.send(b"x")
        there.close()  # with unread bytes, it resets the connection
        self.assertIsNot(self.answer(), kept)
        self.assertTrue(kept.transport.disconnected)

    def keep_on_a_socket(self) -> tuple[Any, socket]:
        """Return a kept connection with a socket, and the socket of the server."""
        kept = self.answer()
        here, there = socketpair()
        self.addCleanup(here.close)
        self.addCleanup(there.close)
        here.setblocking(False)
        kept.transport.socket = here
        return kept, there

    def test_head_of_each_answer_may_have_64_kib(self) -> None:
        """The limits are those of one answer, not of all on a connection."""
        lines = b"a: ".ljust(128, b"y") + b"\r\n"
        for _ in range(2):
            answered = self.agent.request(b"POST", URL)
            [protocol] = self.host.protocols
            protocol.dataReceived(b"HTTP/1.1 200 OK\r\n" + lines * 499)
            protocol.dataReceived(b"Content-Length: 2\r\n\r\n[]")
            response = self.successResultOf(answered)
            self.assertEqual(self.successResultOf(readBody(response)), b"[]")


class HttpConnectionTests(SynchronousTestCase):
    """One request, and the bytes of its answer."""

    def setUp(self) -> None:
        clock: Any = Clock()
        self.host = RecordingHost()
        self.agent = Agent.usingEndpointFactory(clock, self.host, pool=ConnectionPool(clock))

    def request(self) -> tuple[Any, Deferred[Any]]:
        """Send a request. Return the protocol of its connection, and the response."""
        answered = self.agent.request(b"GET", URL)
        return self.host.protocols[-1], answered

    def test_head_of_64_kib_is_accepted(self) -> None:
        """Real answers have far less. One byte more without an end aborts the connection."""
        for fault, ending in ((b"", b"\r\n\r\n"), (b"x", b"")):
            protocol, answered = self.request()
            start = b"HTTP/1.1 200 OK\r\n"
            line = b"x: " + b"y" * 295 + b"\r\n"
            protocol.dataReceived(start)
            for _ in range(218):
                protocol.dataReceived(line)
            protocol.dataReceived(b"z: ".ljust(65_536 - len(start) - 218 * len(line), b"z"))
            self.assertTrue(protocol.transport.connected)
            if fault:
                protocol.dataReceived(fault)
                self.assertTrue(protocol.transport.disconnected)
                self.failureResultOf(answered, ResponseFailed)
            else:
                protocol.dataReceived(ending)
                self.assertEqual(self.successResultOf(answered).code, 200)

    def request_with_body(self) -> tuple[Any, Deferred[Any]]:
        """Send a request to a server that does not read its body."""
        body = StreamedBody(3 * PIECE, lambda: bytes(3 * PIECE))
        write = StringTransportWithDisconnection.write

        def write_and_pause(transport: Any, data: bytes) -> None:
            write(transport, data)
            body.pauseProducing()

        self.patch(StringTransportWithDisconnection, "write", write_and_pause)
        answered = self.agent.request(b"POST", URL, None, body)
        return self.host.protocols[-1], answered

    def test_answer_before_the_end_of_the_request_ends_it(self) -> None:
        """A receiver answers 413 and reads nothing more. The connection would wait for ever."""
        protocol, answered = self.request_with_body()
        protocol.dataReceived(b"HTTP/1.1 100 Continue\r\n\r\n")
        self.assertTrue(protocol.transport.connected)
        protocol.dataReceived(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
        self.assertEqual(self.successResultOf(answered).code, 413)
        self.assertTrue(protocol.transport.disconnected)

    def test_answer_without_a_length_before_the_end_of_the_request_counts(self) -> None:
        """Twisted takes the end of the connection for an error of the request."""
        protocol, answered = self.request_with_body()
        protocol.dataReceived(b"HTTP/1.1 413 Too Large\r\n\r\nno")
        response = self.successResultOf(answered)
        sent = len(protocol.transport.value())
        protocol.transport.producer.resumeProducing()
        self.assertEqual(len(protocol.transport.value()), sent)
        body = Deferred.fromCoroutine(read_body(response, 10))
        protocol.transport.loseConnection()
        self.assertEqual((response.code, self.successResultOf(body)), (413, b"no"))

    def test_early_answer_with_a_length_closes_the_connection(self) -> None:
        """Its body comes later. What is left of the request is not sent first."""
        protocol, answered = self.request_with_body()
        protocol.dataReceived(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nn")
        body = readBody(self.successResultOf(answered))
        self.assertTrue(protocol.transport.connected)
        protocol.dataReceived(b"o")
        self.assertEqual(self.successResultOf(body), b"no")
        self.assertTrue(protocol.transport.disconnected)

    def test_endless_interim_responses_are_aborted(self) -> None:
        """Each of them is complete, so that Twisted would read on without a limit."""
        protocol, answered = self.request()
        for _ in range(65_536 // 256):
            protocol.dataReceived(b"HTTP/1.1 100 Continue\r\nx: ".ljust(252, b"y") + b"\r\n\r\n")
        self.assertTrue(protocol.transport.connected)
        protocol.dataReceived(b"HTTP/1.1 100 Continue\r\nx: ".ljust(252, b"y") + b"\r\n\r\n")
        self.assertTrue(protocol.transport.disconnected)
        self.failureResultOf(answered, ResponseFailed)

    def test_head_of_500_headers_is_accepted(self) -> None:
        """A header has three bytes at least: 64 KiB hold 20,000, and each costs an object."""
        for count in (500, 501):
            protocol, answered = self.request()
            with capturedLogs() as logs:
                protocol.dataReceived(b"HTTP/1.1 200 OK\r\n" + b"a:\n" * count + b"\r\n")
            if count == 500:
                self.assertEqual(self.successResultOf(answered).code, 200)
                self.assertEqual(logs, [])
            else:
                self.assertTrue(protocol.transport.disconnected)
                self.failureResultOf(answered, ResponseFailed)
                self.assertIn(
                    "too many headers; it is not read on (1 so far)", formatEvent(logs[0])
                )

    def test_read_grows_while_it_is_quick(self) -> None:
        """300 answers in chunks of one byte, 8 KiB of each at once, delayed clients by 1.9 s."""
        protocol, answered = self.request()
        sizes = [protocol.transport.bufferSize]
        for seconds in (0.0, 0.0, 0.0, 0.0, READ_TIME, READ_TIME, READ_TIME, READ_TIME):
            self.patch(http, "thread_time", iter((0.0, seconds)).__next__)
            protocol.dataReceived(b"HTTP/1.1 100 Continue\r\n\r\n")
            sizes.append(protocol.transport.bufferSize)
        self.assertEqual(sizes, [1024, 2048, 4096, 8192, 8192, 4096, 2048, 1024, 1024])
        answered.addErrback(lambda _: None)
        answered.cancel()

    def test_data_after_answer_is_not_read(self) -> None:
        """Over TLS, a close waits for the server, which could send on for days."""
        protocol, answered = self.request()
        transport = protocol.transport
        transport.loseConnection = lambda: None  # as over TLS, until the server closes too
        protocol.dataReceived(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]")
        self.assertEqual(self.successResultOf(readBody(self.successResultOf(answered))), b"[]")
        self.assertTrue(transport.connected)
        protocol.dataReceived(b"[]")
        self.assertTrue(transport.disconnected)

    def test_answer_with_two_lengths_fails(self) -> None:
        """One program would read it in another way than the next: as two answers."""
        chunked, length = b"Transfer-Encoding: chunked\r\n", b"Content-Length: 5\r\n"
        for headers in (
            chunked + length,
            length + chunked,
            chunked + b"transfer-encoding: identity\r\n",
            length * 2,
        ):
            protocol, answered = self.request()
            protocol.dataReceived(b"HTTP/1.1 200 OK\r\n" + headers + b"\r\n0\r\n\r\n")
            self.failureResultOf(answered, ResponseFailed)
            self.assertFalse(protocol.transport.connected)

    def test_body_does_not_count_as_head(self) -> None:
        """A list of orders has a megabyte."""
        protocol, answered = self.request()
        protocol.dataReceived(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
        body = readBody(self.successResultOf(answered))
        for _ in range(10):
            protocol.dataReceived(b"[" * 10_000)
        self.assertEqual(self.successResultOf(body), b"[" * 100_000)

    def test_response_has_connection_header(self) -> None:
        """It names headers that a proxy must not forward (RFC 9110, 7.6.1). Twisted hides it."""
        for line, values in (("Connection: close, X-Hop\r\n", [b"close, X-Hop"]), ("", None)):
            protocol, answered = self.request()
            protocol.dataReceived(f"HTTP/1.1 200 OK\r\n{line}Content-Length: 0\r\n\r\n".encode())
            headers = self.successResultOf(answered).headers
            self.assertEqual(headers.getRawHeaders(b"connection"), values)

    def test_cancelled_body_aborts_connection(self) -> None:
        """A close over TLS would first read the rest of the body."""
        protocol, answered = self.request()
        protocol.dataReceived(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n[")
        body = readBody(self.successResultOf(answered))
        body.cancel()
        self.assertTrue(protocol.transport.disconnected)
        self.failureResultOf(body, CancelledError, ResponseFailed)

    def test_second_request_uses_new_connection(self) -> None:
        """On a kept connection, Twisted repeats a DELETE whose connection was lost."""
        for count in (1, 2):
            protocol, answered = self.request()
            self.assertEqual(len(self.host.protocols), count)
            self.assertIn(b"Connection: close\r\n", protocol.transport.value())
            protocol.dataReceived(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
            self.assertEqual(self.successResultOf(readBody(self.successResultOf(answered))), b"{}")
            self.assertFalse(protocol.transport.connected)

    def test_connect_times_out_after_10_s(self) -> None:
        """The reactor's TCP connect has this limit; a client of the REST proxy gets 504 then."""
        reactor: Any = MemoryReactorClock()
        answered = build_agent(reactor).request(b"GET", URL)
        [(host, port, _, timeout, _)] = reactor.tcpClients
        self.assertEqual((host, port, timeout), ("127.0.0.1", 8100, 10.0))
        answered.addErrback(lambda _: None)
        answered.cancel()
