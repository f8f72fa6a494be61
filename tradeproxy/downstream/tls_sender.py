"""Direct writes over TLS: encrypt, and send the record at once.

pyOpenSSL's `send` and `bio_read` call OpenSSL's SSL_write and BIO_read. What they do around that
costs more than the encryption of an event: allocations, and checks for what cannot happen here. So
this module calls OpenSSL as pyOpenSSL does, by names that pyOpenSSL does not document. Without
them, clients are served through Twisted's queue, as always before.
"""

# The attributes of Twisted's transports and of pyOpenSSL that are read here have no public names.
# ruff: noqa: SLF001

from __future__ import annotations

from collections.abc import Callable, Collection
from itertools import islice
from typing import Any

from OpenSSL import SSL

MAX_PLAINTEXT = 2**14
"""Bytes in one TLS record (RFC 8446, 5.1). OpenSSL's buffer never shrinks, so it gets no more."""

MAX_CIPHERTEXT = 2**15
"""Bytes of one read from OpenSSL: a record, and what TLS itself has to say before it."""

_ffi: Any = getattr(SSL, "_ffi", None)
_library: Any = getattr(SSL, "_lib", None)
_ssl_write: Any = getattr(_library, "SSL_write", None)
_bio_read: Any = getattr(_library, "BIO_read", None)
_clear_errors: Any = getattr(_library, "ERR_clear_error", None)
IS_SUPPORTED = None not in (_ffi, _ssl_write, _bio_read, _clear_errors)
"""Whether the installed pyOpenSSL has the names that this module uses."""

_ciphertext: Any = _ffi.new("char[]", MAX_CIPHERTEXT) if IS_SUPPORTED else None
"""The ciphertext between two calls; one buffer for all connections."""

_view = memoryview(_ffi.buffer(_ciphertext)) if IS_SUPPORTED else memoryview(b"")
"""The same buffer, as the socket takes it."""


TlsTarget = tuple[Any, Any, Callable[[memoryview], int], Any]
"""OpenSSL's state of a connection, where OpenSSL writes its ciphertext, the `send` of its socket,
and Twisted's TCP transport."""


def find_target(tls: Any) -> TlsTarget | None:
    """Return what `send_all` needs of a client over TLS.

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
        tcp = tls.transport
        # The socket's method: the transport deletes its socket when the connection is lost.
        return connection._ssl, connection._from_ssl, tcp.socket.send, tcp
    return None


def send_all(targets: Collection[TlsTarget], data: bytes) -> dict[TlsTarget, int]:
    """Encrypt and send `data` to each client; at most one record of a client is queued.

    What is encrypted is never encrypted again: TCP's transport gets it. Nothing is overtaken. TLS
    itself may have written to the transport since the last call, for example an alert. OpenSSL
    writes its answer to a key update before the data.

    Args:
        targets: clients of one reactor.
        data: what they get.

    Returns:
        How many bytes are on their way, for each client that does not get all of `data` now.
    """
    parts = [data[at : at + MAX_PLAINTEXT] for at in range(0, len(data), MAX_PLAINTEXT)]
    # A transport with buffered data waits for its socket. The reactor is asked once: to look at
    # each transport, which is in no cache, costs a tenth of the loop.
    waiting = {each for target in islice(targets, 1) for each in target[3].reactor.getWriters()}
    short, record = {}, _view[:0]
    for target in targets:
        ssl, bio, send = target[:3]  # the transport is not touched
        taken = 0
        for part in () if waiting and target[3] in waiting else parts:
            written = _ssl_write(ssl, part, len(part))
            if written <= 0:  # shut down or broken: the transport finds out which
                _clear_errors()
                break
            taken += written
            size = _bio_read(bio, _ciphertext, MAX_CIPHERTEXT)
            if size != len(record):
                record = _view[:size]
            try:
                sent = send(record)
            except OSError:  # full or broken: the transport finds out which
                sent = 0
            if sent < size:
                target[3].write(bytes(record[sent:]))
                break
        if taken < len(data):
            short[target] = taken
    return short


def is_drained(tcp: Any) -> bool:
    """Return whether an accepted TCP connection has no buffered data and is not closing."""
    return not (
        tcp.dataBuffer
        or tcp._tempDataBuffer  # written, but not moved to `dataBuffer` yet
        or tcp.disconnecting
        or not tcp.connected
    )
