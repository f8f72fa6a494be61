"""Direct writes over TLS: encrypt, and send the record at once.

pyOpenSSL's `send` and `bio_read` call OpenSSL's SSL_write and BIO_read. What they do around that
costs more than the encryption of an event: allocations, and checks for what cannot happen here. So
this module calls OpenSSL as pyOpenSSL does, by names that pyOpenSSL does not document. Without
them, clients are served through Twisted's queue, as always before.
"""

# The attributes of Twisted's transports and of pyOpenSSL that are read here have no public names.
# ruff: noqa: SLF001

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from OpenSSL import SSL

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_PLAINTEXT = 2**14
"""Bytes in one TLS record (RFC 8446, 5.1). OpenSSL's buffer never shrinks, so it gets no more."""

MAX_CIPHERTEXT = 2**15
"""Bytes of one read from OpenSSL: a record, and what TLS itself has to say before it."""

_library: Any = getattr(SSL, "_lib", None)
_ffi: Any = getattr(SSL, "_ffi", None)
IS_SUPPORTED = _ffi is not None and all(
    hasattr(_library, name) for name in ("SSL_write", "BIO_read", "ERR_clear_error")
)
"""Whether the installed pyOpenSSL has the names that this module uses."""

_ciphertext: Any = _ffi.new("char[]", MAX_CIPHERTEXT) if IS_SUPPORTED else None
"""The ciphertext between two calls; one buffer for all connections."""


def find_tls_sender(tls: Any) -> Callable[[bytes], int] | None:
    """Return the function that writes directly to a client over TLS: see `find_sender`.

    Args:
        tls: Twisted's TLS transport, over TCP.

    Returns:
        None during the handshake, during the shutdown, and while data waits in TLS or in TCP.
        Always None if pyOpenSSL has other names.
    """
    is_open = tls._handshakeDone and not (tls.disconnecting or tls._lostTLSConnection)
    # Small writes of this turn, and writes that OpenSSL has not accepted yet.
    is_waiting = tls._aggregator._buffer or tls._appSendBuffer
    connection = tls._tlsConnection
    is_supported = IS_SUPPORTED and hasattr(connection, "_ssl") and hasattr(connection, "_from_ssl")
    if is_supported and is_open and not is_waiting and is_drained(tls.transport):
        return _TlsSender(connection, tls.transport)
    return None


def is_drained(tcp: Any) -> bool:
    """Return whether an accepted TCP connection has no buffered data and is not closing."""
    return not (
        tcp.dataBuffer
        or tcp._tempDataBuffer  # written, but not moved to `dataBuffer` yet
        or tcp.disconnecting
        or not tcp.connected
    )


class _TlsSender:
    """Encrypts and sends. What is encrypted is never encrypted again: TCP's transport gets it."""

    __slots__ = ("_connection", "_socket_send", "_tcp")

    def __init__(self, connection: SSL.Connection, tcp: Any) -> None:
        self._connection = connection
        self._tcp = tcp
        self._socket_send = tcp.socket.send  # the transport deletes its socket when it is lost

    def __call__(self, data: bytes) -> int:
        """Return how many bytes of `data` are on their way, at most one record of them queued.

        Nothing is overtaken. TLS itself may have written to the transport since the last call,
        for example an alert. OpenSSL writes its answer to a key update before the data.
        """
        connection, tcp, taken = self._connection, self._tcp, 0
        while taken < len(data) and not (tcp.dataBuffer or tcp._tempDataBuffer):
            part = data[taken : taken + MAX_PLAINTEXT]
            written = _library.SSL_write(connection._ssl, part, len(part))
            if written <= 0:  # shut down or broken: the transport finds out which
                _library.ERR_clear_error()
                break
            taken += written
            size = _library.BIO_read(connection._from_ssl, _ciphertext, MAX_CIPHERTEXT)
            record = _ffi.buffer(_ciphertext, size)
            try:
                sent = self._socket_send(record)
            except OSError:  # full or broken: the transport finds out which
                sent = 0
            if sent < size:
                tcp.write(record[sent:])
        return taken
