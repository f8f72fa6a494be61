"""Clients with a token that send many small things: fragments, frames, pings and requests."""

from __future__ import annotations

import socket
from functools import partial
from itertools import repeat

from tests.system.attacks.sending import (
    CONTINUATION,
    PING,
    TEXT,
    attack_in_threads,
    build_frame,
    open_websocket,
    send_for_a_while,
    send_repeatedly,
)
from tests.system.attacks.target import TOKEN, Attack, Target

CONNECTIONS = 10


def send_empty_fragments(port: int) -> None:
    """Send one message of empty fragments: no byte counts for PROXY_MAX_MESSAGE."""
    with open_websocket(port) as connection:
        connection.sendall(build_frame(TEXT, fin=False))
        send_for_a_while(connection, repeat(build_frame(CONTINUATION, fin=False) * 10_000))


def send_pipelined_requests(port: int) -> None:
    """Send requests for /metrics, without waiting for the answers."""
    request = f"HEAD /metrics HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        send_for_a_while(connection, repeat(request.encode() * 100))


async def _perform(target: Target, *, count: int, chunk: bytes) -> None:
    await attack_in_threads(target, count, send_repeatedly(chunk))


async def _send_fragments(target: Target) -> None:
    await attack_in_threads(target, CONNECTIONS, send_empty_fragments)


async def _send_requests(target: Target) -> None:
    await attack_in_threads(target, CONNECTIONS, send_pipelined_requests)


async def _leave_pongs_unread(target: Target) -> None:
    """Send pings of the largest size, and never read the pongs."""
    ping = build_frame(PING, bytes(125)) * 500

    def attack(port: int) -> None:
        with open_websocket(port) as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            send_for_a_while(connection, repeat(ping))

    await attack_in_threads(target, CONNECTIONS, attack)


ATTACKS = (
    Attack("clients: empty fragments", _send_fragments),
    Attack(
        "clients: tiny messages",
        partial(_perform, count=CONNECTIONS, chunk=build_frame(TEXT, b"1") * 1000),
    ),
    Attack(
        "clients: empty pings",
        partial(_perform, count=CONNECTIONS, chunk=build_frame(PING) * 1000),
    ),
    Attack("clients: pongs unread", _leave_pongs_unread),
    Attack("clients: pipelined HEAD /metrics", _send_requests),
)
