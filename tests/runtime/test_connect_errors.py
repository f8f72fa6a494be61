"""Tests for the cause of a failed connection, in one phrase."""

from __future__ import annotations

import errno
import socket
import ssl

from twisted.internet import error
from twisted.trial.unittest import SynchronousTestCase

from tradeproxy.runtime.connect_errors import describe_connect_error


class ConnectErrorTests(SynchronousTestCase):
    """describe_connect_error."""

    def test_cause_is_one_phrase(self) -> None:
        """Twisted's text has it three times, asyncio's once for each address."""
        refused = "[Errno 111] Connect call failed ('127.0.0.1', 1)"
        for raised, phrase in (
            (error.ConnectionRefusedError(osError=errno.ECONNREFUSED), "connection refused"),
            (ConnectionRefusedError(errno.ECONNREFUSED, refused), "connection refused"),
            (OSError(f"Multiple exceptions: {refused}, {refused}"), "connection refused"),
            (error.NoRouteError(osError=errno.EHOSTUNREACH), "no route to host"),
            (error.DNSLookupError("no results: x.invalid"), "the host name has no address"),
            (socket.gaierror(-2, "Name or service not known"), "the host name has no address"),
            (error.TimeoutError(), "no answer in time"),
            (TimeoutError(), "no answer in time"),
            (ValueError("something else"), "something else"),
        ):
            self.assertEqual(describe_connect_error(raised), phrase)

    def test_tls_error_is_no_error_of_the_system(self) -> None:
        """Its number is one of OpenSSL: 1 is not "operation not permitted"."""
        text = describe_connect_error(ssl.SSLError(1, "certificate verify failed"))
        self.assertIn("certificate verify failed", text)
