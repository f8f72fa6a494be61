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

from tradeproxy.runtime.http_body import BodyError, BodyReader, discard_body, read_body


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
