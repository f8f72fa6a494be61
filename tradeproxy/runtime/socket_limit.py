"""The limit of accepted sockets: strangers cannot use up the file descriptors of the process."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from twisted.internet.error import ConnectionAborted
from twisted.internet.tcp import Connection
from twisted.protocols.policies import ProtocolWrapper
from twisted.python.failure import Failure

from tradeproxy.runtime.peer import get_peer_key

MAX_SPARE = 64
"""At most so many sockets are kept for handshakes and health checks."""

USUAL_REQUEST = 2048
"""Bytes of a request that do not count. A handshake of a usual client has 200 to 1,000."""

MAX_UNFINISHED = 16_777_216
"""Bytes of all larger requests and messages that are not complete.

In memory a head of many short headers takes four times its bytes.
"""

MAX_ENCRYPTED = 800
"""Sockets with TLS that have not logged in, from their first byte on: each takes up to 60 KB."""

LOGIN_TIME = 2.0
"""Seconds that each of those keeps its place. A login takes three round trips from the first byte,
and a client with thousands of connections on a busy machine needs seconds for each.
"""


class SocketLimit:
    """Counts every accepted socket until its end, and the sockets to Alpaca of REST requests.

    | a socket is accepted while                     | what happens                              |
    |------------------------------------------------|-------------------------------------------|
    | fewer than `sockets` are open                  | it stays                                  |
    | `sockets` are open, some of them not logged in | one of those is closed                    |
    | all of them are logged in or to Alpaca         | cannot happen: `spare_sockets` stay free  |

    The one that is closed is the oldest of the address that has the most of those, so that one
    address cannot displace the others.

    A socket counts as not logged in during the TLS and HTTP handshakes, while it is idle between
    two requests, and until a WebSocket client has authenticated. A logged-in client is never
    closed for another one.

    Unfinished requests and messages share MAX_UNFINISHED bytes. Beyond it, the oldest of the
    sockets that have sent more than USUAL_REQUEST is aborted. MAX_ENCRYPTED of those that have not
    logged in may have begun TLS. Others wait. The oldest of the address that has the most of those
    is closed for one that waits: after LOGIN_TIME, or at once for an address that has fewer.
    """

    def __init__(self, clients: int, sockets: int | None = None, *, outgoing: bool = False) -> None:
        """Set the limits.

        Args:
            clients: how many sockets may be logged in, if `sockets` leaves room for them.
            sockets: how many sockets may be open, as the file descriptors allow; None for as many
                as `clients` need.
            outgoing: whether each client may need a second socket, to Alpaca.
        """
        self.sockets = (2 * clients if outgoing else clients) + MAX_SPARE
        if sockets is not None:
            self.sockets = min(self.sockets, max(sockets, 2))
        self._takeable = self.sockets - spare_sockets(self.sockets)
        self.clients = min(clients, self._takeable)
        self.on_replaced: Callable[[Any], None] = lambda _: None
        """Called with the transport of a socket that is closed for a newer one."""
        self.on_too_much: Callable[[Any], None] = lambda _: None
        """Called with the transport of a socket that is aborted for its unfinished request."""
        # How many bytes of a request or a login that is not complete each one has sent.
        self._anonymous: dict[Any, int] = {}
        self._anonymous_share = FairShare()
        self._large: dict[Any, int] = {}
        self._large_bytes = 0
        # When each one began TLS.
        self._encrypted: dict[Any, float] = {}
        self._encrypted_share = FairShare()
        self._logged_in: dict[Any, float | None] = {}
        self._outgoing: set[Any] = set()

    def __len__(self) -> int:
        """Return how many sockets are open."""
        return len(self._anonymous) + len(self._logged_in) + len(self._outgoing)

    @property
    def logged_in(self) -> int:
        """How many clients have logged in."""
        return len(self._logged_in)

    @property
    def is_full(self) -> bool:
        """Whether no further client can log in."""
        return len(self._logged_in) >= self.clients or not self._has_room

    @property
    def _has_room(self) -> bool:
        return len(self._logged_in) + len(self._outgoing) < self._takeable

    def accept(self, transport: Any) -> None:
        """Count a new socket; at the limit one that is not logged in is closed for it."""
        self._add_anonymous(transport)
        self._close_one_beyond_limit()

    def make_room_for_tls(self, transport: Any, now: float) -> bool:
        """Return whether this socket may begin TLS; another one may be closed for that."""
        if len(self._encrypted) >= MAX_ENCRYPTED:
            share = self._encrypted_share
            oldest = share.get_oldest_of_most()
            # Two addresses with the same number would close each other's sockets in turn.
            has_fewer = share.count(get_peer_key(transport)) + 1 < share.most
            if not has_fewer and now - self._encrypted[oldest] < LOGIN_TIME:
                return False
            self._close(oldest)
        return True

    def begin_tls(self, transport: Any, now: float) -> None:
        """Count an accepted socket that begins TLS at this time (s)."""
        self._encrypted[transport] = now
        self._encrypted_share.add(get_peer_key(transport), transport)

    def receive(self, transport: Any, size: int) -> None:
        """Count received bytes, until `complete`; a socket that has logged in may send any number.

        At the limit of all sockets' bytes, the oldest with a large request is aborted.
        """
        before = self._anonymous.get(transport)
        if before is None:
            return
        self._anonymous[transport] = size = before + size
        self._count_large(transport, size)

    def hold(self, transport: Any, size: int) -> None:
        """Count the bytes of an unfinished message of a socket that has logged in, as `receive`."""
        self._forget_large(transport)
        if transport in self._logged_in:
            self._count_large(transport, size)

    def _count_large(self, transport: Any, size: int) -> None:
        if size > USUAL_REQUEST:
            self._large_bytes += size - self._large.get(transport, 0)
            self._large[transport] = size
            while self._large_bytes > MAX_UNFINISHED:
                oldest = next(iter(self._large))
                self._forget_large(oldest)
                self.on_too_much(oldest)
                oldest.abortConnection()

    def complete(self, transport: Any) -> None:
        """Count no longer what a socket has sent: its request is complete."""
        if self._anonymous.get(transport):
            self._anonymous[transport] = 0
            self._forget_large(transport)

    def log_in(self, transport: Any) -> bool:
        """Count an accepted socket as logged in; return False if all places are taken."""
        if transport in self._logged_in:
            return True
        if self.is_full:
            return False
        self._logged_in[transport] = self._encrypted.get(transport)
        self._forget_anonymous(transport)
        return True

    def open_outgoing(self, key: Any) -> bool:
        """Count a socket to Alpaca for a client's request; return False if there is no room."""
        if not self._has_room:
            return False
        self._outgoing.add(key)
        self._close_one_beyond_limit()
        return True

    def log_out(self, transport: Any) -> None:
        """Count a socket that stays open as not logged in; it is the newest of those."""
        if transport in self._logged_in:
            began = self._logged_in.pop(transport)
            self._add_anonymous(transport)
            if began is not None:
                self.begin_tls(transport, began)

    def discard(self, key: Any) -> None:
        """Count a socket no longer; harmless if it is not counted."""
        self._forget_anonymous(key)
        self._logged_in.pop(key, None)
        self._outgoing.discard(key)

    def _add_anonymous(self, transport: Any) -> None:
        self._anonymous[transport] = 0
        self._anonymous_share.add(get_peer_key(transport), transport)

    def _forget_anonymous(self, transport: Any) -> None:
        self._anonymous.pop(transport, None)
        self._anonymous_share.discard(transport)
        self._encrypted.pop(transport, None)
        self._encrypted_share.discard(transport)
        self._forget_large(transport)

    def _forget_large(self, transport: Any) -> None:
        self._large_bytes -= self._large.pop(transport, 0)

    def _close_one_beyond_limit(self) -> None:
        if len(self) > self.sockets:  # then some are not logged in: the spare ones
            self._close(self._anonymous_share.get_oldest_of_most())

    def _close(self, transport: Any) -> None:
        self._forget_anonymous(transport)
        self.on_replaced(transport)
        close_now(transport)


