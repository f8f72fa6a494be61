"""An Alpaca whose stream is hostile: its handshake, its frames, and what it sends unasked."""

from __future__ import annotations

from functools import partial

from twisted.internet import reactor as chosen
from twisted.internet.task import deferLater

from tests.system.attacks.sending import (
    CONTINUATION,
    DURATION,
    PING,
    TEXT,
    answer_endlessly,
    build_frame,
    flood_websocket,
)
from tests.system.attacks.target import Attack, Target

_frame = partial(build_frame, masked=False)

EVENT = b'{"stream":"trade_updates","data":{"event":"new","order":{"id":"1"}}}'
HEADER_LINES = b"x: y\r\n" * 40_000


async def wait(_: Target) -> None:
    """Wait: the proxy connects by itself, again and again."""
    await deferLater(chosen, DURATION)


ATTACKS = tuple(
    Attack(f"stream: {name}", wait, {b"/stream": hook})
    for name, hook in (
        (
            "endless headers of the handshake",
            answer_endlessly(b"HTTP/1.1 101 Switching Protocols\r\n", HEADER_LINES),
        ),
        ("pings, pongs unread", flood_websocket(_frame(PING, bytes(125)) * 1000)),
        ("empty fragments", flood_websocket(_frame(CONTINUATION, fin=False) * 50_000)),
        ("events before the login", flood_websocket(_frame(TEXT, EVENT) * 1000)),
    )
)
