"""The limit of sockets as the tests have it."""

from __future__ import annotations

from tradeproxy.config.settings import Limits
from tradeproxy.runtime.socket_limit import SocketLimit


def limit_sockets(limits: Limits | None = None) -> SocketLimit:
    """Return the limit for the number of clients, whatever files may be open."""
    return SocketLimit((limits or Limits()).max_clients, outgoing=True)
