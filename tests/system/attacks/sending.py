"""How attackers send: raw frames, blocking sockets in threads, and raw answers of an Alpaca."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterable
from contextlib import suppress
from itertools import repeat
from time import monotonic
from typing import Any

from twisted.internet import reactor as chosen
from twisted.internet.defer import gatherResults
from twisted.internet.threads import deferToThread
from twisted.web.server import NOT_DONE_YET, Request

from tests.system.attacks.target import TOKEN, Target
from tradeproxy.downstream.autobahn_slim import compute_accept

reactor: Any = chosen

DURATION = 1.5
"""Seconds for which an attacker sends."""

TEXT, CONTINUATION, PING = 0x1, 0x0, 0x9


def build_frame(
    opcode: int, payload: bytes = b"", *, fin: bool = True, masked: bool = True
) -> bytes:
    """Return a WebSocket frame with at most 125 bytes. The mask is zero."""
    head = bytes([opcode | fin << 7, len(payload) | masked << 7])
    return head + bytes(4 * masked) + payload


AUTH = json.dumps({"action": "auth", "key": "k", "secret": TOKEN}).encode()


def open_websocket(port: int, *, authenticate: bool = True) -> socket.socket:
    """Return a blocking WebSocket of the account `paper`."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=10)
    connection.sendall(
        b"GET /trade-updates-paper HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
        b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )
    connection.recv(65536)
    if authenticate:
        connection.sendall(build_frame(TEXT, AUTH))
        connection.recv(65536)
    return connection


def send_for_a_while(connection: socket.socket, chunks: Iterable[bytes]) -> None:
    """Send chunks for DURATION seconds. Raises OSError once the proxy has closed."""
    end = monotonic() + DURATION
    connection.settimeout(0.2)
    for chunk in chunks:
        rest = memoryview(chunk)
        while rest:
            if monotonic() > end:
                return
            with suppress(TimeoutError):  # the proxy does not read
                rest = rest[connection.send(rest) :]


async def attack_in_threads(target: Target, count: int, attack: Callable[[int], None]) -> None:
    """Run an attack in several threads; it gets the port."""

    def perform() -> None:
        with suppress(OSError):
            attack(target.port)

    await gatherResults([deferToThread(perform) for _ in range(count)])


def send_repeatedly(chunk: bytes) -> Callable[[int], None]:
    """Return an attack that sends a chunk over and over on a WebSocket."""

    def attack(port: int) -> None:
        with open_websocket(port) as connection:
            send_for_a_while(connection, repeat(chunk))

    return attack


def answer_endlessly(head: bytes, chunk: bytes) -> Callable[[Request], int]:
    """Return a hook that writes `head`, then `chunk` for DURATION seconds, as raw bytes."""

    def answer(request: Request) -> int:
        transport: Any = request.channel.transport
        end = reactor.seconds() + DURATION
        lost: list[object] = []
        request.notifyFinish().addErrback(lost.append)
        transport.write(head)

        def go_on() -> None:
            if lost or reactor.seconds() > end:
                transport.abortConnection()
                return
            transport.write(chunk)
            # A short delay: the sane Alpaca shares this reactor.
            reactor.callLater(0.002, go_on)

        go_on()
        return NOT_DONE_YET

    return answer


def accept_websocket(request: Request) -> bytes:
    """Return the bytes that accept an upgrade."""
    key = request.getHeader(b"sec-websocket-key") or b""
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + compute_accept(key) + b"\r\n\r\n"
    )


def flood_websocket(chunk: bytes) -> Callable[[Request], int]:
    """Return a hook that accepts an upgrade, then writes frames and reads none."""

    def answer(request: Request) -> int:
        return answer_endlessly(accept_websocket(request), chunk)(request)

    return answer
