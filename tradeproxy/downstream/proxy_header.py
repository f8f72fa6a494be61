"""The header of the PROXY protocol, bounded: it comes before what counts a client's bytes.

Twisted takes up to 64 KiB of it in version 2, for as long as a handshake may take.
"""

# Twisted's wrapper has no public name for what is read here.
# ruff: noqa: SLF001

from __future__ import annotations

from functools import partial
from typing import Any

from twisted.protocols.haproxy._wrapper import HAProxyProtocolWrapper

MAX_HEADER = 2_048
"""Bytes in which a header must end. HAProxy's have 16 to 52, and some hundred more with options."""


def bound_header(transport: Any) -> None:
    """Abort the connection if its header is longer than MAX_HEADER; without one, do nothing."""
    if isinstance(transport, HAProxyProtocolWrapper):
        transport.dataReceived = partial(  # type: ignore[method-assign]  # until the header's end
            _receive, transport, 0
        )


def release_header(transport: Any) -> None:
    """Drop what `bound_header` set: it refers to the transport, a reference cycle."""
    if isinstance(transport, HAProxyProtocolWrapper):
        vars(transport).pop("dataReceived", None)


def _receive(transport: HAProxyProtocolWrapper, before: int, data: bytes) -> None:
    try:
        HAProxyProtocolWrapper.dataReceived(transport, data)
    except ValueError:  # of a port that is no number, or an address that is not UTF-8
        if transport._proxyInfo is not None:
            raise  # of the request behind it
        release_header(transport)
        transport.abortConnection()
        return
    size = before + len(data)
    if transport._proxyInfo is not None:
        release_header(transport)
    elif size >= MAX_HEADER:
        release_header(transport)
        transport.abortConnection()
    else:
        transport.dataReceived = partial(  # type: ignore[method-assign]  # as above
            _receive, transport, size
        )
