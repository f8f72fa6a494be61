"""The relay with pyOpenSSL alone: for each client send(), bio_read() and the socket's send().

python pyopenssl_relay.py PORT UPSTREAM_PORT

TLS_KEY and TLS_CERTIFICATE are two PEM files. It marks what a TLS client costs in Python, in time
and in memory, without a WebSocket library and a reactor around it. A client that does not read is
waited for.
"""

from __future__ import annotations

import base64
import hashlib
import os
import select
import socket
import sys
from typing import TYPE_CHECKING

from OpenSSL import SSL
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.http11 import Response
from websockets.uri import parse_uri

if TYPE_CHECKING:
    from collections.abc import Iterator

LOGIN = b'{"action":"auth","key":"any","secret":"any"}'
LISTEN = b'{"action":"listen","data":{"streams":["trade_updates"]}}'
AUTHENTICATED = b'[{"T":"success","msg":"authenticated"}]'
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
READ = 2**15


def frame(text: bytes) -> bytes:
    """Return a text frame of a server."""
    return Frame(Opcode.TEXT, text).serialize(mask=False)


class Client:
    """A client: its socket, and its TLS over two buffers in memory, as in Twisted."""

    __slots__ = ("connection", "is_upgraded", "socket")

    def __init__(self, accepted: socket.socket, context: SSL.Context) -> None:
        accepted.setblocking(False)
        accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket = accepted
        self.connection = SSL.Connection(context, None)
        self.connection.set_accept_state()
        self.is_upgraded = False

    def send(self, data: bytes) -> None:
        """Encrypt and send."""
        self.connection.send(data)
        self._flush()

    def receive(self) -> bytes | None:
        """Return what one read of the socket brought, decrypted; None at its end."""
        received = self.socket.recv(READ)
        if not received:
            return None
        self.connection.bio_write(received)
        try:
            return self.connection.recv(READ)  # also does the handshake
        except SSL.WantReadError:
            return b""
        except SSL.Error:
            return None
        finally:
            self._flush()

    def _flush(self) -> None:
        try:
            ciphertext = self.connection.bio_read(READ)
        except SSL.WantReadError:
            return
        while ciphertext:
            try:
                ciphertext = ciphertext[self.socket.send(ciphertext) :]
            except BlockingIOError:
                select.select([], [self.socket], [])

    def serve(self, received: bytes) -> bool:
        """Answer the handshake, or else the login, and return whether it was the login.

        Each comes in one read, as over loopback.
        """
        if self.is_upgraded:
            self.send(frame(AUTHENTICATED))
            return True
        self.is_upgraded = True
        key = received.partition(b"Sec-WebSocket-Key: ")[2].split(b"\r\n")[0]
        accept = base64.b64encode(hashlib.sha1(key + GUID).digest())  # noqa: S324  # RFC 6455
        self.send(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: %b\r\n\r\n" % accept
        )
        return False


class Upstream:
    """The upstream. It blocks until it is logged in."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self._websocket = ClientProtocol(parse_uri(f"ws://127.0.0.1:{port}/stream"), max_size=None)
        self._websocket.send_request(self._websocket.connect())
        self._flush()
        for request in (LOGIN, LISTEN):
            while not list(self.events()):
                pass
            self._websocket.send_text(request)
            self._flush()
        while not list(self.events()):
            pass

    def events(self) -> Iterator[bytes]:
        """Yield what one read brought: an event each, and an empty one for the handshake."""
        received = self.socket.recv(2**18)
        if not received:
            sys.exit()
        self._websocket.receive_data(received)
        for event in self._websocket.events_received():
            if isinstance(event, Response):
                yield b""
            elif isinstance(event, Frame) and event.opcode in (Opcode.TEXT, Opcode.BINARY):
                yield bytes(event.data)

    def _flush(self) -> None:
        for data in self._websocket.data_to_send():
            self.socket.sendall(data)


def make_context() -> SSL.Context:
    """Return the server's context: what TLS needs least memory for."""
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.use_certificate_file(os.environ["TLS_CERTIFICATE"])
    context.use_privatekey_file(os.environ["TLS_KEY"])
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)
    context.set_options(SSL.OP_NO_TICKET)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    return context


def main(port: int, upstream_port: int) -> None:
    """Serve until the upstream ends."""
    context = make_context()
    listener = socket.create_server(("127.0.0.1", port), backlog=4096)
    listener.setblocking(False)
    upstream = Upstream(upstream_port)
    poll = select.epoll()
    for readable in (listener, upstream.socket):
        poll.register(readable, select.EPOLLIN)
    clients: dict[int, Client] = {}
    logged_in: dict[int, Client] = {}
    while True:
        for number, _ in poll.poll():
            if number == listener.fileno():
                client = Client(listener.accept()[0], context)
                clients[client.socket.fileno()] = client
                poll.register(client.socket, select.EPOLLIN)
            elif number == upstream.socket.fileno():
                for event in upstream.events():
                    data = frame(event)
                    for client in logged_in.values():
                        client.send(data)
            else:
                received = clients[number].receive()
                if received is None:
                    poll.unregister(number)
                    clients.pop(number).socket.close()
                    logged_in.pop(number, None)
                elif received and clients[number].serve(received):
                    logged_in[number] = clients[number]


main(int(sys.argv[1]), int(sys.argv[2]))
