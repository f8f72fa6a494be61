"""TLS to Alpaca, and why it fails. The end of a read is reported once, after all of its records.

One read of the socket may bring several TLS records, and Twisted calls `dataReceived` for each. A
burst of events would become several batches.
"""

from __future__ import annotations

from typing import Any

from OpenSSL import SSL
from service_identity import CertificateError, VerificationError
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IProtocolFactory, IReactorTime, IStreamClientEndpoint
from twisted.protocols.tls import BufferingTLSTransport, TLSMemoryBIOFactory
from twisted.python.failure import Failure
from zope.interface import implementer

from tradeproxy.runtime.server_identity import ServerIdentity


class TlsTransport(BufferingTLSTransport):
    """A TLS connection. Its protocol's `read_ended` is called after each read of the socket.

    The read may have brought no data.
    """

    is_reading = False
    """Whether `read_ended` follows. It does not if a lost connection has data left."""

    def dataReceived(self, bytes: bytes) -> None:  # noqa: A002  # Twisted's name
        """Pass the data of every record to the protocol, then report the end of the read."""
        self.is_reading = True
        try:
            super().dataReceived(bytes)
        finally:
            self.is_reading = False
            protocol: Any = self.wrappedProtocol
            protocol.read_ended()


@implementer(IStreamClientEndpoint)
class TlsEndpoint:
    """Connects with TLS over another endpoint. The certificate and the name are verified."""

    def __init__(self, host: str, endpoint: IStreamClientEndpoint, clock: IReactorTime) -> None:
        """Create the endpoint. `clock` lets Twisted join the small writes of one turn."""
        self._host = host
        self._endpoint = endpoint
        self._clock = clock

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[Any]:
        """Connect, and return the protocol over TLS."""
        factory = TLSMemoryBIOFactory(
            ServerIdentity(self._host), True, protocolFactory, self._clock
        )
        factory.protocol = TlsTransport
        connected: Deferred[Any] = self._endpoint.connect(factory)
        return connected.addCallback(lambda transport: transport.wrappedProtocol)


def describe_tls_failure(failure: Failure) -> str | None:
    """Return why TLS to a server failed, in one phrase; None for a failure of another kind."""
    if failure.check(CertificateError):
        return "the server's certificate has no valid subjectAltName"
    if failure.check(VerificationError):
        return "the server's certificate is for another name"
    return f"TLS failed: {_find_reason(failure.value)}" if failure.check(SSL.Error) else None


def _find_reason(error: BaseException | None) -> str:
    """Return OpenSSL's reason text, such as "certificate verify failed"."""
    match getattr(error, "args", ()):
        case ([(_, _, str(text)), *_],):
            return text
    return "the connection was cut"
