"""The clients in Python; Alpaca's own SDKs come first."""

from __future__ import annotations

from typing import Any

from tests.system.interop.clients import Column, InteropClient, Runtime


def python(name: str, driver: str, *packages: str, **more: Any) -> InteropClient:
    """Return a client whose driver uses printing.py."""
    return InteropClient(name, Runtime.PYTHON, driver, packages, files=("printing.py",), **more)


FIXED = {Column.RESUMES: "it reconnects to its first URL"}
APPENDED = {Column.RESUMES: "it appends /stream/ to the URL, so a query is impossible"}
NO_IDS = {Column.RESUMES: "it does not report the ids of events"}

ORDERS = (
    "it reports current orders instead of events; a multi-leg order, whose symbol is empty, stops"
    " it (TypeError in its handle_order, 'orders:' + None), so none was sent"
)

OLD_ALPACA_PY = python(
    "alpaca-py 0.43.5", "alpaca_py.py", "alpaca-py==0.43.5", not_applicable=FIXED
)
WEBSOCKETS = python("websockets 17.4", "websockets_client.py", "websockets==17.4", resumes=True)

CLIENTS = (
    python("alpaca-py 0.44.0", "alpaca_py.py", "alpaca-py==0.44.0", not_applicable=FIXED),
    OLD_ALPACA_PY,
    python(
        "alpaca-trade-api 3.2.0",
        "alpaca_trade_api_stream.py",
        "alpaca-trade-api==3.2.0",
        not_applicable=APPENDED,
    ),
    python(
        "ccxt pro 4.5.90",
        "ccxt_pro.py",
        "ccxt==4.5.90",
        orders_only=True,
        fails_on_multi_leg=True,
        not_applicable=NO_IDS,
        remarks={Column.ALL_EVENTS: ORDERS},
    ),
    python("lumibot 4.6.30", "lumibot_broker.py", "lumibot==4.6.30", not_applicable=FIXED),
    WEBSOCKETS,
    python(
        "websocket-client 1.9.2", "websocket_client.py", "websocket-client==1.9.2", resumes=True
    ),
    python("aiohttp 3.14.5", "aiohttp_client.py", "aiohttp==3.14.5", resumes=True),
    python("picows 2.3.1", "picows_client.py", "picows==2.3.1", resumes=True),
    python("Twisted 26.10.0", "twisted_web.py", "twisted[websocket]==26.10.0", resumes=True),
    python(
        "httpx-sse 0.4.3", "httpx_sse_client.py", "httpx-sse==0.4.3", "httpx==0.28.1", resumes=True
    ),
    python(
        "alpaca-backtrader-api 0.15.0",
        "",
        skipped="its stream and its orders share one base URL, which is a constant in its code",
        driver_has_snippet=False,
    ),
)