class FairShare:
    """Sockets, each under a key, in the order in which they were added.

    At a limit the key that has the most of them gives one up.
    Every method takes constant time, whatever the number of keys.
    """

    def __init__(self) -> None:
        self.most = 0
        """How many sockets the key with the most has."""
        self._keys: dict[Any, str] = {}
        self._sockets: dict[str, OrderedDict[Any, None]] = {}
        self._keys_with: dict[int, OrderedDict[str, None]] = {}

    def count(self, key: str) -> int:
        """Return how many sockets a key has."""
        return len(self._sockets.get(key, ()))

    def add(self, key: str, socket: Any) -> None:
        """Add a socket that is not contained, as the newest of its key."""
        self._keys[socket] = key
        sockets = self._sockets.setdefault(key, OrderedDict())
        sockets[socket] = None
        self._move(key, len(sockets) - 1, len(sockets))

    def discard(self, socket: Any) -> None:
        """Remove a socket; harmless if it is not contained."""
        if socket in self._keys:
            key = self._keys.pop(socket)
            sockets = self._sockets[key]
            del sockets[socket]
            if not sockets:
                del self._sockets[key]
            self._move(key, len(sockets) + 1, len(sockets))

    def get_oldest_of_most(self) -> Any:
        """Return the oldest socket of the key with the most; of several, the first to have so many.

        Raises:
            KeyError: there are no sockets.
        """
        key = next(iter(self._keys_with[self.most]))
        return next(iter(self._sockets[key]))

    def _move(self, key: str, before: int, after: int) -> None:
        if before:
            keys = self._keys_with[before]
            del keys[key]
            if not keys:
                del self._keys_with[before]
        if after:
            self._keys_with.setdefault(after, OrderedDict())[key] = None
        if after > self.most or self.most not in self._keys_with:
            self.most = after


def spare_sockets(sockets: int) -> int:
    """Return how many of these sockets logged-in clients cannot take."""
    return min(1 + sockets // 16, MAX_SPARE)


def unwrap(transport: Any) -> Any:
    """Return the transport of the socket itself, beneath TLS and the PROXY protocol."""
    while isinstance(transport, ProtocolWrapper):
        transport = transport.transport
    return transport


def close_now(transport: Any) -> None:
    """Close a connection and its file descriptor before this call returns.

    `abortConnection` closes the descriptor in the reactor's next iteration. Until then one read
    event of a listener accepts a hundred sockets and more (tcp.Port.numberAccepts).
    """
    transport = unwrap(transport)
    if isinstance(transport, Connection):
        transport.connectionLost(Failure(ConnectionAborted()))
    else:
        transport.abortConnection()
