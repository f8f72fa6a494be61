"""Strangers: clients without a token that hold what they can."""

from __future__ import annotations

import socket
from itertools import count, repeat

from tests.system.attacks.sending import (
    PING,
    attack_in_threads,
    build_frame,
    open_websocket,
    send_for_a_while,
)
from tests.system.attacks.target import Attack, Target

CONNECTIONS = 10


async def _send_endless_head(target: Target) -> None:
    """Send a request whose headers never end."""

    def attack(port: int) -> None:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\n")
            send_for_a_while(connection, (b"X-%d: y\r\n" % number for number in count()))

    await attack_in_threads(target, CONNECTIONS, attack)


async def _ping_before_login(target: Target) -> None:
    """Send pings on a WebSocket that never logs in."""

    def attack(port: int) -> None:
        with open_websocket(port, authenticate=False) as connection:
            send_for_a_while(connection, repeat(build_frame(PING, bytes(125)) * 500))

    await attack_in_threads(target, CONNECTIONS, attack)


async def _send_expensive_queries(target: Target) -> None:
    """Send queries at the limit of a request's head."""
    times = b"since=" + b":" * 7900 + b"+" * 7900
    request = b"GET /paper/v2/events/trades?%s HTTP/1.1\r\nHost: localhost\r\n\r\n" % times

    def attack(port: int) -> None:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            send_for_a_while(connection, repeat(request, 300))

    await attack_in_threads(target, CONNECTIONS, attack)


ATTACKS = (
    Attack("strangers: endless request head", _send_endless_head),
    Attack("strangers: pings before the login", _ping_before_login),
    Attack("strangers: expensive queries", _send_expensive_queries),
)
