"""An Alpaca whose REST interface is hostile: its headers, its history and its orders."""

from __future__ import annotations

import gzip
import socket
from contextlib import suppress
from typing import Any

from twisted.internet import reactor as chosen
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread
from twisted.web.server import NOT_DONE_YET, Request

from tests.system.attacks.sending import DURATION, answer_endlessly
from tests.system.attacks.target import Attack, Target
from tradeproxy.simulator.faults import Fault, FaultKind

reactor: Any = chosen
ACCOUNT, HISTORY, ORDERS = b"/v2/account", b"/v2/events/trades", b"/v2/orders"

ENDLESS_HEADERS = answer_endlessly(b"HTTP/1.1 200 OK\r\n", b"x: y\r\n" * 40_000)
EMPTY_LINES = answer_endlessly(
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n", b"data:\n" * 100_000
)
BOMB_LINE = b'data: {"event":"new","order":{"id":"1"}}\n\n'


def send_gzip(request: Request) -> int:
    """Send 5 MB of events in some 15 KB of gzip."""
    request.setHeader(b"Content-Type", b"text/event-stream")
    request.setHeader(b"Content-Encoding", b"gzip")
    request.write(_BOMB)
    request.finish()
    return NOT_DONE_YET


_BOMB = gzip.compress(BOMB_LINE * 120_000)


def refuse(request: Request) -> bytes:
    """Refuse the history, so that the proxy reads the orders."""
    request.setResponseCode(403)
    return b'{"code":40310000,"message":"forbidden."}'


IDS = tuple(f"id-{number}" for number in range(20))


NAMES = b",".join(b'"%d":"%d of the values"' % (number, number) for number in range(190_000))


def send_large_order(request: Request) -> bytes:
    """Send an order of 7 MB with 190,000 different names, which took 65 MB once it was parsed."""
    request.setHeader(b"Content-Type", b"application/json")
    return b'{"id":"%b","status":"canceled","x":{%b}}' % (request.path.rpartition(b"/")[2], NAMES)


async def ask_by_id(target: Target) -> None:
    """Have the proxy ask for orders by their ids: they are open in its log and in no list."""
    await target.paper.when_listening()
    for name in IDS:
        order = {"id": name, "status": "new", "filled_qty": "0", "symbol": "SPY"}
        target.paper.emit_stamped({"event": "new", "order": order})
    await reconnect(target, 8.0)


async def reconnect(target: Target, seconds: float = DURATION) -> None:
    """Drop the stream: the proxy then asks for what it missed, and gets `seconds` for it."""
    await target.paper.when_listening()
    await deferLater(reactor, 0.3)  # the first identity of the account
    target.paper.inject(Fault(FaultKind.DROP))
    await deferLater(reactor, 1 + seconds)  # it reconnects within a second


async def ask_for_account(target: Target) -> None:
    """Ask as a client, through PROXY_REST."""

    def ask() -> None:
        with socket.create_connection(("127.0.0.1", target.port), timeout=DURATION) as connection:
            connection.sendall(
                b"GET /paper/v2/account HTTP/1.1\r\nHost: localhost\r\n"
                b"Apca-Api-Key-Id: k\r\nApca-Api-Secret-Key: s\r\nConnection: close\r\n\r\n"
            )
            connection.recv(65536)

    with suppress(OSError):
        await deferToThread(ask)


ATTACKS = (
    Attack("rest: endless headers, account", reconnect, {ACCOUNT: ENDLESS_HEADERS}),
    Attack("rest: endless headers, history", reconnect, {HISTORY: ENDLESS_HEADERS}),
    Attack(
        "rest: endless headers, PROXY_REST",
        ask_for_account,
        {ACCOUNT: ENDLESS_HEADERS},
        {"PROXY_REST": "1", "PROXY_TOKENS": ""},
    ),
    Attack("rest: empty data lines, history", reconnect, {HISTORY: EMPTY_LINES}),
    Attack("rest: gzip, history", reconnect, {HISTORY: send_gzip}),
    Attack(
        "rest: large orders by id",
        ask_by_id,
        {HISTORY: refuse} | {f"/v2/orders/{name}".encode(): send_large_order for name in IDS},
    ),
)
