"""Tests for tradeproxy.runtime.http_body, with a body that a test delivers."""

from __future__ import annotations

from typing import Any, cast

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectionLost
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.client import ResponseDone
from twisted.web.http import PotentialDataLoss
from twisted.web.iweb import IResponse

from tradeproxy.runtime.http_body import (
    PIECE,
    BodyError,
    BodyReader,
    StreamedBody,
    discard_body,
    read_body,
)


class ScriptedResponse:
    """Hands a body to its reader when the test says so."""

    def __init__(self) -> None:
        self.transport = StringTransport()

    def deliverBody(self, reader: Any) -> None:
        """Connect the reader."""
        self.reader = reader
        reader.makeConnection(self.transport)


class ReadBodyTests(SynchronousTestCase):
    """A whole body, of limited size."""

    def setUp(self) -> None:
        self.response = ScriptedResponse()
        self.body: Deferred[bytes] = Deferred.fromCoroutine(
            read_body(cast(IResponse, self.response), 5)
        )

    def deliver(self, data: bytes, end: Exception | None = None) -> None:
        """Deliver a piece, and the end."""
        self.response.reader.dataReceived(data)
        if end is not None:
            self.response.reader.connectionLost(Failure(end))

    def test_body_with_or_without_length_is_returned(self) -> None:
        """A server may end a body by closing the connection."""
        self.deliver(b"ab")
        self.deliver(b"cde", PotentialDataLoss())
        self.assertEqual(self.successResultOf(self.body), b"abcde")

    def test_cut_off_body_is_an_error(self) -> None:
        """What came before is no answer."""
        self.deliver(b"ab", ConnectionLost())
        self.failureResultOf(self.body, BodyError)

    def test_body_beyond_limit_closes_connection(self) -> None:
        """What follows is ignored."""
        self.deliver(b"abcdef")
        self.failureResultOf(self.body, BodyError)
        self.assertTrue(self.response.transport.disconnecting)
        self.deliver(b"g", ResponseDone())

    def test_cancelled_read_closes_connection(self) -> None:
        """A timeout cancels."""
        self.body.cancel()
        self.failureResultOf(self.body, CancelledError)
        self.assertTrue(self.response.transport.disconnecting)


class BodyReaderTests(SynchronousTestCase):
    """A body in pieces."""

    def test_reader_that_needs_length_fails_without_one(self) -> None:
        """The end of such a body looks like a lost connection."""
        reader = BodyReader(lambda _: None, needs_length=True)
        reader.connectionLost(Failure(PotentialDataLoss()))
        self.failureResultOf(reader.ended, BodyError)

    def test_discarded_body_aborts_connection(self) -> None:
        """Over TLS, loseConnection would read the whole body."""
        response = ScriptedResponse()
        aborted: list[None] = []
        vars(response.transport)["abortConnection"] = lambda: aborted.append(None)
        discard_body(cast(IResponse, response))
        self.assertEqual(len(aborted), 1)


class FullTransport(StringTransport):
    """Pauses the body after each piece, until the test resumes it."""

    def write(self, data: bytes) -> None:
        super().write(data)
        assert self.producer is not None
        self.producer.pauseProducing()


class StreamedBodyTests(SynchronousTestCase):
    """A request's body of two and a half pieces, to a server that reads slowly."""

    def setUp(self) -> None:
        self.content = bytes(range(256)) * (PIECE // 256) * 2 + b"x" * (PIECE // 2)
        self.reads = 0
        self.body = StreamedBody(len(self.content), self.read)
        self.transport: Any = FullTransport()
        self.transport.registerProducer(self.body, True)

    def read(self) -> bytes:
        """Return the body, and count it."""
        self.reads += 1
        return self.content

    def test_body_is_read_again_for_each_piece(self) -> None:
        """Twenty webhooks of four accounts took 240 MB for events of 1 MB to a dead receiver."""
        written = self.body.startProducing(self.transport)
        self.assertEqual(self.transport.value(), self.content[:PIECE])
        for _ in range(2):
            self.assertNoResult(written)
            self.body.resumeProducing()
        self.assertIsNone(self.successResultOf(written))
        self.assertEqual((self.transport.value(), self.reads), (self.content, 3))
        self.body.resumeProducing()
        self.assertEqual(self.reads, 3)

    def test_body_can_be_sent_again(self) -> None:
        """The receiver closed the connection that was kept for it."""
        self.body.startProducing(self.transport)
        self.body.stopProducing()
        self.transport.clear()
        self.transport.producer = self.body
        written = self.body.startProducing(self.transport)
        for _ in range(2):
            self.body.resumeProducing()
        self.assertIsNone(self.successResultOf(written))
        self.assertEqual(self.transport.value(), self.content)

    def test_body_that_cannot_be_read_fails_the_request(self) -> None:
        """The event is no longer stored, or other bytes are in its place."""
        written = self.body.startProducing(self.transport)
        self.content = b"other"
        self.body.resumeProducing()
        self.failureResultOf(written, BodyError)
        self.body.resumeProducing()
        self.assertEqual(self.reads, 2)

    def test_stopped_body_is_not_read_again(self) -> None:
        """The connection is lost, or the request is answered."""
        written = self.body.startProducing(self.transport)
        self.body.stopProducing()
        self.body.resumeProducing()
        self.assertNoResult(written)
        self.assertEqual(self.reads, 1)
