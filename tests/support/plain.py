"""Clients over plain TCP in fake time: Twisted's transport on sockets with limited room."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import Any, cast

from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import Clock
from twisted.internet.tcp import Server
from twisted.python.failure import Failure

from tests.support.frames import AUTH, AUTHENTICATED
from tests.support.memory import CLIENT, SERVER

TEXT, CLOSE, PING, PONG = 1, 8, 9, 10

TURN = 2.0**-10
"""Seconds of one reactor turn."""

MAX_TURNS = 1000

HANDSHAKE = b"""\
GET %b HTTP/1.1\r
Host: localhost:8099\r
Upgrade: websocket\r
Connection: Upgrade\r
Sec-WebSocket-Version: 13\r
Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r
\r
"""


class Kernel(Clock):
    """The part of a reactor that Twisted's transport uses."""

    def __init__(self) -> None:
        super().__init__()
        self.advance(1_800_000_000)
        self._readers: dict[Server, None] = {}
        self._writers: dict[Server, None] = {}

    def callLater(
        self,
        delay: float,
        callable: Callable[..., object],  # noqa: A002  # Twisted's name
        *args: object,
        **kw: object,
    ) -> IDelayedCall:
        """Schedule a call for the next turn at the earliest, as reactors do and Clock does not.

        Reactors refuse a negative delay, too.
        """
        assert delay >= 0, delay
        return super().callLater(max(delay, TURN), callable, *args, **kw)

    def addReader(self, transport: Server) -> None:
        self._readers[transport] = None

    def removeReader(self, transport: Server) -> None:
        self._readers.pop(transport, None)

    def addWriter(self, transport: Server) -> None:
        self._writers[transport] = None

    def removeWriter(self, transport: Server) -> None:
        self._writers.pop(transport, None)

    def turn(self, times: int = 1) -> None:
        """Run due calls, then reads, then writes, as one turn of a reactor does."""
        for _ in range(times):
            self.advance(TURN)
            for transport in self._readable():
                if transport in self._readers:
                    self._check(transport, transport.doRead())
            for transport in self._writable():
                if transport in self._writers:
                    self._check(transport, transport.doWrite())

    def settle(self) -> None:
        """Run turns until nothing is due."""
        for _ in range(MAX_TURNS):
            is_due = any(call.getTime() <= self.seconds() + TURN for call in self.getDelayedCalls())
            if not (is_due or self._readable() or self._writable()):
                return
            self.turn()
        raise AssertionError(f"still busy after {MAX_TURNS} turns")

    def _readable(self) -> list[Server]:
        return [transport for transport in self._readers if _socket(transport).is_readable]

    def _writable(self) -> list[Server]:
        return [transport for transport in self._writers if _socket(transport).is_writable]

    def _check(self, transport: Server, reason: Any) -> None:
        if reason is not None:
            self.removeReader(transport)
            self.removeWriter(transport)
            transport.connectionLost(Failure(reason))


class Socket:
    """The proxy's socket of a connection: the part that Twisted's transport uses."""

    def __init__(self, peer: Peer) -> None:
        self.room: int | None = None
        """How many more bytes it takes; None: no limit."""
        self.is_reset = False
        self.is_closed = False
        self.unread = b""
        self._peer = peer

    @property
    def is_readable(self) -> bool:
        return bool(self.unread) or self.is_reset

    @property
    def is_writable(self) -> bool:
        return self.room != 0 or self.is_reset

    def send(self, data: bytes) -> int:
        if self.is_closed:
            raise OSError(errno.EBADF, "closed")
        if self.is_reset:
            raise ConnectionResetError(errno.ECONNRESET, "reset")
        taken = data if self.room is None else data[: self.room]
        if not taken:
            raise BlockingIOError(errno.EWOULDBLOCK, "full")
        if self.room is not None:
            self.room -= len(taken)
        self._peer.receive(bytes(taken))
        return len(taken)

    def recv(self, size: int) -> bytes:
        if self.is_reset:
            raise ConnectionResetError(errno.ECONNRESET, "reset")
        data, self.unread = self.unread[:size], self.unread[size:]
        return data

    def close(self) -> None:
        self.is_closed = True

    def fileno(self) -> int:
        return id(self)

    def getsockname(self) -> tuple[str, int]:
        return SERVER.host, SERVER.port

    def setblocking(self, flag: bool) -> None: ...

    def setsockopt(self, *option: Any) -> None: ...

    def shutdown(self, how: int) -> None: ...


class Peer:
    """A WebSocket client that records what it receives, and raises on a framing error."""

    def __init__(self, kernel: Kernel, site: Any, path: str = "/trade-updates-paper") -> None:
        self.texts: list[bytes] = []
        self.pings = 0
        self.pongs: list[bytes] = []
        self.closed: int | None = None
        """The code of the received close frame; nothing may follow it."""
        self.socket = Socket(self)
        self._kernel = kernel
        self._is_open = False
        self._unparsed = b""
        protocol = site.buildProtocol(CLIENT)
        fakes: Any = (self.socket, kernel)  # the parts of them that Server uses
        address, port = (CLIENT.host, CLIENT.port), cast(Any, None)
        self.transport = Server(fakes[0], protocol, address, port, 0, fakes[1])
        protocol.makeConnection(self.transport)
        self.socket.unread += HANDSHAKE % path.encode()
        kernel.turn(2)
        assert self._is_open, self._unparsed

    def subscribe(self) -> Peer:
        """Authenticate: events follow."""
        self.say(AUTH)
        self._kernel.turn(2)
        assert self.texts.pop(0) == AUTHENTICATED
        return self

    def say(self, text: bytes, opcode: int = TEXT) -> None:
        """Send one frame; the proxy reads it in the next turn."""
        assert len(text) < 126, "longer frames are not supported"
        self.socket.unread += bytes([0x80 | opcode, 0x80 | len(text), 0, 0, 0, 0]) + text

    @property
    def is_gone(self) -> bool:
        """Whether the proxy closed the socket."""
        return self.socket.is_closed

    def taken(self) -> list[bytes]:
        """Return the texts since the last call."""
        taken, self.texts = self.texts, []
        return taken

    # Called by its socket.

    def receive(self, data: bytes) -> None:
        """Parse the next bytes."""
        self._unparsed += data
        if not self._is_open:
            head, end, rest = self._unparsed.partition(b"\r\n\r\n")
            if end:
                assert head.startswith(b"HTTP/1.1 101 "), head
                self._is_open, self._unparsed = True, rest
        while self._is_open and (frame := self._next_frame()) is not None:
            self._take(*frame)

    def _next_frame(self) -> tuple[int, bytes] | None:
        data = self._unparsed
        if len(data) < 2:
            return None
        begin = 2 + {126: 2, 127: 8}.get(data[1], 0)
        size = data[1] if begin == 2 else int.from_bytes(data[2:begin])
        if len(data) < begin or len(data) < begin + size:
            return None
        assert data[0] & 0xF0 == 0x80, "every message is one frame, without extensions"
        self._unparsed = data[begin + size :]
        return data[0] & 0x0F, data[begin : begin + size]

    def _take(self, opcode: int, payload: bytes) -> None:
        assert self.closed is None, "nothing follows a close frame"
        match opcode:
            case 1:
                self.texts.append(payload)
            case 8:
                self.closed = int.from_bytes(payload[:2])
            case 9:
                self.pings += 1
            case 10:
                self.pongs.append(payload)
            case _:
                raise AssertionError(f"opcode {opcode}")


def _socket(transport: Server) -> Any:
    return transport.socket
